# The beginning of every counting program: it drops a line that is not whole (variables: count_program.py).
BEGIN { FS = "\"" }
{ size = length($0); bytes += size + 1 }
bytes > n { bytes -= size + 1; exit }
torn { torn = 0; next }
