"""Questions to a configuration that `nginx -T` printed (dump.py). The questions about logs are in conf_logs.py."""

import re
from collections.abc import Iterable, Iterator

from upswitch.nginx.build import Build
from upswitch.nginx.dump import Directive, NginxConf, walk
from upswitch.site.names import prefix_in
from upswitch.site.server_line import is_name

PASSES = ("proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "memcached_pass")
SCOPES = ("server", "location", "if", "limit_except")
"""The blocks inside http that have settings of their own, each inheriting from the one around it."""

_SETTERS = ("set", "auth_request_set")
SCHEME = re.compile(r"^(?:(?!unix:)[a-z]+|\$\w+|\$\{\w+\})://", re.ASCII)
_URI = re.compile(r"\$(?:request_uri|document_uri|uri|is_args)\b|/")
"""Where the host of a pass ends: these variables begin with a slash or a question mark, or are empty."""
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_DEEPEST, _MOST = 4, 64
_HEAD_LINES = 12
_GENERATED = re.compile(
    r"nginx-proxy(?: version)?\b|docker-gen|consul-template|\bconfd\b|ansible.managed"
    r"|generated (?:by|with|from|automatically)\b|\bmanaged (?:by|with)\b(?! Certbot)|do not (?:edit|modify|change)",
    re.IGNORECASE,
)
"""How generators mark what they write: nginx-proxy, docker-gen, consul-template, confd, Ansible, Puppet, Chef and panels."""


def http(conf: NginxConf) -> Directive | None:
    return next((each for each in conf.tree if each.name == "http"), None)


def http_children(conf: NginxConf, *names: str) -> tuple[Directive, ...]:
    block = http(conf)
    return () if block is None else block.children(*names)


def pid_file(conf: NginxConf, build: Build) -> str:
    """Absolute where nginx's prefix is."""
    given = _main_value(conf, "pid")
    return build.resolve(given) if given else build.pid_path


def user(conf: NginxConf, build: Build) -> str:
    """The workers' user, which counts only where the master is root."""
    return _main_value(conf, "user") or build.user


def worker_processes(conf: NginxConf) -> str:
    """A number as text, or `auto`."""
    return _main_value(conf, "worker_processes") or "1"


def load_modules(conf: NginxConf) -> tuple[str, ...]:
    """The `load_module` lines as text: a wrapper around a candidate needs the same ones."""
    return tuple(each.text for each in conf.tree if each.name == "load_module")


def resolvers(conf: NginxConf) -> tuple[str, ...]:
    """The http-level `resolver` and `resolver_timeout` lines as text."""
    return tuple(each.text for each in http_children(conf, "resolver", "resolver_timeout"))


def includes(block: Iterable[Directive]) -> Iterator[Directive]:
    """Every `include` of these statements, at any depth."""
    return (each for each in walk(block) if each.name == "include" and each.args)


def includes_live(conf: NginxConf, pattern: str) -> Directive | None:
    """The include of our live generation in http. `pattern` is `Nginx.include`."""
    includes = http_children(conf, "include")
    return next((each for each in includes if each.args and conf.includes(each) == pattern), None)


def generated(conf: NginxConf) -> dict[str, str]:
    """The files that a program writes, by path: what their first lines say of it. Those of dokku have only their place."""
    found = {}
    for file in conf.files:
        head = [line for line in file.text.splitlines()[:_HEAD_LINES] if line.startswith("#") and _GENERATED.search(line)]
        if head or file.path.startswith("/home/dokku/"):
            found[file.path] = head[0].strip("# \t") if head else "dokku"
    return found


def lives(conf: NginxConf) -> tuple[str, ...]:
    """The live link of each site of upswitch on this nginx, in the order of their includes."""
    patterns = (conf.includes(each) for each in http_children(conf, "include") if each.args)
    found = (pattern.removesuffix("/*.conf") for pattern in patterns if pattern.endswith("/live/*.conf"))
    read = {file.path for file in conf.files}
    return tuple(dict.fromkeys(live for live in found if f"{live}/marker.conf" in read))


def variable_prefix(conf: NginxConf, *, live: str, otherwise: str) -> str:
    """What the names of our variables begin with: as the live generation defines them, since a log format may use them."""
    maps = (each for each in http_children(conf, "map") if each.file.startswith(f"{live}/"))
    return next((prefix for each in maps if (prefix := prefix_in(each.args[-1].removeprefix("$")))), otherwise)


def defines(conf: NginxConf, variable: str) -> tuple[Directive, ...]:
    """Where the value of an nginx variable is set. Of several the last `map` counts, for every request."""
    blocks = [each for each in http_children(conf, "map", "geo", "split_clients") if each.args[-1:] == (f"${variable}",)]
    sets = [each for each in walk(http_children(conf, "server")) if each.name in _SETTERS and each.args[:1] == (f"${variable}",)]
    return (*blocks, *sets)


def defined_elsewhere(conf: NginxConf, name: str, *, live: str) -> Directive | None:
    """An http-level directive `name` in a file that is not ours, as nginx refuses a second one. `live` is `Nginx.live`."""
    found = http_children(conf, name)
    return next((each for each in found if not each.file.startswith(f"{live}/")), None)


def upstream_blocks(conf: NginxConf) -> tuple[Directive, ...]:
    """The `upstream` blocks of http (not those of stream)."""
    return tuple(each for each in http_children(conf, "upstream") if each.args)


def named_servers(conf: NginxConf) -> tuple[tuple[str, str], ...]:
    """The upstream and the address of each server of http whose address is a host name.

    nginx resolves it once, and does not start where that fails. Those with `resolve` count too: they need a resolver.
    """
    return tuple(
        (block.args[0], server.args[0])
        for block in upstream_blocks(conf)
        for server in block.children("server")
        if server.args and is_name(server.args[0])
    )


def listens(conf: NginxConf) -> tuple[str, ...]:
    """Every address that a server of http, stream or mail listens on: `*:80`, `127.0.0.1:8080`, `[::]:80`, `unix:/path`.

    A server of http without a `listen` has root's default, `*:80`.
    """
    found: dict[str, None] = {}
    for context in (each for each in conf.tree if each.name in ("http", "stream", "mail")):
        for server in context.children("server"):
            given = [listen_address(each.args[0]) for each in server.children("listen") if each.args]
            found.update(dict.fromkeys(given or (["*:80"] if context.name == "http" else [])))
    return tuple(found)


def passed_upstream(directive: Directive) -> str:
    """The upstream or the address that a `proxy_pass` or the like names. "" where it begins with a variable."""
    return _host(directive.args[0]).split("$", 1)[0] if directive.args else ""


def passed_upstreams(conf: NginxConf, directive: Directive) -> tuple[str, ...]:
    """All that a `proxy_pass` or the like can name, through the `map` and `set` of its variables; "" for what is not known.

    An upstream has the name that its block has: nginx compares without case.
    """
    host, begin = _host(directive.args[0]) if directive.args else "", passed_upstream(directive)
    named, spelled = [begin], {each.args[0].lower(): each.args[0] for each in upstream_blocks(conf)}
    if not host.startswith("unix:") and "$" in host:
        named = [_host(each) for each in _values(conf, host, _DEEPEST)]
        named = [each or (begin if begin.lower() in spelled else "") for each in named]  # `http://app$request_uri`
    return tuple(dict.fromkeys(spelled.get(each.lower(), each) for each in named))


def may_name(conf: NginxConf, directive: Directive, name: str) -> bool:
    """Whether a pass can name this upstream: by the values of its variables, or by its text around a variable that nobody knows."""
    named = passed_upstreams(conf, directive)
    host = _host(directive.args[0]) if directive.args else ""
    around = "".join(".+" if at % 2 else re.escape(part) for at, part in enumerate(re.split(r"(\$\w+|\$\{\w+\})", host)))
    return name in named or ("" in named and around.strip(".+") != "" and re.fullmatch(around, name, re.IGNORECASE) is not None)


def _host(target: str) -> str:
    """The part of a pass that names the upstream or the address, with its variables."""
    host = SCHEME.sub("", target)
    if host.startswith("unix:"):
        return f"unix:{host.removeprefix('unix:').split(':', 1)[0]}"  # `unix:/run/app.sock:/uri`
    return _URI.split(host, maxsplit=1)[0]


def _values(conf: NginxConf, text: str, depth: int) -> tuple[str, ...]:
    """The texts that this one can become; "" where a variable is of nginx's own, or of a regular expression."""
    found = _VARIABLE.search(text)
    if found is None:
        return (text,)
    places = defines(conf, found[1] or found[2]) if depth else ()
    given = [value for each in places for value in _given(each)]
    if not given:
        return ("",)
    texts = [f"{text[: found.start()]}{value}{text[found.end() :]}" for value in dict.fromkeys(given)]
    return tuple(dict.fromkeys(value for each in texts[:_MOST] for value in _values(conf, each, depth - 1)))[:_MOST]


def _given(place: Directive) -> tuple[str, ...]:
    """The values that a `map`, `geo`, `split_clients` or `set` gives."""
    if place.block is None:
        return place.args[1:2] if place.name == "set" else ("$_",)
    return tuple(each.args[-1] for each in place.block if each.args and each.name != "include")


def _main_value(conf: NginxConf, name: str) -> str:
    return next((each.args[0] for each in conf.tree if each.name == name and each.args), "")


def listen_address(text: str) -> str:
    """The argument of a `listen` with its port: `*:80`, `127.0.0.1:8080`, `[::]:80`, `unix:/path`."""
    if text.startswith("unix:"):
        return text
    if text.isdigit():
        return f"*:{text}"
    has_port = ":" in text.rsplit("]", 1)[-1]
    return text if has_port else f"{text}:80"
