"""What goes into a rendering and what comes out, without the engine between them (jinja2 takes 60 ms to import)."""

from collections.abc import Iterable, Mapping

import msgspec

from upswitch.basics.value import Value
from upswitch.generations import generation
from upswitch.generations.check_lines import trusting
from upswitch.generations.generation import Manifest
from upswitch.generations.standby import Standby
from upswitch.nginx import configuration
from upswitch.nginx.build import Build
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.statements import StatementError, tokens
from upswitch.site.model import Nginx
from upswitch.site.words import Dialect, Generation

MARKER = "marker.conf"


class File(Value):
    """One file of a generation; `name` is bare."""

    name: str
    text: str


class Rendering(Value):
    """What one generation is besides the site. `min_timeout`, `drain_flag` and `check_shm_size` "" leave their lines out."""

    generation: str
    pool: str
    min_timeout: str
    drain_flag: str
    stub_status: bool
    dialect: Dialect = Dialect.NONE
    check_shm_size: str = ""
    standbys: tuple[Standby, ...] = ()


def rendering(nginx: Nginx, build: Build, conf: NginxConf, name: Generation, *, dialect: Dialect) -> Rendering:
    """What a generation holds on this nginx: the cure for requests lost at a reload that fits it, and its dialect of `check`."""
    seconds = nginx.drain
    owner_has_it = configuration.defined_elsewhere(conf, "keepalive_min_timeout", live=nginx.live) is not None
    has_size = configuration.defined_elsewhere(conf, "check_shm_size", live=nginx.live) is not None
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
