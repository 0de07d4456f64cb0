"""The upstreams that nginx's own health check looks at: out of any configuration, or as the site file will have them rendered."""

from upswitch.basics.value import Value
from upswitch.nginx import configuration
from upswitch.nginx.dump import Directive, NginxConf
from upswitch.nginx.upstream_file import read_check
from upswitch.site.model import Check, Server, Site, Upstream
from upswitch.site.server_line import identity
from upswitch.site.words import BETWEEN


class CheckedUpstream(Value):
    """One of them. `place` is where its check stands; `servers` are addresses, without those marked `down`: nobody asks them.

    `balancer` is a `random` or `hash` line, "" for another. `lines` are its check family as written, none out of a site file.
    `together` of them begin at one time: of a site file the servers of one pool. `is_warm`: upswitch has its servers proved
    before they serve, or it is a standby, which serves nobody.
    """

    name: str
    place: str
    check: Check
    servers: tuple[str, ...]
    balancer: str = ""
    lines: tuple[Directive, ...] = ()
    together: int = 1
    is_warm: bool = False

    def named(self, name: str) -> tuple[Directive, ...]:
        """The lines that are this directive."""
        return tuple(each for each in self.lines if each.name == name)

    @property
    def said(self) -> str:
        return f"{self.place}: upstream {self.name}"


def of_conf(conf: NginxConf) -> tuple[CheckedUpstream, ...]:
    """Those of an nginx configuration, in its order."""
    blocks = configuration.upstream_blocks(conf)
    names = tuple(block.args[0] for block in blocks)
    found = (_block(block, names) for block in blocks)
    return tuple(each for each in found if each is not None)


def of_site(site: Site) -> tuple[CheckedUpstream, ...]:
    """Those with a check table, each with the servers of all its pools: the idle ones are checked as standbys."""
    return tuple(_table(each, each.check) for each in site.upstreams if each.check is not None)


def _block(block: Directive, names: tuple[str, ...]) -> CheckedUpstream | None:
    inner = block.block or ()
    lines = tuple(each for each in inner if each.name == "check" or each.name.startswith("check_"))
    check, _ = read_check([(each.name, *each.args) for each in lines])
    if check is None:
        return None
    name = block.args[0]
    servers = tuple(address(each.args[0]) for each in block.children("server") if each.args and "down" not in each.args)
    return CheckedUpstream(
        name=name,
        place=[each for each in lines if each.name == "check"][-1].place,
        check=check,
        servers=servers,
        together=len(servers) or 1,
        balancer=_balancer(tuple((each.name, *each.args) for each in inner)),
        lines=lines,
        is_warm=BETWEEN in name or any(other.startswith(name + BETWEEN) for other in names),
    )


def _table(upstream: Upstream, check: Check) -> CheckedUpstream:
    pools = [tuple(address(server.address) for server in pool.servers if not server.is_down) for pool in upstream.pools]
    return CheckedUpstream(
        name=upstream.name,
        place=f"site file, [upstreams.{upstream.name}.check]",
        check=check,
        servers=tuple(each for pool in pools for each in pool),
        together=min(map(len, pools)),
        balancer=_balancer(tuple(tuple(line.split()) for line in upstream.directives)),
        is_warm=True,
    )


def address(text: str) -> str:
    """One spelling for one address, with its port; as it is where nginx may know more than we do."""
    try:
        return identity(Server(address=text))
    except ValueError:
        return text


def _balancer(lines: tuple[tuple[str, ...], ...]) -> str:
    return next((" ".join(words) for words in lines if words[0] in {"random", "hash"}), "")
