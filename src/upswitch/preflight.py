"""Looking before leaping: everything about a host that makes a switch impossible or unsafe, found before anything is done."""

from collections.abc import Mapping

from upswitch.core import nginxconf
from upswitch.core.errors import HostError, Refusal
from upswitch.core.foreign import told
from upswitch.core.serverline import probe_address
from upswitch.core.site import Nginx, Site
from upswitch.ports import Host
from upswitch.survey import Facts

_RESOLVE = 15.0  # seconds for all names together


def refusals(nginx: Nginx, facts: Facts, *, adopt: bool) -> tuple[Refusal, ...]:
    """Why a switch may not even begin. `adopt` accepts live files that were edited by hand."""
    found = list(blockers(nginx, facts))
    if facts.disk.drift and not adopt and not found:
        files = ", ".join(f"{nginx.live}/{name}" for name in facts.disk.drift)
        found.append(
            Refusal(
                what=f"edited since it was staged: {files}",
                hint="`upswitch status --json` names the files; --adopt takes them as they are, as the way back",
            ),
        )
    staged = facts.disk.manifest
    if not found and staged is not None and staged.marker not in {"", nginx.marker}:
        hint = f'set nginx.marker back to "{staged.marker}"; it can only be chosen by `upswitch init`'
        found.append(Refusal(what=f"nginx.marker is {nginx.marker}, but {facts.disk.live} answers at {staged.marker}", hint=hint))
    marker = facts.running.marker
    if not found and (marker is None or marker.generation != facts.disk.live):
        answer = marker.generation if marker else "nothing"
        found.append(
            Refusal(
                what=f"disk and nginx disagree: {nginx.live} is {facts.disk.live}, nginx answers {answer} at {nginx.marker}",
                hint="somebody changed one of them; `upswitch rollback --to N` loads and proves one generation",
            ),
        )
    return tuple(found)


def blockers(nginx: Nginx, facts: Facts) -> tuple[Refusal, ...]:
    """What stops even a rollback."""
    found = []
    if facts.running.problem:
        found.append(Refusal(what=facts.running.problem, hint=f"start nginx with {nginx.conf}, then try again"))
    if not facts.disk.live:
        found.append(Refusal(what=f"{nginx.live} points to no generation", hint="`upswitch init` makes the first one"))
    if facts.is_conf_read and nginxconf.includes_live(facts.conf, nginx.include) is None:
        what = f"{nginx.conf} does not include the live generation: a switch would change nothing"
        found.append(Refusal(what=what, hint=f"put `include {nginx.include};` into its http block, reload, then try again"))
    return tuple(found)


def resolve_names(host: Host, site: Site, pool: str) -> Mapping[str, tuple[str, ...]]:
    """The addresses of every server of `pool` that is a host name, as the host resolves them. HostError: one does not."""
    servers = [server for upstream in site.upstreams for server in upstream.servers(pool)]
    names = {name for name in (_name(probe_address(server, 0)) for server in servers) if name}
    return {name: _resolve(host, name) for name in sorted(names)}


def _name(address: str) -> str:
    """The host name in `name:PORT`; "" where it is an IP address or a unix socket."""
    host = address.rpartition(":")[0]
    is_ip = host == "unix" or host.startswith("[") or host.replace(".", "").isdigit()
    return "" if is_ip else host


def _resolve(host: Host, name: str) -> tuple[str, ...]:
    ran = host.run(("getent", "ahosts", name), deadline=_RESOLVE)
    found = [line.split()[0] for line in ran.out.decode("ascii", "replace").splitlines() if line.strip()]
    if not found:
        raise HostError(f"resolve {name}", told(ran.err) or "no address")
    return tuple(dict.fromkeys(f"[{address}]" if ":" in address else address for address in found))
