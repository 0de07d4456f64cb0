"""A site's name, and what is the site's own by that name. Several sites may share one nginx, and their defaults never collide.

A site file without `name` is one from before sites had names: its places and its variable stay as they were (model.Nginx).
"""

import hashlib
import re

from msgspec.structs import replace

from upswitch.site.model import Nginx, Site

LONGEST = 48
_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
SAYS = f"must be a name of up to {LONGEST} small letters and digits, with single _ . - between them"

UNNAMED = "upswitch"
"""The prefix of the nginx variables of a site from before sites had names."""
_SUFFIX = "_generation"


def is_name(text: str) -> bool:
    return len(text) <= LONGEST and _NAME.fullmatch(text) is not None


def default_name(upstream: str) -> str:
    """A name for the site whose first upstream this is. nginx compares upstreams without case, so capitals tell none apart."""
    plain = re.sub(r"[^a-z0-9]+", lambda found: found[0] if found[0] in {"_", ".", "-"} else "_", upstream.lower())
    return plain[:LONGEST].strip("._-") or "site"


def prefix_of(name: str) -> str:
    """What the site's nginx variables begin with. Two names never give one prefix: `-` and `.` become more than one `_`."""
    return f"{UNNAMED}_{name.replace('-', '__').replace('.', '___')}" if name else UNNAMED


def name_of(prefix: str) -> str:
    """The name of the site whose variables begin so; "" for a site without one."""
    return prefix.removeprefix(UNNAMED).removeprefix("_").replace("___", ".").replace("__", "-")


def generation_variable(prefix: str) -> str:
    """The nginx variable that holds the site's generation, without `$`."""
    return prefix + _SUFFIX


def prefix_in(variable: str) -> str:
    """The prefix in the name of a variable that holds a generation of upswitch; "" for any other variable."""
    prefix = variable.removesuffix(_SUFFIX)
    return prefix if prefix != variable and f"{prefix}_".startswith(f"{UNNAMED}_") else ""


def own(name: str, nginx: Nginx) -> Nginx:
    """The settings with the places that belong to the site of this name. "" changes nothing.

    The marker's address is made from the name. All of 127.0.0.0/8 is loopback, and SELinux grants port 8008 to web servers.
    """
    if not name:
        return nginx
    first, second, third, *_ = hashlib.sha256(name.encode()).digest()
    return replace(
        nginx,
        dir=f"/etc/nginx/upswitch-{name}",
        state=f"/var/lib/upswitch-{name}",
        marker=f"127.{1 + first % 254}.{second}.{1 + third % 254}:8008",
    )


# ---- two site files ----


def shared(one: Site, other: Site) -> str:
    """What two sites share although each must have its own; "" where nothing. Two versions of one site's file share its places."""
    mine, theirs = _places(one), _places(other)
    if one.name == other.name and mine.keys() == theirs.keys():
        return ""
    return next((said for place, said in ({**mine, **_upstreams(one)}).items() if place in {**theirs, **_upstreams(other)}), "")


def _places(site: Site) -> dict[tuple[str, ...], str]:
    """The folders and addresses of a site on each of its hosts, and how they are called."""
    return {
        (host, kind, getattr(nginx, key)): f"the {kind} {getattr(nginx, key)}{_on(host)} (nginx.{key})"
        for host, nginx in _hosts(site)
        for kind, key in (("folder", "dir"), ("folder", "state"), ("address", "marker"))
    }


def _upstreams(site: Site) -> dict[tuple[str, ...], str]:
    """nginx takes an upstream's name only once, without regard to case."""
    return {
        (host, "upstream", nginx.conf, each.name.lower()): f"the upstream {each.name} of {nginx.conf}{_on(host)}"
        for host, nginx in _hosts(site)
        for each in site.upstreams
    }


def _hosts(site: Site) -> list[tuple[str, Nginx]]:
    """By the name for ssh; "" is this machine."""
    return [(each.ssh, each.nginx) for each in site.hosts] or [("", site.nginx)]


def _on(host: str) -> str:
    return f" on {host}" if host else ""
