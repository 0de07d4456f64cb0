"""The material of a run: its plan, and every byte that it will write, before it writes any."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime

import msgspec

from upswitch.basics.errors import HostError, Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.basics.value import Value
from upswitch.generations import generation, once, store
from upswitch.generations.check_lines import has_check, redacted
from upswitch.generations.generation import MANIFEST, MARKER, Manifest
from upswitch.generations.survey import Facts
from upswitch.health import rounds
from upswitch.hosts.host import Host, Ports
from upswitch.logs.line import HISTORY_S, LATE_S
from upswitch.nginx import configuration, drain_compare, running
from upswitch.nginx.drain_compare import Difference
from upswitch.nginx.drain_lines import LOST
from upswitch.site.model import Dialect, Generation, Site, Target, parse_name
from upswitch.site.names import prefix_of
from upswitch.sources import there
from upswitch.switch import run as runs_of
from upswitch.switch import warm, way_back
from upswitch.switch.candidate import Making
from upswitch.switch.machine import Step
from upswitch.switch.preflight import refuse_if
from upswitch.switch.run import Plan, Run
from upswitch.switch.session import Ask, Stand
from upswitch.switch.warm import Warmth
from upswitch.watch.attribution import Attribution
from upswitch.watch.tried import Live

_QUICK = 2.0
ANOTHER = "switch to another pool"
ROLLBACK_SKIPS = (Step.GATE, Step.WARM, Step.RECHECK, Step.ARM, Step.WATCH)


class Job(Value):
    """One run's material: the plan, the host as it was found, and every byte that will be written.

    `adopted` is a new manifest for the live generation, whose files a person edited (--adopt); b"" where they are as staged.
    `sick`: the unhealthy servers that a rollback leads to; `is_dead`: they are all that an upstream has.
    """

    site: Site
    plan: Plan
    facts: Facts
    files: Mapping[str, bytes]
    back_files: Mapping[str, bytes]
    new: tuple[Target, ...]
    old: tuple[Target, ...]
    addresses: tuple[str, ...] = ()
    warm_files: Mapping[str, bytes] = {}
    warmth: Warmth = Warmth()
    adopted: bytes = b""
    accept_one_way: bool = False
    taken_back: tuple[range, ...] = ()
    sick: tuple[str, ...] = ()
    is_dead: bool = False

    @property
    def flag_stays_down(self) -> str:
        """Why the drain flag is not raised though a location tests it; "" where it is, or where none does."""
        return flag_use(self.site, self.facts)[1]

    @property
    def attribution(self) -> Attribution:
        """How the watch assigns requests to the new and the former pool."""
        manifest = self.facts.disk.manifest
        return Attribution(
            generation=self.plan.to,
            addresses=frozenset(self.addresses),
            former_generation=self.plan.former,
            former_addresses=frozenset(manifest.addresses if manifest else ()),
            upstreams=frozenset(upstream.name for upstream in self.site.upstreams),
            ignores_app=self.site.watch.ignores_app,
            taken_back=self.taken_back,
        )

    @property
    def live(self) -> Live:
        """Who serves before the swap."""
        manifest = self.facts.disk.manifest
        return Live(pool=self.plan.former_pool, generation=self.plan.former, servers=manifest.servers if manifest else {})


def for_switch(ports: Ports, site: Site, ask: Ask, *, facts: Facts, runs: Iterable[Run], templates: Mapping[str, str]) -> Job:
    """A switch to `ask.pool`: rendered now, for this nginx. RefusedError where a template or a name fails."""
    names_of = _resolved(ports, site, ask.pool, facts)
    checked = {pool: rounds.checked(site, pool, names) for pool, names in names_of.items()}
    warmth = warm.needed(site, ask.pool, checked[ask.pool], facts)
    resolved = names_of[ask.pool]
    plan = planned(ask, *_live_and_next(facts, runs), has_warm=warmth.why != "", skips=_skips(site, facts, warmth))
    fixed = rounds.without_names(site, ask.pool, resolved)  # a name that stops resolving would keep nginx from starting
    making = Making(site=fixed, facts=facts, templates=templates, checked=checked)
    manifest = _manifest(ports, site, facts, plan, servers=rounds.servers(site, ask.pool, resolved))
    base, files = facts.disk.manifest or _bare(plan), _live_files(ports.host, site, facts)
    if plan.warm:
        base = msgspec.structs.replace(base, name=plan.warm, made_by=ask.run, made_at=ports.clock.now(), marker=site.nginx.marker)
        files = making.warm(plan, files)
    back = _copy_manifest(ports, ask, of=base, name=plan.back, replaces=plan.to)
    rendered = making.rendered(plan.to, manifest.servers)
    return Job(
        site=site,
        plan=plan,
        facts=facts,
        adopted=_adopted(ports.host, site, facts, plan) if facts.disk.drift else b"",
        files=generation.with_manifest(rendered, manifest),
        warm_files=generation.with_manifest(files, base) if plan.warm else {},
        back_files=generation.with_manifest(_back(rendered, files, of=plan.base, name=plan.back), back),
        new=rounds.targets(site, ask.pool, resolved, dialect=facts.dialect),
        old=rounds.staged_targets(site, facts.disk.manifest, dialect=facts.dialect) if facts.disk.manifest else (),
        addresses=manifest.addresses,
        warmth=warmth,
    )


def _manifest(ports: Ports, site: Site, facts: Facts, plan: Plan, *, servers: generation.Addresses) -> Manifest:
    """Of the new generation."""
    return Manifest(
        name=plan.to,
        pool=plan.pool,
        sha256={},
        replaces=plan.base,
        made_by=plan.run,
        made_at=ports.clock.now(),
        servers=dict(servers),
        sources={each.name: found.text for each in site.upstreams if (found := each.pool(plan.pool).source)},
        marker=site.nginx.marker,
        pid_file=facts.pid_file,
        error_log=facts.error_log,
        prefix=configuration.variable_prefix(facts.conf, live=site.nginx.live, otherwise=prefix_of(site.name)),
    )


def stand(ports: Ports, site: Site, facts: Facts) -> Stand:
    """Where this host stands before a rollback."""
    live = facts.disk.manifest
    before = store.read_manifests(ports.host, site.nginx).get(live.replaces) if live else None
    return Stand(
        run=live.made_by if live else "",
        pool=facts.disk.pool,
        before=before.pool if before else "",
        is_back=bool(live and live.copy_of),
    )


def for_rollback(
    ports: Ports,
    site: Site,
    ask: Ask,
    *,
    facts: Facts,
    runs: Collection[Run],
    origin: str,
    manifests: Mapping[str, Manifest],
    is_forced: bool = False,
) -> Job:
    """Generation `origin` (destination.py) as a copy with a new number; RefusedError where its pool is dead and not forced."""
    files = store.get(ports.host, site.nginx, origin)
    _refuse_damaged(origin, files, manifests[origin])
    now, looks = facts.disk.manifest, tuple[way_back.Look, ...]()
    if now is not None:
        looks = way_back.refuse_dead(ports, site, facts.dialect, back=manifests[origin], live=now, is_forced=is_forced)
    if any(map(has_check, files.values())):
        refuse_if(held_down(facts, manifests[origin], otherwise="choose another generation with --to N"))
    ask = msgspec.structs.replace(ask, pool=manifests[origin].pool, skips=ROLLBACK_SKIPS)
    plan = planned(ask, *_live_and_next(facts, runs), copy_of=origin, skips=_skips(site, facts, Warmth()))
    manifest = _copy_manifest(ports, ask, of=manifests[origin], name=plan.to, replaces=plan.former)
    back = _copy_manifest(ports, ask, of=facts.disk.manifest or _bare(plan), name=plan.back, replaces=plan.to)
    live = _live_files(ports.host, site, facts)
    without = once.refused(facts.conf, live=site.nginx.live) if facts.is_conf_read else ()
    new = generation.copied(files, of=origin, name=plan.to, without=without)
    return Job(
        site=site,
        plan=plan,
        facts=facts,
        files=generation.with_manifest(new, manifest),
        back_files=generation.with_manifest(_back(new, live, of=plan.former, name=plan.back), back),
        new=(),
        old=(),
        addresses=manifest.addresses,
        sick=way_back.sick_of(looks),
        is_dead=bool(way_back.dead_of(looks)),
    )


def _back(new: Mapping[str, bytes], live: Mapping[str, bytes], *, of: str, name: str) -> dict[str, bytes]:
    """The way back. A line that nginx takes only once may be another site's as soon as the new generation lacks it (once.py)."""
    lacking = once.missing(new.get(MARKER, b"").decode("utf-8", "replace"))
    return generation.copied(live, of=of, name=name, without=lacking)


def _adopted(host: Host, site: Site, facts: Facts, plan: Plan) -> bytes:
    """The manifest of the live generation with its files as they are now."""
    files = {name: data for name, data in _live_files(host, site, facts).items() if name != MANIFEST}
    return generation.with_manifest(files, facts.disk.manifest or _bare(plan))[MANIFEST]


def _live_files(host: Host, site: Site, facts: Facts) -> Mapping[str, bytes]:
    """As the survey read them."""
    return facts.live_files or store.get(host, site.nginx, facts.disk.live)


def _copy_manifest(ports: Ports, ask: Ask, *, of: Manifest, name: str, replaces: str) -> Manifest:
    return msgspec.structs.replace(
        of, name=name, sha256={}, replaces=replaces, copy_of=of.name, made_by=ask.run, made_at=ports.clock.now()
    )


def taken_back(ports: Ports, runs: Iterable[Run], *, at: int | None = None) -> tuple[range, ...]:
    """When releases served that were taken back, in the ten minutes before now or later than ten minutes before `at`.

    Unix time by the host's clock.
    """
    now = _unix(ports.clock.now())
    oldest = (now if at is None else at) - HISTORY_S
    spans = [range(int(_unix(begin)), int(_unix(end)) + LATE_S) for begin, end in runs_of.taken_back(runs)]
    recent = [span for span in spans if span.stop > oldest]
    ran = ports.host.run(("date", "+%s"), deadline=_QUICK) if recent else None
    ahead = round(int(ran.out) - now) if ran and ran.exit == 0 and ran.out.strip().isdigit() else 0
    return tuple(range(span.start + ahead, span.stop + ahead) for span in recent)


def _unix(at: str) -> float:
    """0 where it is no time."""
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0


def flag_use(site: Site, facts: Facts) -> tuple[bool, str]:
    """Whether a run raises the drain flag, and why not where a location tests it.

    It has an effect where nginx needs it and a location tests it. It stays down where that location would answer differently.
    """
    flag = site.nginx.drain_flag
    if site.nginx.drain <= 0 or not facts.build.needs_drain_flag:
        return False, ""
    found = tuple(jump for jump in drain_compare.jumps(facts.conf, flag=flag) if jump.flag == flag)
    unlike = drain_compare.differences(facts.conf, found)
    return bool(found) and not unlike, _stays_down(flag, unlike)


def _stays_down(flag: str, unlike: tuple[Difference, ...]) -> str:
    if not unlike:
        return ""
    others = f" and {len(unlike) - 1} more" if len(unlike) > 1 else ""
    return (
        f"The drain flag {flag} stays down, because a location would answer differently while it is up: {unlike[0].text}{others}. "
        f"This costs requests: {LOST}. `upswitch lint` shows each difference"
    )


def is_unchanged(host: Host, job: Job) -> bool:
    """Whether the switch would change nothing: the same pool, the same tokens, and both on disk and running."""
    plan, facts = job.plan, job.facts
    if plan.pool != plan.former_pool or facts.disk.drift:
        return False
    live = _live_files(host, job.site, facts)
    new = {name: data for name, data in job.files.items() if name.endswith(".conf")}
    return generation.is_same(new, live, names=(plan.to, plan.former))


def diff(host: Host, job: Job) -> str:
    """What would change in the files that nginx reads, as a unified diff. What a check sends may hold a secret and is not shown."""
    plan = job.plan
    live = _live_files(host, job.site, job.facts)
    names = sorted(name for name in live.keys() | job.files.keys() if name.endswith(".conf"))
    lines: list[str] = []
    for name in names:
        texts = (redacted(files.get(name, b"").decode("utf-8", "replace")) for files in (live, job.files))
        old, new = (text.splitlines(keepends=True) for text in texts)
        lines += difflib.unified_diff(old, new, f"{plan.former}/{name}", f"{plan.to}/{name}")
    return "".join(lines)


def _skips(site: Site, facts: Facts, warmth: Warmth) -> tuple[Step, ...]:
    """The steps that have no effect here."""
    drain = () if flag_use(site, facts)[0] else (Step.DRAIN,)
    warm = () if any(warmth.wanted.values()) else (Step.WARM,)
    arm = () if site.deadman.enabled else (Step.ARM,)
    return (*drain, *warm, *arm)


def _live_and_next(facts: Facts, runs: Iterable[Run]) -> tuple[Generation, int]:
    """The live generation, and the first number that was never used."""
    live = parse_name(facts.disk.live)
    if live is None:
        raise ValueError(f"no live generation: {facts.disk.live}")  # preflight refuses it before
    return live, next_number(facts.disk.generations, runs)


def _resolved(ports: Ports, site: Site, wanted: str, facts: Facts) -> dict[str, rounds.Resolved]:
    """The addresses of host names by pool. One of an idle pool that fails only leaves its standby without that server."""
    try:
        found = {wanted: _names(ports, site, wanted, facts)}
    except HostError as exc:
        raise RefusedError(Refusal(what=str(exc), hint="fix the name or the DNS of this host", why=Why.UNRESOLVED)) from exc
    is_checked = facts.dialect is not Dialect.NONE and any(upstream.check for upstream in site.upstreams)
    for pool in site.pools if is_checked else ():
        if pool != wanted:
            with suppress(HostError):
                found[pool] = _names(ports, site, pool, facts)
    return found


def _names(ports: Ports, site: Site, pool: str, facts: Facts) -> rounds.Resolved:
    """nginx asks its own name servers for those that it follows, and the host for the others."""
    ours = running.resolve_names(ports.host, site, pool, without="resolve")
    return {**ours, **there.followed(ports, site, pool, facts.conf)}


def _bare(plan: Plan) -> Manifest:
    """Of a live generation whose manifest can't be read (--adopt)."""
    return Manifest(name=plan.former, pool=plan.former_pool, sha256={})


def held_down(facts: Facts, manifest: Manifest, *, otherwise: str) -> tuple[Refusal, ...]:
    """nginx sends no request to a server that its own check holds down: going there would be an outage, as staying there is."""
    return tuple(_held_down(facts, manifest, otherwise))


def _held_down(facts: Facts, manifest: Manifest, otherwise: str) -> Iterator[Refusal]:
    for name, addresses in manifest.servers.items():
        seen = [facts.checked.find(address) if facts.checked else None for address in addresses]
        if seen and all(each is not None and not each.is_up for each in seen):
            down = ", ".join(each.text for each in seen if each)
            what = f"nginx's own health check holds every server of {name} in {manifest.pool} down: {down}"
            is_dead = all(each.fall for each in seen if each)
            start = "start these servers" if is_dead else "nginx still checks these servers: try again in some seconds"
            yield Refusal(what=what, hint=f"{start}; `upswitch status` shows them; or {otherwise}", why=Why.CHECK_DOWN)


def _refuse_damaged(name: str, files: Mapping[str, bytes], manifest: Manifest) -> None:
    damaged = [file for file, digest in manifest.sha256.items() if generation.digest(files.get(file, b"")) != digest]
    if damaged:
        what = f"files of generation {name} were changed or are missing: {', '.join(damaged)}"
        raise RefusedError(Refusal(what=what, hint="choose another one with --to N", why=Why.GENERATION_GONE))


# ---- the plan ----


def next_number(present: Iterable[Generation], runs: Iterable[Run]) -> int:
    """Above every number that was ever used."""
    used = [name for run in runs for name in (run.plan.to, run.plan.back, run.plan.warm)]
    return generation.next_number(present, used)


def planned(
    ask: Ask, live: Generation, number: int, *, copy_of: str = "", skips: tuple[Step, ...] = (), has_warm: bool = False
) -> Plan:
    """The plan of one run, with new numbers from `number` up. `skips` are steps that have no effect on this host."""
    first = number + 1 if has_warm else number
    return Plan(
        run=ask.run,
        command=ask.command,
        pool=ask.pool,
        former_pool=live.pool,
        former=live.name,
        to=Generation(number=first, pool=ask.pool).name,
        back=Generation(number=first + 1, pool=live.pool).name,
        warm=Generation(number=number, pool=live.pool).name if has_warm else "",
        copy_of=copy_of,
        skips=tuple(dict.fromkeys((*ask.skips, *skips))),
        reason=ask.reason,
        user=ask.user,
    )


def staying(ask: Ask, live: str, pool: str) -> Plan:
    """The plan of a host that has nothing to do."""
    return Plan(run=ask.run, command=ask.command, pool=pool, former_pool=pool, former=live, to=live, back=live)
