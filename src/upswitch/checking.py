"""nginx's own health check on a host: whose module it is, what it says, and whether its master has rejected a reload."""

from upswitch.core import dialect, errorlog, nginxconf, scripts
from upswitch.core.checkstatus import CheckStatus, parse_check_status
from upswitch.core.dump import NginxConf
from upswitch.core.errors import HostError, NginxBrokenError
from upswitch.core.foreign import printable
from upswitch.core.processes import Family
from upswitch.core.site import Nginx
from upswitch.core.words import Dialect
from upswitch.marker import ask
from upswitch.ports import Host, Ran

_TEST = 20.0  # seconds
_QUICK = 5.0
_LOG_TAIL = 1 << 22  # bytes of the error log that are searched for a rejected reload


def read_dialect(host: Host, nginx: Nginx, conf: NginxConf, *, seen: Ran | None = None) -> Dialect:
    """Found by testing a configuration of our own: a module may be linked in or loaded, and `nginx -V` need not say its name.

    `seen`: what came of such a test with no module loaded.
    """
    modules = nginxconf.load_modules(conf)
    ran = seen if seen and not modules else host.run(scripts.probe_check(nginx, modules=modules), deadline=_TEST)
    found = dialect.judge(ran.err)
    if found is None:
        raise NginxBrokenError(f"whether this nginx has a check module can't be found out: {ran.words}")
    return found


def ask_status(host: Host, nginx: Nginx) -> CheckStatus | None:
    """What `check_status` says on the marker server; None where the live generation has none: no module, or it is from before."""
    body = ask(host, nginx, path="/check", timeout=_QUICK)
    return parse_check_status(body) if body is not None else None


def last_rejection(host: Host, error_log: str, family: Family | None) -> str | None:
    """What the master said when it rejected a reload since the present workers began; "": it did not; None: nobody can tell."""
    workers = family.workers if family else ()
    pid = family.master.pid if family and family.master else 0
    if not workers:
        return None
    began = host.run(scripts.started(min(worker.start for worker in workers)), deadline=_QUICK)
    since, _, until = printable(began.out.strip()).partition(" - ")
    lines = _log_tail(host, error_log)
    return None if lines is None or not until else errorlog.emerg_between(lines, pid, since=since, until=until)


def _log_tail(host: Host, path: str) -> list[bytes] | None:
    try:
        end = host.read(path, limit=0) if path else None
        found = host.read(path, offset=max(0, end.size - _LOG_TAIL)) if end else None
    except HostError:
        return None
    return found.data.splitlines() if found else None
