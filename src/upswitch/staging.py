"""Generations on a host: making them, reading them, and pointing the live link at one."""

from collections.abc import Mapping

from upswitch.core import scripts, tree
from upswitch.core.errors import HostError
from upswitch.core.foreign import told
from upswitch.core.generation import decode_manifest, digest
from upswitch.core.run import Took
from upswitch.core.site import Nginx
from upswitch.core.words import Result
from upswitch.ports import Host

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
    ran = host.run(argv, deadline=_DEADLINE, stdin=tree.pack(files), holds_lock=True)
    names = ", ".join(generations)
    match ran.exit:
        case 0:
            return Took(result=Result.OK, said=names)
        case None:
            return Took(result=Result.UNKNOWN, said=ran.words)
        case scripts.CHANGED:
            return Took(result=Result.FAILED, said=f"{nginx.dir}/{ran.words}")
        case _:
            return Took(result=Result.FAILED, said=f"{nginx.dir}/generations/{names}: {ran.words}")


def get(host: Host, nginx: Nginx, name: str) -> dict[str, bytes]:
    """The files of a generation, manifest and all. HostError where it can't be read."""
    ran = host.run(scripts.fetch(nginx.dir, name), deadline=_DEADLINE)
    if ran.exit != 0:
        raise HostError(f"read {nginx.dir}/generations/{name}", ran.words)
    try:
        return tree.unpack(ran.out)
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
        case scripts.CHANGED:
            return Took(result=Result.FAILED, said=f"{live} no longer points to {expect}: somebody else changed it")
        case scripts.NOT_THERE:
            return Took(result=Result.FAILED, said=f"generation {to} is not there")
        case scripts.NOT_DONE | scripts.NO_FOLDER:
            return Took(result=Result.FAILED, said=f"{live} could not be changed: {ran.words}")
        case _:
            return Took(result=Result.UNKNOWN, said=f"{live} may or may not have changed: {ran.words}")
