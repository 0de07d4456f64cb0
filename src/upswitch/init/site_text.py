"""The text of a first `upswitch.toml`, from upstream blocks that were read. Its reader is sitefile.py."""

import json
import re
from collections.abc import Iterator, Mapping

from upswitch.nginx.upstream_file import UpstreamBlock
from upswitch.site.model import Check, Nginx
from upswitch.site.words import CheckType

_SECRET = re.compile(r"^(http_send|fastcgi_param) = .*(?:authorization|cookie|token|secret|passw).*$", re.IGNORECASE | re.MULTILINE)
_BARE = re.compile(r"[A-Za-z0-9_-]+")

_HEAD = """\
# upswitch.toml: written by `upswitch init` from {path}
# Every key but the pools has a default; those that one may want to change stand here behind a "#".
# `upswitch lint` says what is wrong or dangerous in it, `upswitch plan --to POOL` what a switch would do.
"""
_NGINX = {
    "binary": '"nginx"',
    "reload": '["systemctl", "reload", "nginx"]  # when it is not `nginx -s reload`',
    "user": '"root"',
    "marker": '"127.0.84.1:8008"  # where nginx answers with its generation: loopback, used by nobody else',
    "access_log": '"auto"  # found in the configuration; error_log likewise',
}
_GATE = """
[gate]  # our own probes of the new pool before the switch; what is not given here is the check's
# interval = "1s"
# timeout = "2s"
# deadline = "120s"
"""
_WATCH = """
[watch]  # after the switch: 502, 503 and 504 of the new pool
# duration = "60s"
# on_spike = "rollback"  # or "hold"
# probe = "http://127.0.0.1/healthz"  # through nginx, so that a quiet site is judged too
"""


def site_text(path: str, pools: Mapping[str, tuple[UpstreamBlock, ...]], nginx: Nginx, remarks: tuple[str, ...]) -> str:
    """The whole file. The first pool is the one that was read from `path`: directives and check are taken from its blocks.

    Every pool has a block for each upstream of the first one. `remarks` are put at the head, one comment line each.
    """
    first = next(iter(pools.values()))
    blocks = {name: {each.name: each for each in found} for name, found in pools.items()}
    tables = (_upstream(own, {pool: found[own.name].servers for pool, found in blocks.items()}) for own in first)
    notes = "".join(f"# NOTE: {_comment(remark)}\n" for remark in remarks)
    head = _HEAD.format(path=_comment(path)) + notes
    return "".join((head, _nginx(nginx), *tables, _GATE, _WATCH))


def has_secret(text: str) -> bool:
    """Whether a check of this site file sends what a person should not see (reliability.md, S10)."""
    return _SECRET.search(text) is not None


def without_secrets(text: str) -> str:
    """The text as it may be printed."""
    return _SECRET.sub(r"\1 = (not shown: it may hold a secret)", text)


def _nginx(nginx: Nginx) -> str:
    default = Nginx()
    own = [name for name in nginx.__struct_fields__ if getattr(nginx, name) != getattr(default, name)]
    given = "".join(f"{name} = {_value(getattr(nginx, name))}\n" for name in own)
    return "\n[nginx]\n" + given + "".join(f"# {name} = {text}\n" for name, text in _NGINX.items() if name not in own)


def _upstream(block: UpstreamBlock, pools: Mapping[str, tuple[str, ...]]) -> str:
    key = _key(block.name)
    lines = [f"\n[upstreams.{key}]  # the name that proxy_pass uses"]
    lines += [f"{_key(pool)} = {_list(servers)}" for pool, servers in pools.items()]
    if len(pools) == 1:
        lines.append("# B = [...]  # THE OTHER POOL: its servers, in the same form; without it there is nothing to switch to")
    if block.directives:
        lines.append(f"directives = {_list(block.directives)}")
    lines += [f"# NOTE: {_comment(remark)}" for remark in block.remarks]
    if block.check is not None:
        lines += [f"\n[upstreams.{key}.check]  # as in the check line; times in ms", *_check(block.check)]
    return "\n".join(lines) + "\n"


def _check(check: Check) -> Iterator[str]:
    yield f"type = {_value(check.type.value)}"
    yield f"interval = {check.interval_ms}"
    yield f"rise = {check.rise}"
    yield f"fall = {check.fall}"
    yield f"timeout = {check.timeout_ms}"
    yield f"default_down = {_value(check.default_down)}"
    if check.port:
        yield f"port = {check.port}"
    if check.type is CheckType.HTTP:
        yield f"http_send = {_value(check.http_send)}"
    if check.http_expect_alive and check.type in {CheckType.HTTP, CheckType.FASTCGI}:
        yield f"http_expect_alive = {_value(check.http_expect_alive)}"
    if check.keepalive_requests != 1:
        yield f"keepalive_requests = {check.keepalive_requests}"
    if check.fastcgi_param:
        pairs = ", ".join(f"{name} = {_value(value)}" for name, value in check.fastcgi_param)
        yield f"fastcgi_param = {{ {pairs} }}"


def _value(value: object) -> str:
    """TOML has JSON's texts, truths and lists; times are text with a unit. DEL is the one character that only JSON takes raw."""
    if isinstance(value, float):
        return f'"{value * 1000:g}ms"'
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(lines: tuple[str, ...]) -> str:
    return "[\n" + "".join(f"    {_value(line)},\n" for line in lines) + "]"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _comment(text: str) -> str:
    """On one line whatever it holds."""
    return "".join(each if each.isprintable() else " " for each in text)
