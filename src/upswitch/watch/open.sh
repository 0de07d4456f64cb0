#!/bin/sh
# Counts open connections of nginx's network namespace to two sets of servers, and prints two numbers.
# $1: the pid of nginx's master. $2, $3: the servers of each set, as /proc/net has them (hang.py).
LC_ALL=C; export LC_ALL
cd "/proc/$1/net" || exit 1
for table in tcp tcp6 unix; do [ ! -r "$table" ] || set -- "$@" "$table"; done
new=$2 former=$3; shift 3
awk -v new="$new" -v former="$former" '
BEGIN { split(new, words, " "); for (i in words) of[words[i]] = 1; split(former, words, " "); for (i in words) of[words[i]] = 2 }
FILENAME == "unix" { if ($6 == "03" && $8 in of) open[of[$8]]++; next }
($4 == "01" || $4 == "02") && $3 in of { open[of[$3]]++ }
END { print open[1] + 0, open[2] + 0 }' "$@"
