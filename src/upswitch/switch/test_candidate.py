"""Testing a candidate before it is live. `nginx -t` on a file that is already live would be too late."""

from collections.abc import Sequence

from upswitch.basics.result import Result, Took, Why
from upswitch.basics.text import printable
from upswitch.generations.survey import Facts
from upswitch.hosts import batch, sh
from upswitch.hosts.host import Host, Ran
from upswitch.nginx import commands, configuration
from upswitch.nginx.running import NGINX_S
from upswitch.site.model import Nginx


def test(host: Host, nginx: Nginx, facts: Facts, candidates: Sequence[str]) -> Took:
    """Each candidate alone, then inside the real configuration; the last word is the last one's.

    The live tree is swapped only where no mount is allowed.
    """
    argvs = [argv for candidate in candidates for argv in _tests(nginx, facts, candidate)]
    ran = batch.run(host, argvs, deadline=NGINX_S * len(argvs), each=NGINX_S)
    kinds = len(argvs) // len(candidates)
    for at, candidate in enumerate(candidates):
        took = _judged(ran[at * kinds : (at + 1) * kinds]) or _swapped(host, nginx, facts, candidate)
        if took.result is not Result.OK:
            break
    return took


def _tests(nginx: Nginx, facts: Facts, candidate: str) -> list[tuple[str, ...]]:
    folder = f"{nginx.dir}/generations/{candidate}"
    modules, http = configuration.load_modules(facts.conf), configuration.resolvers(facts.conf)
    conf = commands.wrapper(folder, facts.build, modules=modules, http=http)
    alone = commands.test_alone(nginx, facts.build, conf)
    mounted = commands.test_mounted(nginx, facts.build, candidate=candidate, master=facts.running.pid)
    return [alone, mounted] if facts.can_mount else [alone]


def _judged(seen: Sequence[Ran]) -> Took | None:
    """None where no mount was made, and nginx could not be asked that way."""
    alone, *mounted = seen
    if alone.exit != 0:
        return Took(result=Result.FAILED, said=f"nginx -t on the candidate alone: {_words(alone)}", why=Why.BAD_CONFIG)
    if mounted and mounted[0].exit != sh.Exit.NO_MOUNT:
        result = Result.OK if mounted[0].exit == 0 else Result.FAILED
        why = Why.NONE if result is Result.OK else Why.BAD_CONFIG
        return Took(result=result, said=_said(mounted[0], "in a private mount namespace, live files untouched"), why=why)
    return None


def _swapped(host: Host, nginx: Nginx, facts: Facts, candidate: str) -> Took:
    argv = commands.test_swapped(nginx, facts.build, live=facts.disk.live, candidate=candidate)
    ran = host.run(argv, deadline=NGINX_S, holds_lock=True)
    is_left_in = ran.exit in {None, sh.Exit.UNSYNCED}  # the candidate may be live still
    result = Result.UNKNOWN if is_left_in else Result.OK if ran.exit == 0 else Result.FAILED
    why = {Result.OK: Why.NONE, Result.FAILED: Why.BAD_CONFIG}.get(result, ran.why)
    said = _said(ran, "swapped in for the test and out again: no mount namespace is allowed here")
    return Took(result=result, said=said, why=why)


def _said(ran: Ran, way: str) -> str:
    return f"nginx -t passed ({way})" if ran.exit == 0 else f"nginx -t ({way}): {_words(ran)}"


def _words(ran: Ran) -> str:
    """nginx's own words, the ones that matter first."""
    if ran.exit is None:
        return ran.words
    lines = [printable(line) for line in ran.err.splitlines() if line.strip()]
    wrong = [line for line in lines if "[emerg]" in line] or [line for line in lines if "[warn]" in line] or lines
    return " / ".join(wrong[:3]) or f"exit {ran.exit}"
