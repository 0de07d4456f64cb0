#!/bin/sh
# Prints a file's inode and size in one line, then bytes of it. $1: path. $2: offset. $3: how many bytes.
# The name is checked before it is opened, as opening a FIFO waits for a writer. From then on all is of one file.
s=$(stat -L -c '%f' -- "$1" 2>&1) || {
  case $s in *': No such file or directory') exit "$NOT_THERE" ;; esac
  echo "$s" >&2
  exit 1
}
[ -f "$1" ] || exit "$NOT_REGULAR"
{
  s=$(stat -L -c '%i %s' /dev/fd/3) || exit
  echo "$s"
  [ "$2" -ge "${s#* }" ] || [ "$3" = 0 ] || dd bs=65536 iflag=fullblock,skip_bytes,count_bytes skip="$2" count="$3" status=none <&3
} 3<"$1"
