"""Our own log on a host: its file, and what keeps it small (own_log.py decides what that is)."""

from msgspec.structs import replace

from upswitch.basics.errors import HostError
from upswitch.generations.survey import Facts
from upswitch.hosts.host import Host
from upswitch.hosts.sh import QUICK_S, SH, WRITE_S, script
from upswitch.init.edits import Edit
from upswitch.init.own_log import OwnLog, Scheduler, WantsLog, said, with_own_log
from upswitch.init.places import AdoptRefused
from upswitch.nginx import conf_logs, log_target
from upswitch.nginx.dump import NginxConf
from upswitch.site.model import Site

_UNBOUNDED = (
    "no log of our own is added for the watch: neither systemd nor cron runs here to keep it small. "
    "With --log it is added all the same, and you keep the file small"
)


def proposed(host: Host, wanted: WantsLog, edits: tuple[Edit, ...], after: NginxConf, *, site: Site, facts: Facts) -> OwnLog:
    """The edits with the log of our own; without it where it is not wanted or not needed, or where nothing would keep it small."""
    if wanted is WantsLog.NO:
        return OwnLog(path="", edits=edits)
    try:
        found = with_own_log(edits, after, facts.build, site, unread=_unread(host, after, facts))
    except AdoptRefused as exc:
        return OwnLog(path="", edits=edits, notes=(f"no log of our own is added for the watch: {exc}",))
    if not found.path:
        return found
    scheduler = look(host)
    if scheduler is Scheduler.NONE and wanted is WantsLog.WHERE_BOUNDED:
        return OwnLog(path="", edits=edits, notes=(*found.notes, _UNBOUNDED))
    found = replace(found, scheduler=scheduler)
    return replace(found, notes=(*found.notes, *said(found)))


def _unread(host: Host, conf: NginxConf, facts: Facts) -> set[str]:
    """The logs that are no files, such as a link to /dev/stdout."""
    paths = [log.path for log in conf_logs.access_logs(conf, facts.build) if log.is_file]
    seen = log_target.targets(host, paths, master=facts.running.pid)
    return {path for path, target in seen.items() if not target.path}


def look(host: Host) -> Scheduler:
    """What runs commands each minute there, and takes them from us."""
    ran = host.run(_program("scheduler"), deadline=QUICK_S)
    return Scheduler(ran.out.decode("ascii", "replace").strip()) if ran.exit == 0 else Scheduler.NONE


def make(host: Host, log: OwnLog) -> None:
    """The empty log, and what keeps it small. HostError."""
    _do(host, "make_log", log.path)
    for path, text in log.files.items():
        host.write(path, text.encode(), mode=0o644)
    if log.scheduler is Scheduler.SYSTEMD:
        _do(host, "start_timer", log.name)


def remove(host: Host, name: str, path: str) -> None:
    """All of it again. HostError."""
    _do(host, "unschedule", name)
    _do(host, "remove_log", path)


def _do(host: Host, function: str, word: str) -> None:
    ran = host.run(_program(function, word), deadline=WRITE_S)
    if ran.exit != 0:
        raise HostError(f"{function.replace('_', ' ')} {word}", ran.words, why=ran.why)


def _program(function: str, *words: str) -> tuple[str, ...]:
    return (*SH, script("upswitch.init", "bound.sh"), function, *words)
