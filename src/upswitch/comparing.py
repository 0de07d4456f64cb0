"""nginx's own view of the site's servers, and ours, side by side."""

from upswitch import checking, gating
from upswitch.core.checkstatus import Checked
from upswitch.core.gate import Probe, Target
from upswitch.core.gaterule import effective_check
from upswitch.core.site import Site
from upswitch.core.standby import served_as
from upswitch.core.words import Value
from upswitch.ports import Ports


class Compared(Value):
    """One server: what nginx counts, and one probe of ours."""

    upstream: str
    pool: str
    nginx: Checked
    ours: Probe

    @property
    def is_serving(self) -> bool:
        """Not a standby."""
        return self.nginx.upstream == self.upstream

    @property
    def problem(self) -> str:
        """What of a server that is to serve now is wrong, in either view; "" where both call it up."""
        name = f"{self.upstream} {self.nginx.address} of the live pool {self.pool}"
        if self.nginx.is_up:
            return "" if self.ours.ok else f"our probe of {name} fails ({self.ours.error}), and nginx's own check calls it up"
        ours = "and ours passes" if self.ours.ok else f"and ours fails ({self.ours.error})"
        return f"nginx's own check holds {name} {self.nginx.state}, {ours}"


def compare(ports: Ports, site: Site, live_pool: str) -> tuple[Compared, ...]:
    """Every server of the site that nginx checks, live and standing by; () where it has no check, or does not answer."""
    status = checking.ask_status(ports.host, site.nginx)
    if status is None:
        return ()
    rules = {each.name: effective_check(each, site.gate, status.dialect) for each in site.upstreams if each.check is not None}
    seen = [(each, *served_as(each.upstream, live_pool)) for each in status.servers]
    known = [(each, upstream, pool) for each, upstream, pool in seen if upstream in rules]
    targets: list[Target] = [gating.target(upstream, each.address, rules[upstream]) for each, upstream, _ in known]
    probes = ports.prober.round(targets)
    return tuple(
        Compared(upstream=upstream, pool=pool, nginx=each, ours=probe)
        for (each, upstream, pool), probe in zip(known, probes, strict=True)
    )
