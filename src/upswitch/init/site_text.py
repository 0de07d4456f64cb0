"""The text of a first site file, made from upstream blocks. site/read.py reads it."""

import json
import re
from collections.abc import Iterator, Mapping

from upswitch.nginx.upstream_file import UpstreamBlock
from upswitch.site.model import Check, CheckType, Nginx, Site
from upswitch.site.names import own

_SECRET = re.compile(r"authorization|cookie|token|secret|passw", re.IGNORECASE)
_SENT = re.compile(r"^(http_send|fastcgi_param) = (.*)$", re.MULTILINE)
_BARE = re.compile(r"[A-Za-z0-9_-]+")

_HEAD = """\
#:schema ./upswitch.schema.json
# The site file of upswitch, written by `upswitch init` from {path}
# Only the pools are required. Every other key has a default; the ones that you may want to change are listed behind a "#".
# `upswitch lint` reports what is wrong or dangerous here. `upswitch plan --to POOL` shows what a switch would do.
# `upswitch schema > upswitch.schema.json` in this folder lets an editor complete and check the keys.
"""
_NGINX = {
    "binary": '"nginx"',
    "reload": '["systemctl", "reload", "nginx"]  # if `nginx -s reload` is not the right command',
    "user": '"root"',
    "access_log": '"auto"  # found in the configuration; error_log as well',
}
_MARKER = '"{}"  # the loopback address where nginx reports its generation; no other program may use it'
_GATE = """
[gate]  # health checks of the new pool before the switch; a key that is missing here is taken from the upstream's check
# interval = "1s"
# timeout = "2s"
# deadline = "120s"
"""
_WATCH = """
[watch]  # errors of the new pool after the switch: 502, 503 and 504
# duration = "60s"
# on_spike = "rollback"  # or "hold"
# probe = "http://127.0.0.1/healthz"  # upswitch requests this URL through nginx, so that a site without traffic is watched too
"""


def site_text(
    path: str, pools: Mapping[str, tuple[UpstreamBlock, ...]], nginx: Nginx, *, name: str, remarks: tuple[str, ...]
) -> str:
    """The whole file. The first pool is the one read from `path`: the directives and the check come from its blocks.

    Every pool has a block for each upstream of the first one. `name` is the site's, "" for none. `remarks` stand at the head, one
    comment line each.
    """
    first = next(iter(pools.values()))
    blocks = {name: {each.name: each for each in found} for name, found in pools.items()}
    tables = (_upstream(own, {pool: found[own.name].servers for pool, found in blocks.items()}) for own in first)
    notes = "".join(f"# NOTE: {_comment(remark)}\n" for remark in remarks)
    head = _HEAD.format(path=_comment(path)) + notes
    named = f"\nname = {_value(name)}  # its folders, its address and its nginx variables have this name\n" if name else ""
    return "".join((head, named, _nginx(nginx, own(name, Nginx())), *tables, _GATE, _WATCH))


def has_secret(site: Site) -> bool:
    """Whether a check of this site may send a secret (reliability.md, S10)."""
    checks = (each.check for each in site.upstreams if each.check is not None)
    return any(_SECRET.search(f"{check.http_send} {check.fastcgi_param}") for check in checks)


def without_secrets(text: str) -> str:
    """The text with the secrets left out."""
    shown = "(not shown: it may hold a secret)"
    return _SENT.sub(lambda found: f"{found[1]} = {shown}" if _SECRET.search(found[2]) else found[0], text)


def _nginx(nginx: Nginx, default: Nginx) -> str:
    changed = [name for name in nginx.__struct_fields__ if getattr(nginx, name) != getattr(default, name)]
    given = "".join(f"{name} = {_value(getattr(nginx, name))}\n" for name in changed)
    others = {name: text for name, text in _NGINX.items() if name not in changed} | (
        {"marker": _MARKER.format(default.marker)} if "marker" not in changed else {}
    )
    return "\n[nginx]\n" + given + "".join(f"# {name} = {text}\n" for name, text in others.items())


def _upstream(block: UpstreamBlock, pools: Mapping[str, tuple[str, ...]]) -> str:
    key = _key(block.name)
    lines = [f"\n[upstreams.{key}]  # the name that proxy_pass uses"]
    lines += [f"{_key(pool)} = {_list(servers)}" for pool, servers in pools.items()]
    if len(pools) == 1:
        lines.append("# B = [...]  # THE OTHER POOL: its servers, in the same form; there is nothing to switch to without it")
    if block.directives:
        lines.append(f"directives = {_list(block.directives)}")
    lines += [f"# NOTE: {_comment(remark)}" for remark in block.remarks]
    if block.check is not None:
        lines += [f"\n[upstreams.{key}.check]  # as in the check line; times are in ms", *_check(block.check)]
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
    """TOML writes text, truths and lists as JSON does, but for DEL. A float is a time, written with its unit."""
    if isinstance(value, float):
        return f'"{value * 1000:g}ms"'
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(lines: tuple[str, ...]) -> str:
    return "[\n" + "".join(f"    {_value(line)},\n" for line in lines) + "]"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _comment(text: str) -> str:
    """The text on one line, whatever it holds."""
    return "".join(each if each.isprintable() else " " for each in text)
