#!/bin/sh
# Reads frames from stdin and runs what they hold (shell.py explains them).
# $1: the lease in seconds, 0 for none. $2: a word that says, printed at the end, that no further command is run.
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
lease=$1 over=$2
# `next` reads a header into h. With a lease, bash does it without starting a process.
# Descriptor 9 is the lock (lock.sh). Only a command that runs for its holder may inherit it, so every other process closes it.
# shellcheck disable=SC3045 # only bash gets to `read -t`
if [ "$lease" = 0 ]; then next() { IFS= read -r h; }
elif [ -n "$BASH_VERSION" ]; then next() { IFS= read -r -t "$lease" h; }
else next() { h=$(timeout "$lease" dd bs=64 count=1 iflag=fullblock status=none 9<&-); }; fi
# `bytes` takes so many and no more: busybox's head reads further.
bytes() { dd bs=65536 iflag=fullblock,count_bytes count="$1" status=none 9<&-; }
# lock.sh replaces these two.
guard() { :; }
beat() { :; }
run() { timeout -s KILL "$time" "$@"; }
feed() {
  if [ "$size" = 0 ]; then eval "$text" </dev/null; return; fi
  bytes "$size" | { eval "$text"; r=$?; cat >/dev/null 9<&-; return $r; }
}
while next && [ -n "$h" ]; do
  # shellcheck disable=SC2086 # a header is words
  set -- $h
  kind=$1 nonce=$2 time=$3 size=$5
  if guard; then beat "${time%.*}"; elif [ "$kind" = B ]; then break; fi
  [ "$kind" != B ] || continue
  text=$(bytes "$4")
  case $text in *"#$nonce") ;; *) break ;; esac
  code=0
  case $kind in
  R) guard || text="(exit $FENCED)"; feed; code=$?; guard && beat 0 ;;
  E) eval "$text"; code=$? ;;
  esac
  printf '%s\n' "$nonce" >&2
  printf '%s %03d\n' "$nonce" "$code"
done
printf %s "$over"
