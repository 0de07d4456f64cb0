"""Warm: nginx's own check has proved the new pool before it serves.

With `default_down=true` a server that a reload brings in is down until `rise` checks have passed, and every request is a 502 as
long as none has: the fault that upswitch exists for. So the new pool stands in the live generation as a standby first.
"""

from collections.abc import Mapping, Sequence

from upswitch.basics.result import Result, Took, Why
from upswitch.basics.value import Value
from upswitch.generations.check_lines import check_lines, has_lines, rendered_check
from upswitch.generations.generation import STANDBY, standby_name
from upswitch.generations.survey import Facts
from upswitch.health import nginx_check
from upswitch.health.nginx_check import NO_BLACKOUT, Blackout
from upswitch.hosts.host import Ports
from upswitch.hosts.wait import until
from upswitch.nginx import marker, running
from upswitch.site.model import Check, Dialect, Nginx, Site
from upswitch.site.server_line import is_address, probe_address

_LOOK_EVERY = 0.2
_SLACK = 2.0  # seconds beyond the worst case: the reload, and the looks


class Warmth(Value):
    """What has to be up before the swap, by upstream. `why` there must be a reload for it first, "" where there need be none.

    `longest` is the worst case in seconds; `down` are those that nginx does not call up now, `failing` those of them whose checks
    fail; `trusted` names upstreams whose new servers nginx takes as up unproved; `plain` is what a reload without any of this would
    cost.
    """

    wanted: Mapping[str, tuple[str, ...]] = {}
    why: str = ""
    longest: float = 0.0
    down: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    plain: Blackout = NO_BLACKOUT


def needed(site: Site, pool: str, addresses: Mapping[str, tuple[str, ...]], facts: Facts) -> Warmth:
    """`addresses` are the servers of `pool` that nginx will check once they serve.

    With `default_down=false` a new server is up at once, as its owner wants it; one that nginx has found down stays down.
    """
    checks = {each.name: each.check for each in site.upstreams if each.check is not None}
    if facts.dialect is Dialect.NONE or not any(addresses.values()):
        return Warmth()
    new = marker.unknown(facts.checked, addresses)
    held = {name: each for name, each in addresses.items() if checks[name].default_down}
    late = [each for each in new if any(each in others for others in held.values())]
    trusted = tuple(name for name, each in addresses.items() if name not in held and not set(new).isdisjoint(each))
    wanted = {name: tuple(one for one in each if name in held or one not in new) for name, each in addresses.items()}
    stale = [
        name
        for name, each in wanted.items()
        if _is_stale(name, pool, checks[name], facts) and marker.down(facts.checked, {name: each})
    ]
    plain = (_plain(checks[name], each, facts) for name, each in held.items())
    return Warmth(
        wanted=wanted,
        why=_why(late, stale),
        longest=max(nginx_check.longest_to_up(rendered_check(checks[name], facts.dialect)) for name in addresses),
        down=marker.down(facts.checked, wanted),
        failing=marker.failing(facts.checked, wanted),
        trusted=trusted,
        plain=max(plain, key=lambda each: each.worst, default=NO_BLACKOUT),
    )


def _why(late: Sequence[str], stale: Sequence[str]) -> str:
    if late:
        return f"nginx does not check {', '.join(late)} yet"
    return f"nginx's check of {', '.join(stale)} is not that of the site file yet" if stale else ""


def _is_stale(name: str, pool: str, check: Check, facts: Facts) -> bool:
    """Whether nginx proves the standby by another check than the site file has now: by that one it may never be up."""
    live = facts.live_files.get(STANDBY, b"")
    return not has_lines(live, standby_name(name, pool), check_lines(check, facts.dialect))


def _plain(check: Check, addresses: tuple[str, ...], facts: Facts) -> Blackout:
    """None where a server is up in nginx's own view: a reload carries that on."""
    seen = [facts.checked.find(address) if facts.checked else None for address in addresses]
    if any(each is not None and each.is_up for each in seen):
        return NO_BLACKOUT
    workers = len(facts.running.family.workers) if facts.running.family else 0
    return nginx_check.blackout_of(check, servers=len(addresses), workers=max(workers, 1))


def notes(site: Site, pool: str, warmth: Warmth, facts: Facts) -> tuple[str, ...]:
    """Where nginx's own check will not know what it needs to know, or will not be asked."""
    found = [
        f"default_down=false: nginx counts the servers of {name} as up at once; only the gate has checked them"
        for name in warmth.trusted
    ]
    for upstream in site.upstreams if warmth.wanted else ():
        named = [server for server in upstream.servers(pool) if not is_address(probe_address(server, 0))]
        found += [
            f"{upstream.name}: nginx keeps states by address: {server.address} starts down if its address changes by then"
            for server in named
        ]
        if upstream.check is None:
            found.append(f"{upstream.name} has no check table: nginx counts its servers as up; only the gate has checked them")
        elif upstream.check != rendered_check(upstream.check, facts.dialect):
            found.append(_ONE_RISE.format(upstream.name, upstream.check.rise))
    return tuple(found)


_ONE_RISE = (
    "{}: upswitch writes rise=1 for nginx instead of rise={}, because with type=tcp this module may hold a healthy server down "
    "for ever (`upswitch lint`, check_tcp_stuck). The health checks by upswitch keep their own rise"
)


def wait(ports: Ports, nginx: Nginx, warmth: Warmth) -> Took:
    """Until `check_status` calls every wanted server up, a signal, or the worst case of the module's own timers."""
    clock = ports.clock
    began = clock.monotonic()

    def look() -> tuple[str, ...]:
        down = marker.down(running.ask_status(ports.host, nginx), warmth.wanted)
        ports.tell("warm", _progress(warmth, down, clock.monotonic() - began), is_passing=True)
        return down

    within = warmth.longest + _SLACK
    down = until(lambda seen: not seen, look, every=_LOOK_EVERY, clock=clock, within=within, interrupts=ports.interrupts)
    return _took(warmth, down, ports, clock.monotonic() - began)


def _progress(warmth: Warmth, down: tuple[str, ...], seconds: float) -> str:
    count = sum(map(len, warmth.wanted.values()))
    said = f"nginx's own health check: {count - len(down)} of {count} servers are up after {seconds:.1f} s"
    return f"{said} (at most {warmth.longest:.0f} s)" + (f"; {down[0]}" if down else "")


def _took(warmth: Warmth, down: tuple[str, ...], ports: Ports, seconds: float) -> Took:
    count = sum(map(len, warmth.wanted.values()))
    if not down:
        return Took(result=Result.OK, said=f"all {count} servers are up by nginx's own health check, after {seconds:.1f} s")
    if ports.interrupts.count:
        said = f"{ports.interrupts.name} while nginx checked the standby"
        return Took(result=Result.INTERRUPTED, said=said, why=Why.SIGNAL)
    said = f"{len(down)} of {count} servers are not up by nginx's own health check after {seconds:.1f} s, its worst case"
    return Took(result=Result.FAILED, said=said, details=down, why=Why.CHECK_DOWN)
