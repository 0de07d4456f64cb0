"""The lint rules about nginx's processes and about the files themselves. Their words are in rules.toml."""

import re
from collections.abc import Iterator

from upswitch.lint.rules import Spot, Subject, spot
from upswitch.nginx.dump import Directive, walk
from upswitch.nginx.units import seconds_of

_WAITS_S = 60.0  # the default of proxy_read_timeout
_LEFT_BEHIND = re.compile(r"~$|\.(bak|old|orig|save|swp|rej|rpmsave|rpmnew|dpkg-(old|dist|new|bak)|ucf-(old|dist))$|^#.*#$")


def shutdown_cuts(subject: Subject) -> Iterator[Spot]:
    """nginx-facts.md, section 3: the client gets nothing, and the access line has 000."""
    for each in subject.conf.tree:
        if each.name == "worker_shutdown_timeout" and each.args and subject.passings:
            limits = [line for line in walk(subject.conf.tree) if line.name.endswith("_read_timeout") and line.args]
            longest = max([_WAITS_S, *(seconds_of(line.args[0]) for line in limits)])
            if 0 < seconds_of(each.args[0]) < longest:
                yield spot(each, given=each.args[0], seconds=f"{longest:g}")


def shutdown_unbounded(subject: Subject) -> Iterator[Spot]:
    """nginx-facts.md, section 3: an old worker lives as long as its last websocket."""
    names = {each.name for each in subject.conf.tree}
    if "worker_shutdown_timeout" in names or "events" not in names:
        return
    for passing in subject.passings:
        for scope in reversed(passing.around):
            if headers := scope.children("proxy_set_header"):
                if upgrade := [each for each in headers if each.args[:1] and each.args[0].lower() == "upgrade"]:
                    yield spot(upgrade[0])
                    return
                break


def nofile_below_connections(subject: Subject) -> Iterator[Spot]:
    """A proxied request takes two. nginx itself only warns at its start."""
    limit = next((each for each in subject.conf.tree if each.name == "worker_rlimit_nofile" and each.args), None)
    events = next((each for each in subject.conf.tree if each.name == "events"), None)
    connections = events.children("worker_connections") if events else ()
    if limit and connections and subject.passings and int(limit.args[0]) < int(connections[-1].args[0]):
        most = connections[-1].args[0]
        yield spot(limit, files=limit.args[0], connections=most, line=f"worker_rlimit_nofile {2 * int(most)};")


def left_behind_file(subject: Subject) -> Iterator[Spot]:
    for file in subject.conf.files:
        if _LEFT_BEHIND.search(file.path.rpartition("/")[2]):
            yield spot(Directive(name="", args=(), file=file.path, line=1))


def include_unread(subject: Subject) -> Iterator[Spot]:
    for file in subject.files:
        if file.why_unread:
            yield spot(file.by, path=file.path, why=file.why_unread)


def include_writable(subject: Subject) -> Iterator[Spot]:
    for file in subject.files:
        if file.is_writable_by_others:
            yield spot(file.by, path=file.path)


def include_elsewhere(subject: Subject) -> Iterator[Spot]:
    for file in subject.files:
        if file.is_elsewhere:
            yield spot(file.by, path=file.path)
