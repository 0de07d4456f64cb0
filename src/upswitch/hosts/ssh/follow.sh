#!/bin/sh
# Follows a log: about five times a second it sends what came (follower.py explains the frames).
# $1: the log. $2: a word that no line holds. $3: the awk program. $4: how many lines awk may send whole at a time.
# More: "again", and INODE:OFFSET of each file to go on with.
# A file is opened again as /proc/self/fd/N, which needs no name and has a place of its own. Each file has a slot, a descriptor
# from 3 to 7; its state is in variables that end with the slot's number.
set -u
LC_ALL=C; export LC_ALL
path=$1 nonce=$2 program=$3 most=$4; shift 4
look=4194304 half=65536 is_open='' old='' inode=0
exec 8<&0 9>&1
{ while read -r _; do :; done; kill "$$"; } <&8 8<&- 9>&- >/dev/null 2>&1 &
ear=$!
exec 8<&- </dev/null
trap 'kill "$ear" 2>/dev/null' EXIT
trap 'exit 1' PIPE

say() { said=$now; printf '%s %s\n' "$nonce" "$*" >&9; }
fail() { say "! $*"; exit 1; }
clock() { read -r up _ </proc/uptime; now=$((${up%.*} * 100 + 1${up#*.} - 100)); }
first() { head -c "$2" "/proc/self/fd/$1" | cksum; }
fresh() { eval "off_$1=$2 seen_$1= len_$1=0 sum_$1= torn_$1=0 inode_$1=0 until_$1=$((now + 100))"; }

open_named() {
  if [ ! -e "$path" ]; then
    why=$(stat -L "$path" 2>&1 >/dev/null)
    case $why in '' | *'No such file'*) return 1 ;; *) fail "${why##*: }" ;; esac
  fi
  [ -f "$path" ] || fail "it is no regular file"
  [ -r "$path" ] || fail "Permission denied"
  command exec 3<"$path" || return 1
  is_open=1
  fresh 3 0
}

free_slot() { for slot in 4 5 6 7; do case " $old " in *" $slot "*) ;; *) return 0 ;; esac; done; return 1; }

follow_rename() {
  if [ "$is_open" ]; then
    # shellcheck disable=SC3013 # dash, bash and busybox have -ef
    if [ "$path" -ef /proc/self/fd/3 ] || [ ! -e "$path" ] || ! free_slot; then return; fi
    eval "exec $slot<&3"
    fresh "$slot" "$off_3"
    eval "len_$slot=\$len_3 sum_$slot=\$sum_3 torn_$slot=\$torn_3"
    old="$old $slot" is_open=
  fi
  open_named
}

to_end() {
  # shellcheck disable=SC2046 # two words
  set -- $(stat -L -c '%i %s' /proc/self/fd/3)
  inode_3=$1 off_3=$2
  if [ "$2" -gt 0 ] && [ "$(tail -c "+$2" /proc/self/fd/3 | head -c 1)" ]; then
    from=$(($2 > half ? $2 - half : 0))
    off_3=$(($2 - $(tail -c "+$((from + 1))" /proc/self/fd/3 | head -c "$(($2 - from))" | tail -n 1 | wc -c)))
  fi
  # shellcheck disable=SC2034 # `take` reads them
  len_3=$(($2 < 512 ? $2 : 512)) sum_3=$(first 3 "$(($2 < 512 ? $2 : 512))")
}

take_up() {
  inode=${1%%:*}
  if [ "$(stat -L -c %i "$path" 2>/dev/null)" = "$inode" ] && open_named; then
    off_3=${1#*:}
    return
  fi
  found=$(stat -c '%i %n' "${path%/*}"/* 2>/dev/null | while read -r each name; do
    if [ "$each" = "$inode" ] && [ -f "$name" ]; then printf %s "$name"; break; fi
  done)
  if [ "$found" ] && free_slot && eval "command exec $slot<\"\$found\""; then
    fresh "$slot" "${1#*:}"
    old="$old $slot"
  else
    say "? $inode"
  fi
}

take() {
  slot=$1 came=1
  eval "off=\$off_$slot seen=\$seen_$slot len=\$len_$slot sum=\$sum_$slot torn=\$torn_$slot"
  here=$(stat -L -c '%i %s %y' "/proc/self/fd/$slot" 2>&1) || fail "$here"
  # shellcheck disable=SC2154 # eval has just set seen
  [ "$here" != "$seen" ] || return 1
  # shellcheck disable=SC2086 # it is words
  set -- $here
  inode=$1 size=$2
  if [ "$size" -lt "$off" ] || { [ "$len" -gt 0 ] && [ "$(first "$slot" "$len")" != "$sum" ]; }; then off=0 len=0 torn=0; fi
  if [ "$len" -lt 512 ] && [ "$size" -gt "$len" ]; then
    len=$((size < 512 ? size : 512))
    sum=$(first "$slot" "$len")
  fi
  count=$((size - off))
  if [ "$count" -gt "$look" ]; then count=$look here='' more=1; fi
  [ "$count" = 0 ] || awk_over "$slot" "$count"
  eval "off_$slot=$off seen_$slot=\$here len_$slot=$len sum_$slot=\$sum torn_$slot=$torn inode_$slot=$inode"
  return "$came"
}

awk_over() {
  used=$({ tail -c "+$((off + 1))" "/proc/self/fd/$1" | head -c "$2" | awk -v n="$2" -v torn="$torn" -v most="$most" "$program"
    } 2>&1 >&9)
  case $used in '' | *[!0-9]*) fail "$used" ;; esac
  if [ "$used" -gt 0 ]; then
    came=0 torn=0
  elif [ "$torn" = 1 ] || [ "$2" -gt "$half" ]; then
    used=$2 torn=1
  fi
  off=$((off + used))
  say "= $inode $off"
}

leave() {
  for slot in $old; do
    mine=$slot
    if take "$mine" || [ -z "$is_open" ] || [ "$off_3" = 0 ]; then
      eval "until_$mine=$((now + 100))"
    elif eval "[ $now -ge \$until_$mine ]"; then
      eval "exec $mine<&-; say \"x \$inode_$mine\""
      left=
      for each in $old; do [ "$each" = "$mine" ] || left="$left $each"; done
      old=$left
    fi
  done
}

clock
if [ "$#" = 0 ]; then
  if open_named; then to_end; say "= $inode_3 $off_3"; fi
fi
for each in "$@"; do [ "$each" = again ] || take_up "$each"; done
say .
while :; do
  clock
  more=
  follow_rename
  leave
  if [ "$is_open" ]; then take 3; fi
  [ "$((now - said))" -lt 200 ] || say .
  [ "$more" ] || sleep 0.2
done
