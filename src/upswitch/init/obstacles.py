"""What stands against a first use on a host: whatever we leave there must never stop nginx from starting."""

from upswitch.basics.errors import HostError, Refusal
from upswitch.basics.text import printable
from upswitch.basics.value import Value
from upswitch.generations.survey import Facts
from upswitch.hosts.host import Host
from upswitch.init import first_scripts
from upswitch.init.adopt import Edit
from upswitch.init.proposal import Proposal
from upswitch.nginx import dump
from upswitch.nginx.dump import NginxConf
from upswitch.site.model import Nginx

_LOOK = 5.0  # seconds for a script that only looks
_MARKER = 1.0  # seconds for a connection on loopback
_FIELDS = 3


class Kind(Value):
    """What a path is: none, link, file or other; how many names the file has; where it really lies."""

    kind: str
    names: int
    real: str


def found(host: Host, proposal: Proposal, facts: Facts) -> tuple[Refusal, ...]:
    """What stands against the proposal on this host now. It is asked again under the lock: time has passed."""
    return (
        *_marker_obstacle(host, proposal.site.nginx),
        *_live_obstacle(host, proposal, facts),
        *_out_obstacle(host, proposal),
        *_edit_obstacle(host, proposal.edit),
        *_read_by_nginx(facts.conf, proposal),
    )


def kinds(host: Host, *paths: str) -> tuple[Kind, ...]:
    ran = host.run(first_scripts.kinds(paths), deadline=_LOOK)
    lines = [line.split(" ", _FIELDS - 1) for line in ran.out.decode("utf-8", "surrogateescape").splitlines()]
    if ran.exit != 0 or len(lines) != len(paths):
        raise HostError(f"look at {', '.join(paths)}", printable(ran.err))
    return tuple(Kind(kind=kind, names=int(names), real=real) for kind, names, real in lines)


def _marker_obstacle(host: Host, nginx: Nginx) -> tuple[Refusal, ...]:
    """A listening socket there would keep nginx from starting. Only a refused connection proves that nobody has one."""
    hint = "choose another loopback address and port with --marker"
    try:
        host.connect(nginx.marker, timeout=_MARKER).close()
    except ConnectionRefusedError:
        return ()
    except OSError as exc:
        return (Refusal(what=f"nginx.marker = {nginx.marker} can't be used: {exc.strerror or exc}", hint=hint),)
    return (Refusal(what=f"nginx.marker = {nginx.marker}: somebody listens there", hint=hint),)


def _live_obstacle(host: Host, proposal: Proposal, facts: Facts) -> tuple[Refusal, ...]:
    live = proposal.site.nginx.live
    (it,) = kinds(host, live)
    if it.kind != "none" and (not proposal.leftover or facts.disk.live != proposal.leftover):
        return (Refusal(what=f"{live} exists, and init did not make it", hint="choose another folder with --dir"),)
    if any(each.name == proposal.generation for each in facts.disk.generations):
        return (Refusal(what=f"generation {proposal.generation} exists by now", hint="run init again"),)
    return ()


def _out_obstacle(host: Host, proposal: Proposal) -> tuple[Refusal, ...]:
    """The very file that we would write is what a killed init left."""
    out = proposal.request.out
    chunk = host.read(out)
    if chunk is None or chunk.data == proposal.site_text.encode():
        return ()
    return (Refusal(what=f"{out} exists: init overwrites no site file", hint="choose another file with --out"),)


def _edit_obstacle(host: Host, edit: Edit) -> tuple[Refusal, ...]:
    (it,) = kinds(host, edit.path)
    if it.names > 1:
        what = f"{edit.path} is a file with {it.names} names (hard links): the edit would leave the others as they are"
        return (Refusal(what=what, hint="make it a file of its own, then run init again"),)
    chunk = host.read(edit.path)
    if chunk is None or chunk.data != edit.old.encode():
        what = f"{edit.path} is not on disk as nginx -T showed it (changed since, or not UTF-8)"
        return (Refusal(what=what, hint="run init again; edit a file that is not UTF-8 by hand, as the diff shows"),)
    return ()


def _read_by_nginx(conf: NginxConf, proposal: Proposal) -> tuple[Refusal, ...]:
    """Nothing that we write may be caught by a pattern of the owner's: nginx would fail on it at its next start."""
    nginx = proposal.site.nginx
    ours = {
        proposal.request.out: "--out",
        nginx.dir: "--dir",
        nginx.live: "--dir",
        f"{nginx.live}/marker.conf": "--dir",
        nginx.state: "--state",
    }
    caught = ((path, option, reader(conf, path)) for path, option in ours.items())
    return tuple(
        Refusal(what=f"{place} would read {path}", hint=f"choose another place with {option}")
        for path, option, place in caught
        if place
    )


def reader(conf: NginxConf, path: str) -> str | None:
    """The include that reads `path`, were it there."""
    return next((each.place for each in _includes(conf.tree) if dump.matches_include(conf.includes(each), path)), None)


def _includes(block: tuple[dump.Directive, ...]) -> list[dump.Directive]:
    found = []
    for each in block:
        if each.name == "include" and each.args:
            found.append(each)
        found += _includes(each.block or ())
    return found
