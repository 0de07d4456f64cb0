"""Where a configuration names servers beside our live generation: a pass, another upstream, a variable."""

import re
from collections.abc import Iterator

from upswitch.basics.value import Value
from upswitch.nginx.configuration import PASSES
from upswitch.nginx.dump import Directive, NginxConf, walk
from upswitch.site.server_line import one_slash

_HOST = r"(?P<host>\[[^\]]+\]|[\w.-]+)(?::(?P<port>\d+))?(?=[/?$]|$)"
_TARGET = re.compile(rf"(?:(?P<scheme>[a-z]+)://)?(?:(?P<unix>unix:[^:\s]+)|{_HOST})")
_TLS = ("https", "grpcs")


class Use(Value):
    """One server by its address (IP:PORT, NAME:PORT or unix:/path), and the directive that names it."""

    address: str
    directive: Directive

    @property
    def text(self) -> str:
        return f"{self.directive.place} ({self.directive.name} {self.address})"


def uses(conf: NginxConf, *, live: str) -> Iterator[Use]:
    """Every server that the configuration may send requests to, without those of our generation. `live` is `Nginx.live`.

    Whatever looks like an address with a port counts, as a `set` or a `map` may hold it. A `listen` is no use.
    """
    upstreams = {each.args[0].lower() for each in walk(conf.tree) if each.name == "upstream" and each.args}
    for directive in walk(conf.tree):
        if directive.name == "listen" or directive.file.startswith(f"{live}/"):
            continue
        for arg in directive.args:
            found = _TARGET.match(arg)
            if found and (address := _address(directive, found)) and (found["host"] or "").lower() not in upstreams:
                yield Use(address=address, directive=directive)


def _address(directive: Directive, found: re.Match[str]) -> str:
    """With the default port where the directive has one; "" where it is no address."""
    if found["unix"] or found["port"]:
        return one_slash(found["unix"] or "") or f"{found['host']}:{found['port']}"
    if directive.name in {*PASSES, "server"}:
        return f"{found['host']}:{443 if found['scheme'] in _TLS else 80}"
    return ""
