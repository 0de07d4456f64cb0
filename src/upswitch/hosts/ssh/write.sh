#!/bin/sh
# Replaces a whole file, atomically. $1: path. $2: a temporary name in its folder. $3: mode. $4: how many bytes come on stdin.
umask 077
trap 'rm -f -- "$2"' EXIT
rm -f -- "$2"
# excl: a link that somebody planted there is not followed.
dd of="$2" bs=65536 iflag=fullblock conv=excl status=none || exit
[ "$(stat -c %s -- "$2")" = "$4" ] || { echo 'x: the stream was cut off' >&2; exit 1; }
if [ -e "$1" ]; then chown --reference="$1" -- "$2" && chmod --reference="$1" -- "$2"; else chmod "$3" -- "$2"; fi || exit
sync -- "$2" && mv -fT -- "$2" "$1" && sync -- "${1%/*}/."
