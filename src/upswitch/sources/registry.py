"""The registries etcd and Consul, asked over HTTP from the machine that upswitch runs on: who is registered and healthy now."""

import re
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec

from upswitch.basics.errors import UntrustedError
from upswitch.basics.text import plain, printable
from upswitch.basics.value import Value
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local import opened, trusted
from upswitch.hosts.wait import until
from upswitch.site.model import Server
from upswitch.site.source import Access, ConsulSource, EtcdSource
from upswitch.sources import listed
from upswitch.sources.listed import LARGEST, SourceError

_AGAIN_S = 3.0  # the last try begins by then
_TRY_S = 4.0
_EVERY_S = 1.0
_WORDS = 200
_TOKEN = re.compile(r"[!-~]{1,4000}")


class _Pair(Value):
    key: bytes
    value: bytes = b""


class _Range(Value):
    """etcd's RangeResponse: bytes in base64, no `kvs` where nothing was found."""

    kvs: tuple[_Pair, ...] = ()
    more: bool = False


class _Node(Value, rename="pascal"):
    address: str


class _Weights(Value, rename="pascal"):
    passing: int = 1


class _Service(Value, rename="pascal"):
    port: int
    address: str = ""
    weights: _Weights = _Weights()


class _Check(Value, rename="pascal"):
    status: str


class _Instance(Value, rename="pascal"):
    """An entry of Consul's /v1/health/service."""

    node: _Node
    service: _Service
    checks: tuple[_Check, ...] = ()


def of_etcd(source: EtcdSource) -> tuple[Server, ...]:
    """The values of all keys under the prefix: a `server` line each. A registration whose lease ended has no key. SourceError."""
    start = source.prefix.encode()
    end = start[:-1] + bytes([start[-1] + 1])  # the prefix is ASCII
    question = {"key": b64encode(start).decode(), "range_end": b64encode(end).decode()}
    token = _token(source.access)
    headers = {"Authorization": token} if token else {}
    found = _decoded(
        _asked(source.access, httpx.Request("POST", f"{source.url}/v3/kv/range", json=question, headers=headers)), _Range
    )
    if found.more:
        raise SourceError("etcd gave only a part of the keys")
    return listed.parsed((printable(each.key), each.value.decode("ascii", "backslashreplace").strip()) for each in found.kvs)


def of_consul(source: ConsulSource) -> tuple[Server, ...]:
    """The instances of the service whose checks all pass. SourceError."""
    token = _token(source.access)
    headers = {"X-Consul-Token": token} if token else {}
    parameters = {"passing": "1", **({"tag": source.tag} if source.tag else {})}
    url = httpx.URL(f"{source.url}/v1/health/service/{source.service}", params=parameters)
    found = _decoded(_asked(source.access, httpx.Request("GET", url, headers=headers)), tuple[_Instance, ...])
    return listed.parsed(_instances(found))


def _instances(found: tuple[_Instance, ...]) -> Iterator[tuple[str, str]]:
    for number, each in enumerate(found, 1):
        if all(check.status == "passing" for check in each.checks):
            host, weight = each.service.address or each.node.address, each.service.weights.passing
            address = f"[{host}]" if ":" in host else host
            yield f"instance {number}", f"{address}:{each.service.port}{f' weight={weight}' if weight > 1 else ''}"


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise SourceError(f"it did not answer as such a registry: {plain(str(exc)[:_WORDS])}") from exc


# ---- HTTP ----


class _LostError(Exception):
    """Worth another try."""


def _asked(access: Access, request: httpx.Request) -> bytes:
    """The body of the answer. A registry that can't be reached, or says 5xx, is asked again for some seconds."""
    request.headers["Accept-Encoding"] = "identity"
    with httpx.Client(verify=_tls(access), timeout=_TRY_S, trust_env=False) as client:
        request.headers["User-Agent"] = "upswitch"

        def once() -> bytes | _LostError:
            try:
                return _once(client, request)
            except _LostError as exc:
                return exc

        answer = until(lambda seen: isinstance(seen, bytes), once, every=_EVERY_S, clock=SystemClock(), within=_AGAIN_S)
    if isinstance(answer, _LostError):
        raise SourceError(str(answer)) from answer
    return answer


def _once(client: httpx.Client, request: httpx.Request) -> bytes:
    body, end = b"", time.monotonic() + _TRY_S
    try:
        answer = client.send(request, stream=True)
        for part in answer.iter_raw():
            body += part
            if len(body) > LARGEST:
                raise SourceError(f"it has more than {LARGEST:,} bytes")
            if time.monotonic() > end:
                raise _LostError(f"no end of its answer within {_TRY_S:g} s")
        answer.close()
    except (httpx.HTTPError, OSError) as exc:
        raise _LostError(plain(str(exc)[:_WORDS]) or type(exc).__name__) from exc
    if answer.status_code == httpx.codes.OK:
        return body
    said = f"it answers {answer.status_code}: {printable(body[:_WORDS].strip())}"
    raise _LostError(said) if answer.is_server_error else SourceError(said)


def _tls(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=access.ca or None)
        if access.cert:
            trusted.check(access.key, is_secret=True)
            context.load_cert_chain(access.cert, access.key)
    except UntrustedError as exc:
        raise SourceError(f"{access.key}: {exc.reason}; `{exc.fix}` ends that") from exc
    except OSError as exc:  # ssl's errors are OSErrors too
        raise SourceError(f"ca, cert or key can't be used: {plain(exc.strerror or str(exc))}") from exc
    return context


def _token(access: Access) -> str:
    """The text of the token's file; "" without one. It is never shown."""
    if not access.token_file:
        return ""
    try:
        with opened.text(access.token_file, errors="replace") as file:
            trusted.check(access.token_file, is_secret=True)
            token = file.read(_WORDS * 100).strip()
    except UntrustedError as exc:
        raise SourceError(f"{access.token_file}: {exc.reason}; `{exc.fix}` ends that") from exc
    except OSError as exc:
        raise SourceError(f"{access.token_file}: {exc.strerror or exc}") from exc
    if not _TOKEN.fullmatch(token):
        raise SourceError(f"{access.token_file} must hold one token of printable ASCII without spaces")
    return token
