"""The sources that the machine reads that upswitch runs on: once for a command, before any host is asked."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from msgspec.structs import replace

from upswitch.basics.errors import UntrustedError
from upswitch.basics.text import told
from upswitch.hosts.local import opened, trusted
from upswitch.site.model import Pool, Server, Site, Upstream
from upswitch.site.source import (
    CommandSource,
    ConsulSource,
    ContainersSource,
    DnsSource,
    EtcdSource,
    FileSource,
    GivenServers,
    Source,
    SrvSource,
)
from upswitch.sources import listed
from upswitch.sources.listed import LARGEST, SourceError

_PART = 65536
_WORDS = 2000  # bytes of a command's error output


def read(site: Site, pool: str, given: Mapping[str, tuple[Server, ...]]) -> Site:
    """The site with the servers of `pool`, of those in `given` by the name of their upstream. RefusedError."""
    return listed.filled(_with(site, pool, given), pool, lambda _, source: _servers(source))


def _with(site: Site, name: str, given: Mapping[str, tuple[Server, ...]]) -> Site:
    def taken(upstream: Upstream, pool: Pool) -> Pool:
        servers = given.get(upstream.name) if pool.name == name else None
        return replace(pool, servers=servers, source=GivenServers()) if servers else pool

    upstreams = (replace(each, pools=tuple(taken(each, pool) for pool in each.pools)) for each in site.upstreams)
    return replace(site, upstreams=tuple(upstreams))


def _servers(source: Source) -> tuple[Server, ...] | None:
    match source:
        case FileSource():
            return listed.servers(_file(source.path), is_toml=source.path.endswith(".toml"))
        case CommandSource():
            return listed.servers(_command(source.argv, source.deadline))
        case EtcdSource() | ConsulSource():
            from upswitch.sources import registry  # noqa: PLC0415  (httpx takes 120 ms)

            return registry.of_etcd(source) if isinstance(source, EtcdSource) else registry.of_consul(source)
        case GivenServers() | DnsSource() | SrvSource() | ContainersSource():
            return None


def _file(path: str) -> bytes:
    """A regular file that nobody else may change, as of the site file: it says where requests go."""
    try:
        with open(opened.regular(path), "rb") as file:
            trusted.check(path)
            return file.read(LARGEST + 1)
    except UntrustedError as exc:
        raise SourceError(f"{exc.reason}; `{exc.fix}` ends that") from exc
    except OSError as exc:
        raise SourceError(exc.strerror or str(exc)) from exc


def _command(argv: Sequence[str], deadline: float) -> bytes:
    """Its stdout. It has a session of its own, and what it leaves behind ends with it."""
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as exc:
        raise SourceError(f"it can't be started: {exc.strerror}") from exc
    with process:
        try:
            out, err = _outputs(process, time.monotonic() + deadline)
            code = process.wait(_LINGER_S) if len(out) <= LARGEST else 0
        except TimeoutError as exc:
            raise SourceError(f"no end within {deadline:g} s") from exc
        except subprocess.TimeoutExpired as exc:
            raise SourceError("it closed its output and did not end") from exc
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if code == 0:
        return out
    said = told(err[-_WORDS:])
    raise SourceError(f"{f'exit {code}' if code > 0 else f'killed by signal {-code}'}{f': {said}' if said else ''}")


_LINGER_S = 1.0


def _outputs(process: subprocess.Popen[bytes], until: float) -> tuple[bytes, bytes]:
    """Both outputs to their end, or the first LARGEST bytes. TimeoutError."""
    found = {process.stdout: b"", process.stderr: b""}
    with selectors.DefaultSelector() as selector:
        for stream in filter(None, (process.stdout, process.stderr)):
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and len(found[process.stdout]) <= LARGEST:
            ready = selector.select(max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                data = os.read(key.fd, _PART)
                if not data:
                    selector.unregister(key.fileobj)
                kept = found[key.fileobj] + data  # type: ignore[index]
                found[key.fileobj] = kept if key.fileobj is process.stdout else kept[-_WORDS:]  # type: ignore[index]
    return found[process.stdout], found[process.stderr]
