#!/bin/sh
# Prints the whole journal and reserves room behind its end. Exits with NOT_THERE where there is no journal.
# $1: the journal's path. $2: bytes to reserve. $3: "make" to create a journal that is not there.
umask 077
[ -e "$1" ] || [ -L "$1" ] || { [ "$3" = make ] && : >> "$1"; } || exit "$NOT_THERE"
# A FIFO in the journal's place must not block us.
if [ -L "$1" ] || [ ! -f "$1" ]; then echo 'it is no regular file' >&2; exit "$NOT_REGULAR"; fi
# -n keeps the file's length. A file system that can't reserve says so, and then nothing is reserved.
fallocate -n -o "$(stat -c %s -- "$1")" -l "$2" -- "$1" 2>/dev/null
exec cat -- "$1"
