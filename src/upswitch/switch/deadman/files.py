"""The dead-man: a watcher on the nginx host that takes a switch back when whoever armed it vanishes.

The holder of the host's lock claims to live by a lease (STATE/lease: seconds of /proc/uptime, so no wall clock is believed).
Once the lease has run out the watcher fires: it restores the way back, reloads, asks nginx, and leaves one line of journal.

STATE/deadman/RUN/ says how far it is, by the name of one file: `armed`, then either `disarmed`, or `fired` and at last `done`.
A move is one rename of that file, so exactly one of disarm and fire wins. `armed` holds the orders, a value a line: nobody's
quoting (ssh's, systemd's) comes near them. `up` holds the watcher's pid and start, `said` what it said: room for that is taken when
it is armed, because a disk that fills up later must stop neither the way back nor the word about it.

Only sh, coreutils and flock(1) are needed. nginx's marker is asked by bash or curl; where neither is there the proof is UNKNOWN.
A fire raises STATE/epoch: whoever held the lock before, and was only frozen, is refused when it goes on.
"""

import re
from enum import StrEnum

import msgspec

from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.site.model import Nginx
from upswitch.switch.deadman import watcher
from upswitch.switch.run import Fired

FIRED = 100  # the watcher has won, and is done (or was killed before it was)
ACTING = 101  # it has won, and is still at it
NOT_UP = 102  # it was not up in time: disarmed again

WAIT = 60.0  # seconds for a watcher that has fired to be done: 10 for the lock, 31 for the reload, 10 for the proof

_SH = ("sh", "-c")
_RUN = re.compile(r"[A-Za-z0-9_-]{1,100}")

# $1: state folder, $2: run, $3: the watcher's text; the rest are its orders, without the PATH. The run's folder appears complete
# or not at all. Whoever arms holds the lock, so another run's watcher is out of date; one that acts is not interfered with.
_ARM = (
    watcher.TICKS
    + r"""
umask 077
state=$1 run=$2 watcher=$3
shift 3
# Whether this host's tools do what the watcher will ask of them; busybox's don't. $1: a file.
can_do() {
  command -v setsid >/dev/null || { echo 'no setsid here' >&2; return 1; }
  flock -w 1 "$1" timeout -k 1 1 sleep 0 &&
    dd if=/dev/null of="$1" bs=64k iflag=fullblock oflag=append,nofollow conv=notrunc,fsync status=none &&
    truncate -c -s +0 "$1" && case $(date +%3N) in '' | *[!0-9]*) false ;; esac
}
# $1 as one line.
line() { case $1 in *"$newline"*) printf '%s' "$1" | tr '\n' ':' ;; *) printf '%s' "$1" ;; esac; }
newline='
'

cd "$state" && mkdir -p deadman && cd deadman || exit 90
for old in */fired; do
  [ -e "$old" ] || continue
  lives "${old%/fired}" && { echo "the dead-man of run ${old%/fired} acts now" >&2; exit 96; }
  mv -fT "$old" "${old%fired}done"
done
for old in */armed; do
  [ ! -e "$old" ] || mv -fT "$old" "${old%armed}disarmed" || exit 96
done
kept=0
for old in $(ls -1t); do
  [ -e "$old/disarmed" ] || [ -e "$old/done" ] || continue
  kept=$((kept + 1))
  [ "$kept" -lt 5 ] || rm -rf "./$old"
done
[ ! -e "$run" ] || { echo "run $run had a dead-man before" >&2; exit 96; }

temp=.$run.tmp
trap '[ ! -e "$temp" ] || rm -rf "$temp"' EXIT
[ ! -e "$temp" ] || rm -rf "$temp"
mkdir "$temp" || exit 95
room=$newline
while [ ${#room} -lt 1024 ]; do room=$room$room; done
printf '%s' "$watcher" > "$temp/watcher" &&
  { line "$PATH" && printf '\n' && printf '%s\n' "$@"; } > "$temp/armed" &&
  printf '%s' "$room" > "$temp/said" &&
  can_do "$temp/said" &&
  sync "$temp"/* "$temp" && mv -T "$temp" "$run" && sync . || exit 95

# systemd gives a process of its own, out of our session's slice: a logout may kill what is in that. Else a session of its own.
close='
for fd in /proc/$$/fd/*; do
  fd=${fd##*/}
  case $fd in 0|1|2) ;; [3-9]) eval "exec $fd>&-" ;; *) [ -z "$BASH_VERSION" ] || eval "exec $fd>&-" ;; esac
done
exec "$@"'
by_systemd() {
  [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && command -v systemd-run >/dev/null || return 1
  timeout -k 1 5 systemd-run --collect --quiet --no-ask-password --unit="upswitch-deadman-$run" \
    /bin/sh "$PWD/$run/watcher" "$PWD/$run" </dev/null >/dev/null 2>&1
}
by_systemd || {
  setsid "$(command -v bash || echo sh)" -c "$close" close /bin/sh "$PWD/$run/watcher" "$PWD/$run" </dev/null >/dev/null 2>&1 &
}
tries=0
until [ -s "$run/up" ]; do
  tries=$((tries + 1))
  [ "$tries" -le 100 ] || { mv -fT "$run/armed" "$run/disarmed"; exit 102; }
  sleep 0.02
done
"""
)

# $1: state folder, $2: run, $3: whole seconds to wait for a watcher that acts. Where the run has no folder one is made: an
# arming that was cut off, and is still on its way, finds the place taken.
_DISARM = (
    watcher.TICKS
    + r"""
umask 077
cd "$1" 2>/dev/null || exit 0
if [ ! -e "deadman/$2" ]; then
  temp=deadman/.$2.off
  mkdir -p "$temp" && touch "$temp/disarmed" && mv -T "$temp" "deadman/$2"
  [ -e "deadman/$2" ] || exit 0
fi
cd "deadman/$2" || exit 90
mv -fT armed disarmed 2>/dev/null && { sync .; exit 0; }
[ ! -e armed ] || exit 95
[ ! -e disarmed ] || exit 0
read -r now rest < /proc/uptime
end=$((${now%.*} + $3))
while [ -e fired ] && lives . && [ "${now%.*}" -lt "$end" ]; do
  sleep 0.1
  read -r now rest < /proc/uptime
done
if [ -e fired ] && lives .; then exit 101; fi
[ ! -e fired ] || mv -fT fired done
head -n 1 said
exit 100
"""
)

# $1: state folder. Each run that has one, the latest first: its mark, whether its watcher lives, its name, what it said.
_LOOK = (
    watcher.TICKS
    + r"""
cd "$1/deadman" 2>/dev/null || exit 0
for run in $(ls -1t); do
  for mark in armed fired done disarmed; do
    [ -e "$run/$mark" ] || continue
    lives "$run" && alive=yes || alive=no
    printf '%s %s %s %s\n' "$mark" "$alive" "$run" "$(head -n 1 "$run/said" 2>/dev/null)"
    break
  done
done
exit 0
"""
)


class DeadMan(Value):
    """What a watcher is armed with. All generations are this run's; it leaves alone a live link that names any other.

    `to`: the new one. `back`: the prepared way back. `base`: what is live just before the swap, and where the way leads when
    `back` is damaged. `expect`: further ones of the former pool (the former one, where `base` is the warm one). `marker`: HOST:PORT
    where nginx answers with its generation. `pid` and `start` (ticks) are the master's, for when `pid_file` is gone. Times are
    seconds: `grace` after the end of the lease, `poll` between two looks, `lock_wait` for the lock before it goes on without it,
    `proof` for nginx to answer.
    """

    run: str
    to: str
    back: str
    base: str
    reload: tuple[str, ...]
    marker: str
    expect: tuple[str, ...] = ()
    pid_file: str = ""
    pid: int = 0
    start: int = 0
    grace: int = 5
    poll: float = 1.0
    lock_wait: float = 10.0
    proof: int = 10


class Mark(StrEnum):
    """How far a dead-man is: the name of one file. FIRED: it acts. DONE: it has acted."""

    ARMED = "armed"
    DISARMED = "disarmed"
    FIRED = "fired"
    DONE = "done"


class Standing(Value):
    """The dead-man that a person should know of. `fired` is what it said, None where it has said nothing."""

    run: str
    mark: Mark
    is_alive: bool
    fired: Fired | None = None

    @property
    def text(self) -> str:
        match self.mark, self.is_alive:
            case Mark.ARMED, True:
                return f"the dead-man of run {self.run} is armed"
            case Mark.ARMED, False:
                return f"the dead-man of run {self.run} is armed, but its watcher is gone"
            case Mark.FIRED, True:
                return f"the dead-man of run {self.run} rolls it back now"
            case _:
                return killed(self.run) if self.fired is None else f"the dead-man rolled run {self.run} back: {self.fired.said}"


def killed(run: str) -> str:
    """Of a watcher that fired and said nothing."""
    return f"the dead-man of run {run} fired, and was killed before it had finished"


def arm(nginx: Nginx, deadman: DeadMan) -> tuple[str, ...]:
    """ValueError for an order that would not be one line, or no reload command."""
    orders = (
        *(nginx.dir, deadman.to, deadman.back, deadman.base, " ".join(deadman.expect)),
        *(deadman.marker, deadman.pid_file, str(deadman.pid), str(deadman.start)),
        *(str(deadman.grace), f"{deadman.poll:g}", f"{deadman.lock_wait:g}", str(deadman.proof), *deadman.reload),
    )
    if not deadman.reload or any("\n" in order or "\0" in order for order in orders):
        raise ValueError(f"no orders for a dead-man: {orders!a}")
    return (*_SH, _ARM, "arm", nginx.state, _checked(deadman.run), watcher.WATCH, *orders)


def disarm(state: str, run: str, *, wait: float = WAIT) -> tuple[str, ...]:
    """`wait`: seconds for a watcher that has fired to be done."""
    return (*_SH, _DISARM, "disarm", state, _checked(run), str(round(wait)))


def look(state: str) -> tuple[str, ...]:
    return (*_SH, _LOOK, "look", state)


def _checked(run: str) -> str:
    """It names a folder."""
    if not _RUN.fullmatch(run):
        raise ValueError(f"no name of a run: {run!a}")
    return run


def parse_fired(data: bytes) -> Fired | None:
    """What a watcher said; None where it said nothing, or its words are not ours."""
    try:
        fired = msgspec.json.decode(data, type=Fired)
    except msgspec.MsgspecError:
        return None
    return msgspec.structs.replace(fired, said=plain(fired.said))


def parse_look(output: bytes) -> Standing | None:
    """One that is armed or acts, whatever came later; else the latest, where it has acted; None where nothing is to be told."""
    found = [_standing(line) for line in output.splitlines()]
    open_ones = [one for one in found if one.mark in {Mark.ARMED, Mark.FIRED}]
    latest = next(iter((*open_ones, *found)), None)
    return latest if latest and latest.mark is not Mark.DISARMED else None


def _standing(line: bytes) -> Standing:
    mark, alive, run, said = line.split(b" ", 3)
    name = run.decode("ascii", "backslashreplace")
    return Standing(run=name, mark=Mark(mark.decode("ascii")), is_alive=alive == b"yes", fired=parse_fired(said))
