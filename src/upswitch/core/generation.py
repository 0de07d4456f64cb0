"""Generations: names, manifests, and which one a way back leads to.

A number is never used twice: a pending reload of an old run would otherwise be taken for ours (an ABA error; seen in
4 of 84 recoveries). Going back therefore copies the former generation's files under a new number.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

import msgspec

from upswitch.core.words import Value

_NAME = re.compile(r"([0-9]{6,9})-([A-Za-z0-9_-]{1,64})\Z")
KEEP = 10


class Generation(Value):
    """One rendered configuration: `number` only goes up; `name` is its folder and what nginx's marker answers."""

    number: int
    pool: str

    @property
    def name(self) -> str:
        return f"{self.number:06d}-{self.pool}"


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


def parse_name(text: str) -> Generation | None:
    """`000042-B` -> Generation; None for any other text."""
    match = _NAME.match(text)
    found = Generation(number=int(match[1]), pool=match[2]) if match else None
    return found if found and found.name == text else None  # `0000042-B` would be another folder than the one it names


def parse_names(names: Iterable[str]) -> tuple[Generation, ...]:
    """The generations among the names of a folder, lowest number first; anything else in the folder is not ours."""
    found = [generation for generation in map(parse_name, names) if generation is not None]
    return tuple(sorted(found, key=lambda generation: generation.number))


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
