#!/bin/sh
# Takes the lock. It runs in the waiting shell itself (shell.sh), which keeps the lock as its descriptor 9.
# $1: the state folder. $2: the owner, for people. $3: the epoch that must still be ours, "" for a new one. $4: seconds to wait.
state=$1
guard() { read -r now < "$state/epoch" && [ "$now" = "$epoch" ]; } 2>/dev/null
beat() {
  read -r up rest < /proc/uptime
  printf '%-10s\n' "$((${up%%.*} + 10 + $1))" 1<>"$state/lease"
} 2>/dev/null
number() {
  n=0
  [ ! -s "$state/epoch" ] || read -r n < "$state/epoch"
  case $n in '' | *[!0-9]*) n=0 ;; esac
  echo "$n"
}
is_fenced() { [ -n "$1" ] && [ "$1" != "$(number)" ] && cat "$state/lock"; }
count_up() {
  epoch=$(($(number) + 1))
  printf '%-10s\n' "$epoch" 1<>"$state/epoch" && sync "$state/epoch"
}
take() {
  umask 077
  [ ! -L "$state/lock" ] || { echo 'x: Too many levels of symbolic links' >&2; return 1; }
  for each in lock lease epoch; do # to open a FIFO would wait
    [ ! -e "$state/$each" ] || [ -f "$state/$each" ] || { echo "x: $each is no regular file" >&2; return 1; }
  done
  touch -- "$state/lock" && command exec 9>>"$state/lock" || return 1
  is_fenced "$2" && return "$FENCED"
  if [ "$3" = 0 ]; then flock -n 9; else flock -w "$3" 9; fi
  case $? in
    0) ;;
    1) cat "$state/lock"; exec 9>&-; return "$HELD" ;;
    *) exec 9>&-; return 1 ;;
  esac
  if is_fenced "$2"; then exec 9>&-; return "$FENCED"; fi
  epoch=$2
  [ -n "$2" ] || count_up || { exec 9>&-; return 1; }
  { printf '%s\n' "$1" > "$state/lock"; } 2>/dev/null
  beat 0
  echo "$epoch"
}
take "$2" "$3" "$4"
