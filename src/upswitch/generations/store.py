"""Generations on a host: making them, reading them, and pointing the live link at one."""

import io
import tarfile
from collections.abc import Mapping

from upswitch.basics.errors import HostError
from upswitch.basics.result import Result, Took
from upswitch.basics.text import told
from upswitch.basics.value import Value
from upswitch.generations import generation, scripts
from upswitch.generations.generation import Manifest, decode_manifest, digest
from upswitch.hosts import sh
from upswitch.hosts.host import Host, Ran
from upswitch.hosts.sh import QUICK_S
from upswitch.site import words
from upswitch.site.model import Nginx
from upswitch.site.words import Generation

# A folder of small files as one tar, the form in which generations travel to and from a host.

_DEADLINE = 20.0  # seconds for a script that writes and syncs a few small files


def prepare(host: Host, nginx: Nginx) -> None:
    """Our folders, with their owner and mode checked. HostError names the one that can't be used."""
    ran = host.run(scripts.folders(nginx.dir, nginx.state), deadline=_DEADLINE)
    if ran.exit == 0:
        return
    why = ran.why or told(ran.err) or f"{nginx.state} is a link, belongs to someone else, or others may write it"
    raise HostError(f"use {nginx.dir} and {nginx.state}", why)


def put(host: Host, nginx: Nginx, name: str, files: Mapping[str, bytes]) -> Took:
    """Write one complete generation. One that is there already is never overwritten."""
    return stage(host, nginx, {name: files})


def stage(host: Host, nginx: Nginx, generations: Mapping[str, Mapping[str, bytes]], *, back: str = "") -> Took:
    """Write them all, and make the link ready that leads to `back`."""
    files = {f"{name}/{file}": data for name, each in generations.items() for file, data in each.items()}
    argv = scripts.stage(nginx.dir, tuple(generations), back=back)
    ran = host.run(argv, deadline=_DEADLINE, stdin=pack(files), holds_lock=True)
    names = ", ".join(generations)
    match ran.exit:
        case 0:
            return Took(result=Result.OK, said=names)
        case None:
            return Took(result=Result.UNKNOWN, said=ran.words)
        case sh.Exit.CHANGED:
            return Took(result=Result.FAILED, said=f"{nginx.dir}/{ran.words}")
        case _:
            return Took(result=Result.FAILED, said=f"{nginx.dir}/generations/{names}: {ran.words}")


def get(host: Host, nginx: Nginx, name: str) -> dict[str, bytes]:
    """The files of a generation, manifest and all. HostError where it can't be read."""
    ran = host.run(scripts.fetch(nginx.dir, name), deadline=_DEADLINE)
    if ran.exit != 0:
        raise HostError(f"read {nginx.dir}/generations/{name}", ran.words)
    try:
        return unpack(ran.out)
    except ValueError as exc:
        raise HostError(f"read {nginx.dir}/generations/{name}", str(exc)) from exc


def is_whole(host: Host, nginx: Nginx, name: str) -> bool:
    """Whether a generation is on disk as it was staged."""
    try:
        files = get(host, nginx, name)
    except HostError:
        return False
    manifest = decode_manifest(files.get("manifest.json", b""))
    return manifest is not None and all(digest(files.get(file, b"")) == sum_ for file, sum_ in manifest.sha256.items())


def point(host: Host, nginx: Nginx, *, expect: str, to: str) -> Took:
    """Point the live link at `to`, if it points to `expect` now: one rename, synced. FAILED: it still points where it did."""
    ran = host.run(scripts.swap(nginx.dir, expect=expect, to=to), deadline=_DEADLINE, holds_lock=True)
    live = f"{nginx.dir}/live"
    match ran.exit:
        case 0:
            return Took(result=Result.OK, said=f"{live} -> generations/{to}")
        case sh.Exit.CHANGED:
            return Took(result=Result.FAILED, said=f"{live} no longer points to {expect}: somebody else changed it")
        case sh.Exit.NOT_THERE:
            return Took(result=Result.FAILED, said=f"generation {to} is not there")
        case sh.Exit.NOT_DONE | sh.Exit.NO_FOLDER:
            return Took(result=Result.FAILED, said=f"{live} could not be changed: {ran.words}")
        case _:
            return Took(result=Result.UNKNOWN, said=f"{live} may or may not have changed: {ran.words}")


def pack(files: Mapping[str, bytes]) -> bytes:
    """A tar of `files` by path, each folder's manifest last (where it is, all are), mode 0640: they hold internal addresses."""
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
    return folder, name == "manifest.json", name


def unpack(data: bytes) -> dict[str, bytes]:
    """Regular files of a tar, by name without its folders. ValueError for what is no tar."""
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


class Disk(Value):
    """The upswitch folder. `live` is the generation the link points to ("" for none); `drift` names files not as staged."""

    live: str = ""
    generations: tuple[Generation, ...] = ()
    manifest: Manifest | None = None
    drift: tuple[str, ...] = ()

    @property
    def pool(self) -> str:
        return self.manifest.pool if self.manifest else ""


def read_disk(host: Host, nginx: Nginx) -> Disk:
    """One script. HostError where the host can't be asked."""
    return disk_of(nginx, host.run(scripts.look(nginx.dir), deadline=QUICK_S))


def disk_of(nginx: Nginx, ran: Ran) -> Disk:
    if ran.exit != 0:
        raise HostError(f"look at {nginx.dir}", ran.words)
    found: dict[str, list[str]] = {"live": [], "generation": [], "sum": [], "manifest": []}
    for line in ran.out.decode("utf-8", "backslashreplace").splitlines():
        kind, _, rest = line.partition(" ")
        found.setdefault(kind, []).append(rest)
    folder, _, live = "".join(found["live"]).partition("/")
    manifest = generation.decode_manifest(found["manifest"][0].encode()) if found["manifest"] else None
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in found["sum"])}
    return Disk(
        live=live if folder == "generations" and words.parse_name(live) else "",
        generations=words.parse_names(found["generation"]),
        manifest=manifest,
        drift=_drift(sums, manifest) if live else (),
    )


def _drift(sums: dict[str, str], manifest: Manifest | None) -> tuple[str, ...]:
    """Names of live files that differ from the manifest, are missing, or are not in it."""
    if manifest is None:
        return ("manifest.json",)
    expected = {name: digest for name, digest in manifest.sha256.items() if name.endswith(".conf")}
    return tuple(sorted(name for name in expected.keys() | sums.keys() if expected.get(name) != sums.get(name)))


def read_manifests(host: Host, nginx: Nginx) -> dict[str, Manifest]:
    """Every generation's manifest by name; a folder without a readable one is left out."""
    ran = host.run(scripts.manifests(nginx.dir), deadline=QUICK_S)
    if ran.exit != 0:
        raise HostError(f"read the manifests in {nginx.dir}", ran.words)
    found = [generation.decode_manifest(line) for line in ran.out.splitlines()]
    return {manifest.name: manifest for manifest in found if manifest is not None}
