"""The dead-man: a watcher on the nginx host that rolls a switch back when upswitch stops sending heartbeats.

The holder of the host's lock claims to live by a lease (STATE/lease: seconds of /proc/uptime, so no wall clock is believed).
Once the lease has run out the watcher fires: it restores the way back, reloads, asks nginx, and leaves one line of journal.

STATE/deadman/RUN/ says how far it is, by the name of one file: `armed`, then either `disarmed`, or `fired` and at last `done`.
A move is one rename of that file, so exactly one of disarm and fire wins. `up` holds the watcher's pid and start, `said` what it
said: its room is taken when it is armed, because a disk that fills up later must stop neither the way back nor its report.

Only sh, coreutils and flock(1) are needed. nginx's marker is asked by bash or curl; where neither exists the proof is UNKNOWN.
When it fires it raises STATE/epoch: a process that held the lock before, and was only frozen, is refused when it goes on.
"""

import re
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.result import Result, Took, Why
from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.health.rounds import differing
from upswitch.hosts.host import Host, Ran
from upswitch.hosts.sh import SH, Exit, script
from upswitch.site.model import Nginx, Target
from upswitch.switch.run import Fired

WAIT = 60.0  # seconds for a watcher that has fired to be done: 10 for the lock, 31 for the reload, 10 for the proof
_PACKAGE = "upswitch.switch"
_RUN = re.compile(r"[A-Za-z0-9_-]{1,100}")
_ARM = 20.0  # seconds: a few small files, systemd-run's 5, and 2 for the watcher to say that it is up
_LOOK = 5.0
_BEYOND = 10.0  # seconds for a program beyond what it may wait


class Asked(Value):
    """A server that is asked before the way back; `is_new`: of the new pool. `path` is that of an http check, "" of another check.

    `statuses` are the first digits of the good answers.
    """

    upstream: str
    address: str
    path: str = ""
    statuses: str = ""
    is_new: bool = False


class DeadMan(Value):
    """What a watcher is armed with. All generations are this run's; it leaves alone a live link that names any other.

    `to`: the new one. `back`: the prepared way back. `base`: what is live just before the swap, and where the way leads when
    `back` is damaged. `servers` of both pools: the host stays as it is where an upstream of the way back is dead. `expect`:
    further ones of the former pool (the former one, where `base` is the warm one). `marker`: HOST:PORT where nginx answers with
    its generation. `pid` and `start` (ticks) are the master's, for when `pid_file` is gone. Times are seconds: `grace` after the
    end of the lease, `poll` between two looks, `lock_wait` for the lock before it goes on without it, `proof` for nginx to answer.
    """

    run: str
    to: str
    back: str
    base: str
    reload: tuple[str, ...]
    marker: str
    servers: tuple[Asked, ...] = ()
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
                return _killed(self.run) if self.fired is None else f"the dead-man rolled run {self.run} back: {self.fired.said}"


def _killed(run: str) -> str:
    """Of a watcher that fired and said nothing."""
    return f"the dead-man of run {run} fired, and was killed before it had finished"


class Disarmed(Value):
    """How disarming ended. OK: it will do nothing any more. FAILED: it had fired, and is done; `fired` is what it said.

    UNKNOWN: it acts still, or the host could not be asked. A FAILED without `fired` was killed while it acted.
    """

    result: Result
    said: str
    fired: Fired | None = None


# ---- acting ----


def arm(host: Host, nginx: Nginx, deadman: DeadMan) -> Took:
    """OK once its watcher itself has said that it is up. Needs the lock, with its lease."""
    ran = host.run(arm_argv(nginx, deadman), deadline=_ARM)
    match ran.exit:
        case 0:
            return Took(result=Result.OK, said=f"the host rolls itself back to {deadman.back} if upswitch stops sending heartbeats")
        case None:
            return Took(
                result=Result.UNKNOWN,
                said=f"it is not known whether the dead-man is armed: {ran.words}",
                why=ran.why or Why.DEAD_MAN,
            )
        case Exit.NOT_UP:
            return Took(result=Result.FAILED, said="the dead-man's watcher did not start within 2 s", why=Why.DEAD_MAN)
        case Exit.NO_FOLDER:
            return Took(result=Result.FAILED, said=f"{nginx.state}/deadman can't be used: {ran.words}", why=ran.why or Why.DEAD_MAN)
        case _:
            return Took(result=Result.FAILED, said=f"the dead-man could not be armed: {ran.words}", why=ran.why or Why.DEAD_MAN)


def disarm(host: Host, nginx: Nginx, run: str, *, wait: float = WAIT) -> Disarmed:
    """Idempotent, and good for a run that never had one. Waits up to `wait` seconds for one that has fired to be done."""
    return disarmed(run, host.run(disarm_argv(nginx.state, run, wait=wait), deadline=wait + _BEYOND), wait=wait)


def disarmed(run: str, ran: Ran, *, wait: float = WAIT) -> Disarmed:
    """What came of `disarm_argv`."""
    match ran.exit:
        case 0:
            return Disarmed(result=Result.OK, said="the dead-man is disarmed")
        case Exit.FIRED:
            fired = parse_fired(ran.out)
            return Disarmed(result=Result.FAILED, said=fired.said if fired else _killed(run), fired=fired)
        case Exit.ACTING:
            return Disarmed(result=Result.UNKNOWN, said=f"the dead-man of run {run} has not finished after {wait:g} s")
        case _:
            return Disarmed(result=Result.UNKNOWN, said=f"the dead-man could not be disarmed: {ran.words}")


def unguarded(host: Host, nginx: Nginx, run: str) -> str:
    """Why the host would not roll `run` back if upswitch were killed now; "" where it would. HostError where it can't be asked."""
    stands = look(host, nginx)
    is_armed = stands is not None and stands.run == run and stands.mark is Mark.ARMED and stands.is_alive
    return "" if is_armed else "the dead-man on the host is gone: if this command is killed now, the host stays as it is"


def look(host: Host, nginx: Nginx) -> Standing | None:
    """The dead-man that a person should know of. HostError where the host can't be asked."""
    ran = host.run(look_argv(nginx.state), deadline=_LOOK)
    if ran.exit != 0:
        raise HostError(f"look at {nginx.state}/deadman", ran.words, why=ran.why)
    return parse_look(ran.out)


# ---- its commands, and what they print ----


def arm_argv(nginx: Nginx, deadman: DeadMan) -> tuple[str, ...]:
    """ValueError for an order that would not be one line, or no reload command."""
    orders = (
        *(nginx.dir, deadman.to, deadman.back, deadman.base, " ".join(deadman.expect)),
        *(deadman.marker, deadman.pid_file, str(deadman.pid), str(deadman.start)),
        *(str(deadman.grace), f"{deadman.poll:g}", f"{deadman.lock_wait:g}", str(deadman.proof)),
        " ".join(map(_order, deadman.servers)),
        *deadman.reload,
    )
    if not deadman.reload or any("\n" in order or "\0" in order for order in orders):
        raise ValueError(f"no orders for a dead-man: {orders!a}")
    watcher = script(_PACKAGE, "deadman_program.sh")
    swap = script("upswitch.generations", "swap.sh")
    return _program("arm", nginx.state, _checked(deadman.run), watcher, swap, *orders)


def asked(former: Sequence[Target], new: Sequence[Target]) -> tuple[Asked, ...]:
    """The servers of the upstreams that differ. `http_4xx` is 4."""
    return tuple(
        Asked(
            upstream=each.upstream,
            address=each.address,
            path=each.rule.path,
            statuses="".join(alive[5] for alive in each.rule.http_expect_alive) if each.rule.path else "",
            is_new=is_new,
        )
        for is_new, targets in ((False, differing(former, new)), (True, differing(new, former)))
        for each in targets
    )


def _order(server: Asked) -> str:
    return ",".join(("new" if server.is_new else "former", server.upstream, server.address, server.path, server.statuses))


def disarm_argv(state: str, run: str, *, wait: float = WAIT) -> tuple[str, ...]:
    """`wait`: seconds for a watcher that has fired to be done."""
    return _program("disarm", state, _checked(run), str(round(wait)))


def look_argv(state: str) -> tuple[str, ...]:
    return _program("look", state)


def _program(function: str, *words: str) -> tuple[str, ...]:
    return (*SH, script(_PACKAGE, "deadman.sh"), function, *words)


def _checked(run: str) -> str:
    """It names a folder."""
    if not _RUN.fullmatch(run):
        raise ValueError(f"no name of a run: {run!a}")
    return run


def parse_fired(data: bytes) -> Fired | None:
    """What a watcher wrote; None where it wrote nothing, or something else did."""
    try:
        fired = msgspec.json.decode(data, type=Fired)
    except msgspec.MsgspecError:
        return None
    return msgspec.structs.replace(fired, said=plain(fired.said))


def parse_look(output: bytes) -> Standing | None:
    """The dead-man that is armed or acts; else the latest one, where it has acted; None where there is nothing to report."""
    found = [_standing(line) for line in output.splitlines()]
    open_ones = [one for one in found if one.mark in {Mark.ARMED, Mark.FIRED}]
    latest = next(iter((*open_ones, *found)), None)
    return latest if latest and latest.mark is not Mark.DISARMED else None


def _standing(line: bytes) -> Standing:
    mark, alive, run, said = line.split(b" ", 3)
    name = run.decode("ascii", "backslashreplace")
    return Standing(run=name, mark=Mark(mark.decode("ascii")), is_alive=alive == b"yes", fired=parse_fired(said))
