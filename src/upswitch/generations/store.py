"""Generations on a host: writing them, reading them, and pointing the live link at one.

Each act is one program of store.sh or swap.sh. A folder of small files travels to and from a host as one tar.
"""

import io
import tarfile
from collections.abc import Mapping

from upswitch.basics.errors import HostError, UntrustedError
from upswitch.basics.result import Result, Took, Why
from upswitch.basics.text import told
from upswitch.basics.value import Value
from upswitch.generations.generation import MANIFEST, Manifest, decode_manifest, digest
from upswitch.hosts.host import Host, Ran
from upswitch.hosts.sh import QUICK_S, SH, WRITE_S, Exit, script
from upswitch.site.model import Generation, Nginx, parse_name, parse_names


class Disk(Value):
    """The upswitch folder. `live` is the generation that the link points to, or "". `drift` names live files not as staged."""

    live: str = ""
    generations: tuple[Generation, ...] = ()
    manifest: Manifest | None = None
    drift: tuple[str, ...] = ()

    @property
    def pool(self) -> str:
        return self.manifest.pool if self.manifest else ""


def _program(function: str, *words: str) -> tuple[str, ...]:
    return (*SH, script("upswitch.generations", "store.sh"), function, *words)


# ---- writing ----


def prepare(host: Host, nginx: Nginx, *, is_incident: bool = False) -> UntrustedError | None:
    """Make our two folders and check who may write them. HostError, and UntrustedError, name what can't be used.

    In an incident a folder that others may write is only returned, where everything in our folders is ours (docs/reliability.md).
    """
    ran = host.run(_program("folders", nginx.dir, nginx.state, "incident" if is_incident else ""), deadline=WRITE_S)
    if ran.exit == 0:
        return UntrustedError(*map(told, ran.out.splitlines())) if ran.out else None
    if ran.exit == Exit.OTHERS_MAY_WRITE:
        raise UntrustedError(*map(told, ran.out.splitlines()))
    reason = ran.reason or told(ran.err) or f"{nginx.state} is a link"
    raise HostError(f"use {nginx.dir} and {nginx.state}", reason, why=ran.why or Why.DENIED)


def stage(host: Host, nginx: Nginx, generations: Mapping[str, Mapping[str, bytes]], *, back: str = "") -> Took:
    """Write all these complete generations. An existing one is never overwritten.

    `back` is the one that a rollback leads to: its link is made ready beforehand.
    """
    files = {f"{name}/{file}": data for name, each in generations.items() for file, data in each.items()}
    ran = host.run(stage_argv(nginx.dir, tuple(generations), back=back), deadline=WRITE_S, stdin=pack(files), holds_lock=True)
    names = ", ".join(generations)
    match ran.exit:
        case 0:
            return Took(result=Result.OK, said=names)
        case None:
            return Took(result=Result.UNKNOWN, said=ran.words, why=ran.why)
        case Exit.CHANGED:
            return Took(result=Result.FAILED, said=f"{nginx.dir}/{ran.words}", why=Why.MOVED)
        case _:
            return Took(result=Result.FAILED, said=f"{nginx.dir}/generations/{names}: {ran.words}", why=ran.why)


def stage_argv(folder: str, names: tuple[str, ...], *, back: str = "") -> tuple[str, ...]:
    """It reads a tar of these generations on stdin."""
    return _program("stage", folder, back, *names)


def prune_argv(folder: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return _program("prune", folder, *names)


def point(host: Host, nginx: Nginx, *, expect: str, to: str) -> Took:
    """Point the live link at `to` by one synced rename, if it points to `expect` now. FAILED: it still points where it did."""
    ran = host.run(swap_argv(nginx.dir, expect=expect, to=to), deadline=WRITE_S, holds_lock=True)
    live = f"{nginx.dir}/live"
    match ran.exit:
        case 0:
            return Took(result=Result.OK, said=f"{live} -> generations/{to}")
        case Exit.CHANGED:
            return Took(result=Result.FAILED, said=f"{live} no longer points to {expect}: somebody else changed it", why=Why.MOVED)
        case Exit.NOT_THERE:
            return Took(result=Result.FAILED, said=f"generation {to} does not exist", why=Why.GENERATION_GONE)
        case Exit.NOT_DONE | Exit.NO_FOLDER:
            return Took(result=Result.FAILED, said=f"{live} could not be changed: {ran.words}", why=ran.why)
        case _:
            return Took(result=Result.UNKNOWN, said=f"{live} may or may not have changed: {ran.words}", why=ran.why)


def swap_argv(folder: str, *, expect: str, to: str) -> tuple[str, ...]:
    return (*SH, script("upswitch.generations", "swap.sh"), "swap", folder, expect, to)


# ---- reading ----


def get(host: Host, nginx: Nginx, name: str) -> dict[str, bytes]:
    """The files of a generation with its manifest. HostError where they can't be read."""
    ran = host.run(tar_argv(f"{nginx.dir}/generations/{name}"), deadline=WRITE_S)
    if ran.exit != 0:
        raise HostError(f"read {nginx.dir}/generations/{name}", ran.words, why=ran.why)
    try:
        return unpack(ran.out)
    except ValueError as exc:
        raise HostError(f"read {nginx.dir}/generations/{name}", str(exc)) from exc


def tar_argv(folder: str) -> tuple[str, ...]:
    """A generation's files as a tar on stdout."""
    return ("tar", "-cf", "-", "-C", f"{folder}/", ".")


def is_whole(host: Host, nginx: Nginx, name: str) -> bool:
    """Whether a generation is on disk as it was staged."""
    try:
        files = get(host, nginx, name)
    except HostError:
        return False
    manifest = decode_manifest(files.get(MANIFEST, b""))
    return manifest is not None and all(digest(files.get(file, b"")) == sum_ for file, sum_ in manifest.sha256.items())


def read_disk(host: Host, nginx: Nginx) -> Disk:
    """HostError where the host can't be asked."""
    return disk_from(nginx, host.run(look_argv(nginx.dir), deadline=QUICK_S))


def look_argv(folder: str) -> tuple[str, ...]:
    return _program("look", folder)


def disk_from(nginx: Nginx, ran: Ran) -> Disk:
    """What `look_argv` found."""
    if ran.exit != 0:
        raise HostError(f"look at {nginx.dir}", ran.words, why=ran.why)
    found: dict[str, list[str]] = {"live": [], "generation": [], "sum": [], "manifest": []}
    for line in ran.out.decode("utf-8", "backslashreplace").splitlines():
        kind, _, rest = line.partition(" ")
        found.setdefault(kind, []).append(rest)
    folder, _, live = "".join(found["live"]).partition("/")
    manifest = decode_manifest(found["manifest"][0].encode()) if found["manifest"] else None
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in found["sum"])}
    return Disk(
        live=live if folder == "generations" and parse_name(live) else "",
        generations=parse_names(found["generation"]),
        manifest=manifest,
        drift=_drift(sums, manifest) if live else (),
    )


def _drift(sums: dict[str, str], manifest: Manifest | None) -> tuple[str, ...]:
    """Names of the live files that differ from the manifest, are missing, or are not in it."""
    if manifest is None:
        return (MANIFEST,)
    expected = {name: digest for name, digest in manifest.sha256.items() if name.endswith(".conf")}
    return tuple(sorted(name for name in expected.keys() | sums.keys() if expected.get(name) != sums.get(name)))


def read_manifests(host: Host, nginx: Nginx) -> dict[str, Manifest]:
    """Every generation's manifest by name; a folder without a readable one is left out."""
    ran = host.run(_program("manifests", nginx.dir), deadline=QUICK_S)
    if ran.exit != 0:
        raise HostError(f"read the manifests in {nginx.dir}", ran.words, why=ran.why)
    found = [decode_manifest(line) for line in ran.out.splitlines()]
    return {manifest.name: manifest for manifest in found if manifest is not None}


# ---- tar ----


def pack(files: Mapping[str, bytes]) -> bytes:
    """A tar of `files` by path, with mode 0640: they hold internal addresses. Each folder's manifest comes last."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in sorted(files.items(), key=_place):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o640
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _place(file: tuple[str, bytes]) -> tuple[str, bool, str]:
    folder, _, name = file[0].rpartition("/")
    return folder, name == MANIFEST, name


def unpack(data: bytes) -> dict[str, bytes]:
    """The regular files of a tar, by name without folders. ValueError where the bytes are no tar."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for entry in tar:
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is not None:
                    files[entry.name.rpartition("/")[2]] = content.read()
    except tarfile.TarError as exc:
        raise ValueError(f"not a tar: {exc}") from exc
    return files
