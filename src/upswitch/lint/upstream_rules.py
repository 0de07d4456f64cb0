"""The lint rules about `upstream` blocks: who is left to answer when a server fails. Their words are in rules.toml."""

import re
from collections.abc import Iterator

from upswitch.lint.rules import Spot, Subject, spot
from upswitch.nginx import configuration
from upswitch.nginx.dump import Directive
from upswitch.nginx.units import seconds_of
from upswitch.site.server_line import is_name

_FEW = 3  # servers: where each that is taken out is a third of the capacity or more
_BALANCERS = ("least_conn", "ip_hash", "hash", "random", "least_time")


def all_down(subject: Subject) -> Iterator[Spot]:
    for block in _passed_to(subject):
        servers = block.children("server")
        if servers and all("down" in each.args for each in servers):
            yield spot(block, name=block.args[0])


def single_server(subject: Subject) -> Iterator[Spot]:
    for block in _passed_to(subject):
        (first, *others) = block.children("server") or (block,)
        if first is not block and not others and not _has_several(first):
            yield spot(first, name=block.args[0])


def max_fails_one(subject: Subject) -> Iterator[Spot]:
    """nginx counts a failure of each server that one request tries (ngx_http_upstream_free_round_robin_peer)."""
    for block in _passed_to(subject):
        servers = _in_use(block)
        quick = [each for each in servers if parameter(each, "max_fails", "1") == "1"]
        seconds = max((seconds_of(parameter(each, "fail_timeout", "10")) for each in quick), default=0.0)
        if 1 < len(servers) <= _FEW and quick == servers and seconds:
            lines = " ".join(_with_max_fails(each) for each in quick)
            yield spot(quick[0], name=block.args[0], servers=len(servers), seconds=f"{seconds:g}", lines=lines)


def _with_max_fails(server: Directive) -> str:
    words = [each for each in server.args if not each.startswith("max_fails=")]
    return f"server {' '.join((*words, 'max_fails=3'))};"


def localhost_twice(subject: Subject) -> Iterator[Spot]:
    """getaddrinfo gives 127.0.0.1 and ::1, and nginx makes a peer of each."""
    lines = [each for block in configuration.upstream_blocks(subject.conf) for each in block.children("server")]
    for each in (*lines, *(passing.directive for passing in subject.passings)):
        if each.args and re.match(r"(\w+://)?localhost\b(?!\.)", each.args[0], re.IGNORECASE):
            yield spot(each, line=re.sub("localhost", "127.0.0.1", each.text, count=1, flags=re.IGNORECASE))


def name_resolved_once(subject: Subject) -> Iterator[Spot]:
    """The site file's own servers have host_name in rules.py."""
    names = {block.args[0].lower() for block in configuration.upstream_blocks(subject.conf)}
    for block in configuration.upstream_blocks(subject.conf):
        for each in block.children("server"):
            if each.args and _is_foreign(each.args[0]) and "resolve" not in each.args and block.args[0] not in subject.names:
                yield spot(each, host=each.args[0], target=block.args[0])
    for passing in subject.passings:
        host = configuration.passed_upstream(passing.directive)
        is_here = host.lower() in names or "$" in passing.directive.args[0] or (subject.is_incomplete and "." not in host)
        if host and not is_here and _is_foreign(host):
            yield spot(passing.directive, host=host, target=host.partition(":")[0])


def _is_foreign(address: str) -> bool:
    return is_name(address) and address.partition(":")[0].lower() not in {"localhost", "unix"}


def keepalive_before_balancer(subject: Subject) -> Iterator[Spot]:
    """Each sets the upstream's init function, and the later one wins (ngx_http_upstream_keepalive)."""
    if subject.build.keeps_upstream_connections:
        return
    for block in configuration.upstream_blocks(subject.conf):
        names = [each.name for each in block.block or ()]
        late = [each for each in block.children(*_BALANCERS) if "keepalive" in names[: names.index(each.name)]]
        for each in late:
            yield spot(each, name=block.args[0], balancer=each.name)


def max_conns_per_worker(subject: Subject) -> Iterator[Spot]:
    """nginx.org, server, max_conns: "If the server group does not reside in the shared memory, the limit works per each worker"."""
    for block in configuration.upstream_blocks(subject.conf):
        limited = [each for each in block.children("server") if parameter(each, "max_conns", "0") != "0"]
        if limited and not block.children("zone") and subject.workers != 1:
            yield spot(limited[0], name=block.args[0])


def backup_shared(subject: Subject) -> Iterator[Spot]:
    first: dict[str, str] = {}
    for block in configuration.upstream_blocks(subject.conf):
        for each in block.children("server"):
            if "backup" in each.args:
                name = first.setdefault(each.args[0], block.args[0])
                if name != block.args[0]:
                    yield spot(each, name=block.args[0], other=name, server=each.args[0])


def parameter(server: Directive, name: str, otherwise: str) -> str:
    """The value of `name=` on a server line."""
    return next((each.partition("=")[2] for each in server.args if each.startswith(f"{name}=")), otherwise)


def _in_use(block: Directive) -> list[Directive]:
    """The servers that nginx asks first."""
    return [each for each in block.children("server") if each.args and not {"down", "backup"} & {*each.args}]


def _has_several(server: Directive) -> bool:
    """Whether its name may stand for several addresses."""
    return bool(server.args) and is_name(server.args[0])


def _passed_to(subject: Subject) -> Iterator[Directive]:
    """The upstreams that requests are passed to; in a part of a configuration, all of them."""
    used = {name.lower() for each in subject.passings for name in configuration.passed_upstreams(subject.conf, each.directive)}
    for block in configuration.upstream_blocks(subject.conf):
        if block.args[0].lower() in used or (subject.is_part and not subject.passings):
            yield block
