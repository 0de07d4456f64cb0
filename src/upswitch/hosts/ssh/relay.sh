#!/bin/sh
# Connects stdin and stdout to a unix socket, by perl or by python3. $1: the socket. $2: relay.pl. $3: the same for python3.
command -v perl >/dev/null && exec perl -e "$2" -- "$1"
command -v python3 >/dev/null && exec python3 -c "$3" "$1"
echo no relay here: neither perl nor python3 >&2
