"""Whether clients are served: one request through nginx at each entrance to the site's upstreams, before init and at its end."""

from collections.abc import Iterable
from contextlib import closing

from upswitch.hosts.host import Asking, Ports
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.entrances import entrances

_MOST = 8  # requests
_NO_SERVER = frozenset({0, 502, 503, 504})
"""What nginx answers where no server of the upstream does. 0: no answer. A 404 or 401 comes from the application."""


def unserved(ports: Ports, conf: NginxConf, upstreams: Iterable[str]) -> dict[str, str]:
    """What came instead of an answer, by URL; empty where each request reached a server. HostError where the host is lost."""
    found = {}
    for each in entrances(conf, [*upstreams])[:_MOST]:
        asking = Asking(url=f"{each.origin}/", name=each.name)
        with closing(ports.through(asking)) as through:
            asked = through.ask()
        if asked.status in _NO_SERVER:
            found[f"{asking.shown} ({each.upstream})"] = asked.said
    return found
