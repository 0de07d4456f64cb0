#!/bin/sh
# Counts a span of a log. $1: path. $2: offset. $3: bytes. $4: bytes of lines that may be sent whole. $5: the awk program.
LC_ALL=C; export LC_ALL
tail -c "+$(($2 + 1))" -- "$1" | head -c "$3" | awk -v n="$3" -v torn="$(($2 > 0))" -v most=0 -v room="$4" "$5"
