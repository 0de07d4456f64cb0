"""From a site, a host's facts and the journal to a plan, or to the reasons why there is none. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from upswitch.core import generation, nginxconf
from upswitch.core.build import Build
from upswitch.core.checklines import trusting
from upswitch.core.dump import NginxConf
from upswitch.core.generation import Generation, Manifest
from upswitch.core.rendering import MARKER, File, Rendering
from upswitch.core.run import Plan, Run
from upswitch.core.site import Nginx
from upswitch.core.statements import StatementError, tokens
from upswitch.core.words import Dialect, Step, Value

ROLLBACK_SKIPS = (Step.GATE, Step.WARM, Step.RECHECK, Step.ARM, Step.WATCH)


class Ask(Value):
    """What the caller wants. `skips` are steps left out by choice."""

    run: str
    command: str
    pool: str
    reason: str = ""
    user: str = ""
    skips: tuple[Step, ...] = ()


class Names(Value):
    """The generations of one run: `former` is live, `to` is to be, `back` is the prepared way back.

    `warm` is the former one with the new pool as a standby beside it, "" where nginx's own check needs none.
    """

    former: str
    former_pool: str
    to: str
    back: str
    warm: str = ""

    @property
    def base(self) -> str:
        """What is live just before the swap."""
        return self.warm or self.former


def names(live: Generation, pool: str, *, number: int, has_warm: bool = False) -> Names:
    """New numbers from `number` up."""
    first = number + 1 if has_warm else number
    return Names(
        former=live.name,
        former_pool=live.pool,
        to=Generation(number=first, pool=pool).name,
        back=Generation(number=first + 1, pool=live.pool).name,
        warm=Generation(number=number, pool=live.pool).name if has_warm else "",
    )


def next_number(present: Iterable[Generation], runs: Iterable[Run]) -> int:
    """Above all that were ever used."""
    used = [name for run in runs for name in (run.plan.to, run.plan.back, run.plan.warm)]
    return generation.next_number(present, used)


def plan(ask: Ask, found: Names, *, copy_of: str = "", skips: tuple[Step, ...] = ()) -> Plan:
    """The plan of one run. `skips` are steps that have no effect on this host."""
    return Plan(
        run=ask.run,
        command=ask.command,
        pool=ask.pool,
        former_pool=found.former_pool,
        former=found.former,
        to=found.to,
        back=found.back,
        warm=found.warm,
        copy_of=copy_of,
        skips=tuple(dict.fromkeys((*ask.skips, *skips))),
        reason=ask.reason,
        user=ask.user,
    )


def staying(ask: Ask, live: str, pool: str) -> Plan:
    """Of a host that has nothing to do."""
    return Plan(run=ask.run, command=ask.command, pool=pool, former_pool=pool, former=live, to=live, back=live)


def rendering(nginx: Nginx, build: Build, conf: NginxConf, name: Generation, *, dialect: Dialect) -> Rendering:
    """What a generation holds on this nginx: the cure for requests lost at a reload that fits it, and its dialect of `check`."""
    seconds = nginx.drain
    owner_has_it = nginxconf.defined_elsewhere(conf, "keepalive_min_timeout", live=nginx.live) is not None
    has_size = nginxconf.defined_elsewhere(conf, "check_shm_size", live=nginx.live) is not None
    return Rendering(
        generation=name.name,
        pool=name.pool,
        min_timeout=f"{round(seconds * 1000)}ms" if seconds > 0 and build.has_min_timeout and not owner_has_it else "",
        drain_flag=nginx.drain_flag if seconds > 0 and build.needs_drain_flag else "",
        stub_status=build.has_stub_status,
        dialect=dialect,
        check_shm_size="" if dialect is Dialect.NONE or has_size else nginx.check_shm_size,
    )


def copied(files: Mapping[str, bytes], *, of: str, name: str) -> dict[str, bytes]:
    """The files of generation `of` under a new name: byte for byte, but for the name that the marker answers with.

    Where nginx has a check module its servers are not down at first: see `trusting`. They served before.
    """
    return {
        file: data.replace(of.encode(), name.encode()) if file == MARKER else _trusting(data)
        for file, data in files.items()
        if file.endswith(".conf")
    }


def _trusting(data: bytes) -> bytes:
    """A file that can't be read as text or as statements is left as it is: nginx, which served it, judges it."""
    try:
        return trusting(data.decode()).encode()
    except (UnicodeDecodeError, StatementError):
        return data


def encoded(files: Iterable[File]) -> dict[str, bytes]:
    return {file.name: file.text.encode() for file in files}


def with_manifest(files: Mapping[str, bytes], manifest: Manifest) -> dict[str, bytes]:
    """The complete folder of a generation. The manifest's hashes are filled in here."""
    sums = {name: generation.digest(data) for name, data in files.items()}
    complete = msgspec.structs.replace(manifest, sha256=sums)
    return {**files, "manifest.json": generation.encode_manifest(complete)}


def is_same(new: Mapping[str, bytes], live: Mapping[str, bytes], *, names: tuple[str, str]) -> bool:
    """Whether a switch would change nothing: the same files with the same tokens, but for the generation's name (new, live).

    And but for `default_down`: in what serves it is false whatever the site says, and a copy has it so in its standbys too.
    """
    renamed = {name: _trusting(data.replace(names[0].encode(), names[1].encode())) for name, data in new.items()}
    configured = {name: _trusting(data) for name, data in live.items() if name.endswith(".conf")}
    if renamed.keys() != configured.keys():
        return False
    try:
        return all(_tokens(data) == _tokens(configured[name]) for name, data in renamed.items())
    except StatementError:
        return False  # a live file that can't be read is not what we would write


def _tokens(data: bytes) -> tuple[str, ...]:
    return tokens(data.decode("utf-8", "replace"))
