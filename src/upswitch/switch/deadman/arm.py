"""Arming, disarming and seeing the dead-man of a host: one script each."""

from upswitch.basics.errors import HostError
from upswitch.basics.result import Result, Took, Why
from upswitch.basics.value import Value
from upswitch.hosts import sh
from upswitch.hosts.host import Host, Ran
from upswitch.site.model import Nginx
from upswitch.switch.deadman import files as orders
from upswitch.switch.deadman.files import DeadMan, Standing
from upswitch.switch.run import Fired

_ARM = 20.0  # seconds: a few small files, systemd-run's 5, and 2 for the watcher to say that it is up
_LOOK = 5.0
_BEYOND = 10.0  # seconds for a script beyond what it may wait


class Disarmed(Value):
    """How disarming ended. OK: it will do nothing any more. FAILED: it had fired, and is done; `fired` is what it said.

    UNKNOWN: it acts still, or the host could not be asked. A FAILED without `fired` was killed while it acted.
    """

    result: Result
    said: str
    fired: Fired | None = None


def arm(host: Host, nginx: Nginx, deadman: DeadMan) -> Took:
    """OK once its watcher itself has said that it is up. Needs the lock, with its lease."""
    ran = host.run(orders.arm(nginx, deadman), deadline=_ARM)
    match ran.exit:
        case 0:
            return Took(result=Result.OK, said=f"the host rolls itself back to {deadman.back} if upswitch stops sending heartbeats")
        case None:
            return Took(
                result=Result.UNKNOWN,
                said=f"it is not known whether the dead-man is armed: {ran.words}",
                why=ran.why or Why.DEAD_MAN,
            )
        case orders.NOT_UP:
            return Took(result=Result.FAILED, said="the dead-man's watcher did not start within 2 s", why=Why.DEAD_MAN)
        case sh.Exit.NO_FOLDER:
            return Took(result=Result.FAILED, said=f"{nginx.state}/deadman can't be used: {ran.words}", why=ran.why or Why.DEAD_MAN)
        case _:
            return Took(result=Result.FAILED, said=f"the dead-man could not be armed: {ran.words}", why=ran.why or Why.DEAD_MAN)


def disarm(host: Host, nginx: Nginx, run: str, *, wait: float = orders.WAIT) -> Disarmed:
    """Idempotent, and good for a run that never had one. Waits up to `wait` seconds for one that has fired to be done."""
    return disarmed(run, host.run(orders.disarm(nginx.state, run, wait=wait), deadline=wait + _BEYOND), wait=wait)


def disarmed(run: str, ran: Ran, *, wait: float = orders.WAIT) -> Disarmed:
    """What came of core's `disarm`."""
    match ran.exit:
        case 0:
            return Disarmed(result=Result.OK, said="the dead-man is disarmed")
        case orders.FIRED:
            fired = orders.parse_fired(ran.out)
            return Disarmed(result=Result.FAILED, said=fired.said if fired else orders.killed(run), fired=fired)
        case orders.ACTING:
            return Disarmed(result=Result.UNKNOWN, said=f"the dead-man of run {run} has not finished after {wait:g} s")
        case _:
            return Disarmed(result=Result.UNKNOWN, said=f"the dead-man could not be disarmed: {ran.words}")


def unguarded(host: Host, nginx: Nginx, run: str) -> str:
    """Why the host would not take `run` back if we vanished now, "" where it would. HostError where it can't be asked."""
    stands = look(host, nginx)
    is_armed = stands is not None and stands.run == run and stands.mark is orders.Mark.ARMED and stands.is_alive
    return "" if is_armed else "the dead-man on the host is gone: if this command is killed now, the host stays as it is"


def look(host: Host, nginx: Nginx) -> Standing | None:
    """The dead-man that a person should know of. HostError where the host can't be asked."""
    ran = host.run(orders.look(nginx.state), deadline=_LOOK)
    if ran.exit != 0:
        raise HostError(f"look at {nginx.state}/deadman", ran.words, why=ran.why)
    return orders.parse_look(ran.out)
