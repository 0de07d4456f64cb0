# The end of every counting program: it sends a line whole, and at the end what was counted.
room && (whole += size) > room { left++; next }
{ print "\t" line }
END {
  print ""
  for (k in good) print good[k] "\t" k
  for (k in bad) print "+" bad[k] "\t" k
  print bytes + 0 (left ? " " left : "") > "/dev/stderr"
}
