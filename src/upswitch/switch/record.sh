#!/bin/sh
# Keeps what a run's report shows, which is on stdin. $1: the state folder. $2: the run's name. $3: how many runs are kept.
# A run's name begins with its time, so the oldest come first. Nothing is synced: nothing is decided by it.
umask 077
mkdir -p "$1/runs" && cd "$1/runs" || exit "$NO_STATE"
if ! cat > ".$2.new" || ! mv -f -- ".$2.new" "$2.json"; then
  rm -f -- ".$2.new"
  exit "$NOT_DONE"
fi
set -- "$3" ./*.json
most=$1
shift
while [ $# -gt "$most" ]; do
  rm -f -- "$1"
  shift
done
exit 0
