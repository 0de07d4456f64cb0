"""The generation that is to be live: rendered here, and tested before it is live. `nginx -t` on a live file would be too late."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from upswitch.basics.errors import Refusal, RefusedError
from upswitch.basics.result import Result, Took, Why
from upswitch.basics.text import printable
from upswitch.basics.value import Value
from upswitch.generations import generation, once
from upswitch.generations.generation import MARKER, STANDBY, Addresses, File, Manifest, Rendering, Standby, standbys
from upswitch.generations.survey import Facts
from upswitch.health import nginx_check
from upswitch.hosts import batch, sh
from upswitch.hosts.host import Host, Ran
from upswitch.nginx import commands, configuration
from upswitch.nginx.running import NGINX_S
from upswitch.site import model
from upswitch.site.model import Dialect, Nginx, Site
from upswitch.switch.run import Plan

_Render = Callable[[Site, Rendering, Mapping[str, str]], tuple[File, ...]]


class Making(Value):
    """What they are made from. `templates`: texts by name; `checked`: the servers under nginx's own check, by pool and upstream."""

    site: Site
    facts: Facts
    templates: Mapping[str, str]
    checked: Mapping[str, Addresses]

    def rendered(self, to: str, serving: Addresses) -> dict[str, bytes]:
        """A new generation: its pool serves, and every other server that is known stands by."""
        from upswitch.generations import limited, render  # noqa: PLC0415  (jinja2 takes 60 ms; only a switch needs it)

        return self._files(partial(render.render, run=limited.rendered), to, serving, self.facts.disk.manifest)

    def warm(self, plan: Plan, live: Mapping[str, bytes]) -> dict[str, bytes]:
        """What is live now, with every other server beside it as a standby."""
        from upswitch.generations.render import render_ours  # noqa: PLC0415  (as above)

        manifest = self.facts.disk.manifest
        kept = {name: data for name, data in live.items() if name not in {MARKER, STANDBY}}
        ours = self._files(render_ours, plan.warm, manifest.servers if manifest else {}, None)
        return {**generation.copied(kept, of=plan.former, name=plan.warm), **ours}

    def _files(self, render: _Render, to: str, serving: Addresses, former: Manifest | None) -> dict[str, bytes]:
        from upswitch.generations.render import RenderError  # noqa: PLC0415  (as above)

        name = model.parse_name(to)
        if name is None:
            highest = self.facts.disk.generations[-1].name
            raise RefusedError(
                Refusal(what=f"no number is left above generation {highest}", hint="remove that folder: upswitch did not make it")
            )
        facts = self.facts
        found = standbys(self.site, serving, known=self.checked, former=former) if facts.dialect is not Dialect.NONE else ()
        rendering = generation.rendering(self.site, facts.build, facts.conf, name, dialect=facts.dialect)
        rendering = msgspec.structs.replace(
            rendering, standbys=found, check_shm_size=rendering.check_shm_size or self._zone(serving, found)
        )
        try:
            return generation.encoded(render(self.site, rendering, self.templates))
        except RenderError as exc:
            raise RefusedError(Refusal(what=f"template {exc}", hint="fix the template", why=Why.TEMPLATE)) from exc

    def _zone(self, serving: Addresses, found: tuple[Standby, ...]) -> str:
        """A `check_shm_size` for all checked servers, standbys too; "" where the configuration has one or the default will do."""
        facts = self.facts
        if facts.dialect is Dialect.NONE or not once.may_hold(facts.conf, "check_shm_size", live=self.site.nginx.live):
            return ""
        others = [each for each in nginx_check.checked_of_conf(facts.conf) if not each.place.startswith(f"{self.site.nginx.live}/")]
        servers = [address for each in others for address in each.servers]
        servers += [address for each in serving.values() for address in each]
        servers += [address for each in found for address in each.addresses]
        is_enough = nginx_check.is_zone_enough(nginx_check.DEFAULT_ZONE, servers, facts.dialect)
        return "" if is_enough else nginx_check.advised_zone(servers, facts.dialect)


# ---- testing ----


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
    said = _said(ran, "the live link was changed for the test and put back: this host allows no mount namespace")
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
