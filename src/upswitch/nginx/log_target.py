"""What a log's path leads to, as nginx opens it: a file that can be followed, a unit's journal, or neither, and why.

nginx opens each log anew at a reload. Its `/dev/stdout` is then the master's own: a file, a pipe or a socket, and /dev/null where
nginx made itself a daemon (ngx_daemon). In official images access.log is a link to it: there the container's engine keeps its
lines. No such log is opened here.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from upswitch.basics.value import Value
from upswitch.hosts import sh
from upswitch.hosts.host import JOURNAL, Host
from upswitch.nginx.conf_logs import AccessLog, journal_tag

_LINES = 4
_KINDS = {
    "fifo": "it is a pipe",
    "socket": "it is a socket",
    "directory": "it is a folder",
    "unreadable": "this user may not read it",
    "hidden": "this user may not look at it",
    "missing": "nginx has closed it",
    "deleted": "the file that nginx writes to has no name any more, or another one",
    "unknown": "it is nginx's own stdout or stderr, and upswitch finds no nginx that runs",
}

_TAG = "nginx"
_JOURNAL_SOCKET = "/run/systemd/journal/dev-log"  # /dev/log leads to it where systemd's journal takes what is sent to syslog
_JOURNALLED = "only systemd's journal has its lines"
_UNSEEN = frozenset({"unknown", "hidden"})  # the journal may have it


class Target(Value):
    """`path` is the file to follow; else `why` is a reason, and the journal of systemd has the lines by `tag`, if any."""

    path: str = ""
    tag: str = ""
    why: str = ""


def targets(host: Host, paths: Iterable[str], *, master: int = 0) -> Mapping[str, Target]:
    """The target of each path. `master` is nginx's pid, 0 where it does not run.

    Where the host can't say, a path stands for itself, but for a device.
    """
    asked = tuple(dict.fromkeys(paths))
    if not asked:
        return {}
    argv = sh.argv("upswitch.nginx", "log_target.sh", str(master or ""), *asked)
    ran = host.run(argv, deadline=sh.QUICK_S)
    said = ran.out.decode("utf-8", "surrogateescape").split("\n")
    if ran.exit != 0 or len(said) != _LINES * len(asked) + 1:
        unsaid = Target(why=f"{host.name} does not say what it is: {ran.words}")
        return {path: unsaid if path.startswith(("/dev/", "/proc/")) else Target(path=path) for path in asked}
    return {path: _target(host, path, said[at * _LINES : (at + 1) * _LINES]) for at, path in enumerate(asked)}


def _target(host: Host, path: str, said: Sequence[str]) -> Target:
    unit, kind, real, stream = said
    if stream and kind in {"fifo", "socket", "unknown"} and (kept := host.streams):
        return Target(path=kept[int(stream) - 1])
    if kind == "missing" and real:
        return Target(path=path)  # nginx makes it at the next reload
    if kind.startswith("regular "):
        return Target(path=real)
    what = f"nginx throws its lines away ({real})" if real == "/dev/null" else _KINDS.get(kind, f"it is a {kind}, no file")
    where = f" ({real})" if real not in {path, "/dev/null", ""} else ""
    if unit:  # the tag of what a unit prints is its program's name
        return Target(path=f"{JOURNAL}{_TAG}", tag=_TAG)
    tag = journal_tag(path) if kind in _UNSEEN else ""
    return Target(tag=tag, why=f"{what}{where}")


class Logs(Value):
    """The logs of one nginx as they can be followed. Without an `error` log to follow `error_gap` says why."""

    access: tuple[AccessLog, ...]
    error: str = ""
    error_gap: str = ""


def found(host: Host, access: Sequence[AccessLog], errors: Sequence[str], *, master: int = 0) -> Logs:
    """Each access log with the file that is followed instead of its path, or with the reason why none can be."""
    journalled = [log.path for log in access if log.is_syslog and journal_tag(log.path)]
    asked = (*(log.path for log in access if log.is_file), *errors, *((_JOURNAL_SOCKET,) if journalled else ()))
    seen = dict(targets(host, asked, master=master))
    if journalled and (seen[_JOURNAL_SOCKET].tag or seen[_JOURNAL_SOCKET].why == _KINDS["socket"]):
        seen |= {path: Target(path=f"{JOURNAL}{journal_tag(path)}") for path in journalled}
    followed = [seen[path].path for path in errors if seen[path].path and not seen[path].path.startswith(JOURNAL)]
    gap = "" if followed else _error_gap({path: seen[path] for path in errors})
    return Logs(
        access=with_targets(access, seen),
        error=followed[0] if followed else "",
        error_gap=gap,
    )


def with_targets(logs: Iterable[AccessLog], seen: Mapping[str, Target]) -> tuple[AccessLog, ...]:
    return tuple(_with(log, seen[log.path]) if log.path in seen else log for log in logs)


def _with(log: AccessLog, target: Target) -> AccessLog:
    return replace(log, source=target.path, hindrance=target.why)


def _error_gap(seen: Mapping[str, Target]) -> str:
    each = "; ".join(f"{path}: {target.why or _JOURNALLED}" for path, target in seen.items()) or "its error_log names no file"
    return f"The watch can't follow nginx's error log ({each}), so it does not see what only that has."
