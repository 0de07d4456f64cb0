"""Generations: names, manifests, and which one a way back leads to.

A number is never used twice: a pending reload of an old run would otherwise be taken for ours (an ABA error; seen in
4 of 84 recoveries). Going back therefore copies the former generation's files under a new number.
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from upswitch.basics.value import Value
from upswitch.site.words import Generation, parse_name

KEEP = 10


class Manifest(Value):
    """What a generation's folder holds and where it comes from.

    `sha256` is by file name. `replaces` is the generation that was live when this was staged. `copy_of` is set where the
    files are another generation's (a way back). `servers` are the pool's by upstream, as nginx logs them. `marker` is where it
    answers. `pid_file` and `error_log` are where nginx had them then, so that `status` need not ask `nginx -T`.
    """

    name: str
    pool: str
    sha256: dict[str, str]
    replaces: str = ""
    copy_of: str = ""
    made_by: str = ""
    made_at: str = ""
    servers: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    marker: str = ""
    pid_file: str = ""
    error_log: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all upstreams, each once."""
        return tuple(dict.fromkeys(address for servers in self.servers.values() for address in servers))


def next_number(present: Iterable[Generation], used: Iterable[str]) -> int:
    """One above every number on disk and every number the journal ever named."""
    numbers = [generation.number for generation in present]
    numbers += [generation.number for generation in map(parse_name, used) if generation is not None]
    return max(numbers, default=0) + 1


def digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest | None:
    """None where the bytes are no manifest of ours."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError:
        return None


def way_back(live: str, manifests: Mapping[str, Manifest]) -> str | None:
    """The generation that `rollback` leads to: what the live one replaced; None where there is none, or no safe one.

    A live generation that is itself a way back has none: what it replaced is the release that has just failed, and what came
    before has, as a rule, that release's servers. A person who wants to go on from there names a generation.
    """
    manifest = manifests.get(live)
    if manifest is None or manifest.copy_of or manifest.replaces not in manifests:
        return None
    return manifest.replaces


def to_prune(present: Iterable[Generation], keep: Iterable[str]) -> tuple[str, ...]:
    """Names of generations that may be deleted: all but the KEEP highest and those in `keep`."""
    names = [generation.name for generation in sorted(present, key=lambda generation: generation.number)]
    kept = {*names[-KEEP:], *keep}
    return tuple(name for name in names if name not in kept)


class Live(Value):
    """What serves on one host, as read at the end: never remembered. "" is "could not be read"."""

    disk: str
    running: str
    pool: str
    problem: str = ""

    @property
    def agrees(self) -> bool:
        return self.disk != "" and self.disk == self.running and not self.problem

    @property
    def text(self) -> str:
        """One sentence: which pool, and how we know."""
        if self.agrees:
            return f"{self.pool} serves: nginx answers {self.running}, and so does the disk (read just now)"
        said = f"nginx answers {self.running or 'nothing'}, the disk says {self.disk or 'nothing'}"
        return f"NOT PROVED: {said}" + (f"; {self.problem}" if self.problem else "")
