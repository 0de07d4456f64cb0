"""Reloading a master that was verified, and looking at what comes of it: two scripts, each for one round trip.

What they say is judged in confirm.py. Seconds are those of /proc/uptime, cut to hundredths.
"""

from itertools import takewhile

from upswitch.basics.value import Value
from upswitch.logs import error_line
from upswitch.nginx import processes
from upswitch.nginx.marker import parse_marker
from upswitch.nginx.processes import Family, Process
from upswitch.switch.reload.proof import Sample

# $1: the pid file, $2: the pid that it must still name, $3: that process's start, $4: the error log or "", $5: seconds; the rest
# is the reload command, killed after these. It is begun only where this is the very process that was verified, and it can act on
# a signal: the rule is processes.master_problem. Before it comes what was: the family, the log's inode and size, the time.
_RELOAD = (
    r"""
family() (
"""
    + processes.SCRIPT
    + r"""
)
is_it() {
  named= stat= title=
  read -r named < "$1"
  read -r stat < "/proc/$2/stat"
  IFS= read -r title < "/proc/$2/cmdline"
  case $title in "nginx: master process"*) ;; *) return 1 ;; esac
  [ "$named" = "$2" ] && [ ! -e "$1.oldbin" ] || return 1
  start=$3
  set -- ${stat##*) }
  case $1 in [ZXTt]) return 1 ;; esac
  [ "${20}" = "$start" ]
} 2>/dev/null
is_it "$1" "$2" "$3" || exit 96
family "$2"
[ ! -f "$4" ] || printf 'log %s\n' "$(stat -L -c '%i %s' -- "$4" 2>/dev/null)"
seconds=$5
shift 5
read -r up rest < /proc/uptime
printf 'up %s\nreload\n' "$up"
exec timeout -s KILL "$seconds" "$@"
"""
)

# For bash. $1: the master, $2 and $3: the marker's IP and port, $4: the error log or "", $5 and $6: its inode and size before the
# reload, $7: the children before it, each with a space on both sides. Every 20 ms the family, five answers of the marker and what
# is new in the log, with no process of its own for any of it; until nothing has changed for a while, or for 0.3 s. Each line
# begins with a word or a path of ours. 97 where this kernel does not name a process's children.
_SAMPLE = r"""
exec 2>/dev/null
m=$1 ip=$2 port=$3 log=$4 inode=$5 size=$6 before=$7
[ -e "/proc/$m/task/$m/children" ] || [ ! -e "/proc/$m" ] || exit 97
exec {never}<> <(:)
lines=
if [ -f "$log" ] && exec {lines}<"$log"; then
  read -r i s <<<"$(stat -L -c '%i %s' "/dev/fd/$lines")"
  [ "$i" = "$inode" ] && [ "$s" -ge "$size" ] || size=0
  dd bs=1 skip="$size" count=0 status=none <&"$lines"
fi

family() {
  local kids= p stat title
  old=0 new=0 other=0
  read -r kids < "/proc/$m/task/$m/children"
  for p in $m $kids; do
    title=
    read -r stat < "/proc/$p/stat" || continue
    IFS= read -r -d '' title < "/proc/$p/cmdline"
    printf '/proc/%s/stat:%s\n/proc/%s/cmdline:%s\n' "$p" "$stat" "$p" "${title%%$'\n'*}"
    case $title in
      'nginx: worker process is shutting down'*) ;;
      'nginx: worker process'*) case $before in *" $p "*) old=1 ;; *) new=1 ;; esac ;;
      'nginx: master process'*) [ "$p" = "$m" ] || other=1 ;;
    esac
  done
}

ask() {
  local status= line= last= count
  {
    printf 'GET / HTTP/1.0\r\nHost: upswitch\r\n\r\n' >&3
    IFS= read -r -t 1 status <&3
    for count in {1..50}; do
      IFS= read -r -t 1 line <&3 || break
      last=$line
    done
  } 3<>"/dev/tcp/$ip/$port"
  case $status in 'HTTP/1.'[01]' 200 '*) printf 'mark %s\n' "$last" ;; *) return 1 ;; esac
}

news() {
  local line
  while IFS= read -r line <&"$lines"; do
    line=$part$line part=
    case $line in *'[emerg]'* | *'[alert]'*) printf 'log %s\n' "$line" ;; esac
  done
  part=$part$line
}

part= since= began=
while :; do
  read -r up rest < /proc/uptime
  now=${up/./}
  printf 'sample %s\n' "$up"
  family
  for count in 1 2 3 4 5; do ask || break; done
  [ -z "$lines" ] || news
  [ "$old$new$other" = 010 ] && since=${since:-$now} || since=
  [ -z "$since" ] || [ $((now - since)) -lt 12 ] || break
  [ $((now - ${began:=$now})) -lt 30 ] || break
  read -r -t 0.02 -u "$never"
done
exit 0
"""


class Before(Value):
    """The state just before a reload: who the children were, where the error log ended, and when it was (see above)."""

    family: Family
    inode: int = 0
    size: int = 0
    at: float = 0.0


KILLED = 137
"""The exit of a reload command that did not end in time."""


def reload(command: tuple[str, ...], master: Process, *, pid_file: str, log: str, seconds: float) -> tuple[str, ...]:
    return ("sh", "-c", _RELOAD, "reload", pid_file, str(master.pid), str(master.start), log, f"{seconds:g}", *command)


def parse_reload(output: bytes, master: Process) -> Before | None:
    """None where the command was not begun."""
    head, begun, _ = output.partition(b"\nreload\n")
    if not begun:
        return None
    said = {word: rest for word, _, rest in (line.partition(" ") for line in head.decode("utf-8", "replace").split("\n"))}
    inode, _, size = said.get("log", "").partition(" ")
    family = processes.parse_family(head, master=master.pid)
    return Before(family=family, inode=int(inode or 0), size=int(size or 0), at=float(said["up"]))


def sample(before: Before, marker: str, log: str) -> tuple[str, ...]:
    """Needs bash; `marker` is IP:PORT."""
    master = before.family.master
    ip, _, port = marker.rpartition(":")
    pids = "".join(f" {child.pid} " for child in before.family.children)
    place = (str(before.inode), str(before.size))
    return ("bash", "-c", _SAMPLE, "sample", str(master.pid if master else 0), ip.strip("[]"), port, log, *place, pids)


def parse_samples(output: bytes, before: Before) -> tuple[Sample, ...]:
    """In their order. A last one that is not complete is one of them: what it lacks it does not show."""
    lines: list[bytes] = []
    found = []
    for text in (b"\n" + output).split(b"\nsample ")[1:]:
        at, _, rest = text.partition(b"\n")
        lines += [line[4:] for line in rest.split(b"\n") if line.startswith(b"log ")]
        found.append(_sample(float(at), rest, lines, before))
    return tuple(found)


def _sample(at: float, text: bytes, lines: list[bytes], before: Before) -> Sample:
    pid = before.family.master.pid if before.family.master else 0
    answers = (parse_marker(line[5:]) for line in text.split(b"\n") if line.startswith(b"mark "))
    marks = takewhile(lambda mark: mark is not None, answers)
    return Sample(
        at=at - before.at,
        family=processes.parse_family(text, master=pid),
        marks=tuple(mark for mark in marks if mark is not None),
        emerg=error_line.emerg_lines(lines, pid),
        fatal=error_line.fatal_lines(lines, pid),
    )
