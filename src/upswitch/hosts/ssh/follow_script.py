"""A log followed on another machine: the program that runs there, and the frames that it sends.

Theory. The program looks five times a second. What has come it gives to awk (farcount.py), and behind awk's rows it sends a line
that names the file's inode and the offset behind the last whole line: the frame. So we always know where to go on after a cut,
and rows without their frame are read again. Over a rename it keeps the old file open beside the new one until nothing has come
for 1 s, as the local follower does (hosts/local/follow.py says why); a truncation is seen by the size, or by the first 512 bytes.

A frame begins with a word that the host learns from us, so no client can write one. When we are slow, its writes wait, and the
lines with them. It ends when its input does, or when nobody takes its output any more.

POSIX sh, coreutils, awk and /proc (Linux). A file is opened again as /proc/self/fd/N, which needs no name and has a place of its
own.
"""

import re
from collections.abc import Mapping

from upswitch.basics.value import Value
from upswitch.hosts.count_program import CountProgram

MOST_WHOLE = 500
"""Lines of requests that did not go well that one look sends where lines are counted; 2,500 a second."""

BEAT_S = 2.0
"""Seconds; it says so often that it lives."""

_SCRIPT = r"""
set -u
LC_ALL=C; export LC_ALL
path=$1 nonce=$2 program=$3 most=$4; shift 4
look=4194304 half=65536 is_open= old= inode=0
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
    if [ "$path" -ef /proc/self/fd/3 ] || [ ! -e "$path" ] || ! free_slot; then return; fi
    eval "exec $slot<&3"
    fresh "$slot" "$off_3"
    eval "len_$slot=\$len_3 sum_$slot=\$sum_3 torn_$slot=\$torn_3"
    old="$old $slot" is_open=
  fi
  open_named
}

to_end() {
  set -- $(stat -L -c '%i %s' /proc/self/fd/3)
  inode_3=$1 off_3=$2
  if [ "$2" -gt 0 ] && [ "$(tail -c "+$2" /proc/self/fd/3 | head -c 1)" ]; then
    from=$(($2 > half ? $2 - half : 0))
    off_3=$(($2 - $(tail -c "+$((from + 1))" /proc/self/fd/3 | head -c "$(($2 - from))" | tail -n 1 | wc -c)))
  fi
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
  [ "$here" != "$seen" ] || return 1
  set -- $here
  inode=$1 size=$2
  if [ "$size" -lt "$off" ] || { [ "$len" -gt 0 ] && [ "$(first "$slot" "$len")" != "$sum" ]; }; then off=0 len=0 torn=0; fi
  if [ "$len" -lt 512 ] && [ "$size" -gt "$len" ]; then
    len=$((size < 512 ? size : 512))
    sum=$(first "$slot" "$len")
  fi
  count=$((size - off))
  if [ "$count" -gt "$look" ]; then count=$look here= more=1; fi
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
"""


class Frame(Value):
    """What the program said. `kind`: `=` the rows end at `offset` of `inode`; `x` that file is left; `?` it is gone; `.` nothing is
    new; `!` it has ended, because of `why`.
    """

    kind: str
    rows: bytes = b""
    inode: int = 0
    offset: int = 0
    why: bytes = b""


class Frames:
    """Frames out of the program's output, however it is cut."""

    def __init__(self, nonce: str) -> None:
        self._sign = f"{nonce} ".encode()
        self._held = bytearray()
        self._seen = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Those that are complete now."""
        self._held += data
        found: list[Frame] = []
        while (frame := self._next()) is not None:
            found.append(frame)
        return found

    def _next(self) -> Frame | None:
        begin = self._held.find(self._sign, self._seen)
        end = self._held.find(b"\n", begin) if begin >= 0 else -1
        if end < 0:
            self._seen = begin if begin >= 0 else max(0, len(self._held) - len(self._sign))
            return None
        rows, said = bytes(self._held[:begin]), bytes(self._held[begin + len(self._sign) : end])
        del self._held[: end + 1]
        self._seen = 0
        return _frame(rows, said)


def _frame(rows: bytes, said: bytes) -> Frame:
    kind, _, rest = said.partition(b" ")
    numbers = [int(each) for each in re.findall(rb"\d+", rest)] if kind in {b"=", b"x", b"?"} else []
    inode, offset = (*numbers, 0, 0)[:2]
    return Frame(kind=kind.decode("ascii", "replace"), rows=rows, inode=inode, offset=offset, why=rest)


def argv(path: str, *, nonce: str, program: CountProgram, places: Mapping[int, int] | None) -> tuple[str, ...]:
    """`places`: offsets by inode to go on from; None: begin at the file's present end."""
    resumed = () if places is None else ("again", *(f"{inode}:{offset}" for inode, offset in places.items()))
    return ("sh", "-c", _SCRIPT, "upswitch-follow", path, nonce, program.awk, str(MOST_WHOLE), *resumed)
