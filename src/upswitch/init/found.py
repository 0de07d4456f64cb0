"""What an nginx passes requests to: its upstreams and plain addresses, who passes to each, and what may be its other pool."""

import posixpath
import re
from collections.abc import Iterator, Mapping

from upswitch.basics.errors import NginxBrokenError
from upswitch.basics.value import Value
from upswitch.hosts.host import Host
from upswitch.hosts.sh import QUICK_S
from upswitch.init import places
from upswitch.init.pools import OPPOSITE, sibling_upstreams
from upswitch.init.propose import BACKUP, kinds, real_paths, text_of, unreadable
from upswitch.nginx import running
from upswitch.nginx.configuration import lives, passed_upstreams, upstream_blocks
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.statements import StatementError
from upswitch.nginx.upstream_file import read_upstreams
from upswitch.site.model import Nginx

_MOST_FILES = 60
_WORDS = re.compile("|".join(sorted(OPPOSITE, key=len, reverse=True)), re.IGNORECASE)
_OWN_ADDRESS = re.compile(r"unix:|(?:127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|localhost|\[)\S*|[\w-]+:\d+$")


class FoundUpstream(Value):
    """One upstream of nginx's, or an address that a pass names itself (`place` "" then).

    `passes` are the places that send requests to it, `others` the files and upstreams that look like its other pool. `pool` is what
    its name or its file's name calls the pool, "" for nothing.
    """

    name: str
    place: str
    servers: tuple[str, ...]
    passes: tuple[str, ...]
    others: tuple[str, ...] = ()
    pool: str = ""
    is_managed: bool = False

    def other(self, *, among: int) -> tuple[str, ...]:
        """The option for its other pool, where init does not find that by itself. `among`: of so many upstreams of one site."""
        if self.pool or not self.others:
            return ()
        return ("--other", self.others[0] if among == 1 else f"{self.name}={self.others[0]}")


def look(host: Host, nginx: Nginx) -> tuple[FoundUpstream, ...]:
    """Everything that this nginx passes requests to. RefusedError where its configuration can't be read."""
    try:
        conf = running.read_conf(host, nginx, running.read_build(host, nginx))
    except NginxBrokenError as exc:
        raise unreadable(nginx, exc) from exc
    real = real_paths(host, [each.path for each in conf.files])
    return found(conf, real, _beside(host, conf, real))


def found(conf: NginxConf, real: Mapping[str, str], beside: Mapping[str, str]) -> tuple[FoundUpstream, ...]:
    """`real` is where nginx's files really lie; `beside` are the texts of the files beside them, by path."""
    managed = tuple(f"{live}/" for live in lives(conf))
    passes = places.passes(conf)
    blocks = upstream_blocks(conf)
    named = {each.args[0]: [one.place for one in passes if each.args[0] in passed_upstreams(conf, one)] for each in blocks}
    upstreams = [
        FoundUpstream(
            name=each.args[0],
            place=each.place,
            servers=tuple(" ".join(server.args) for server in each.children("server")),
            passes=tuple(dict.fromkeys(named[each.args[0]])),
            others=tuple(_others(conf, each.args[0], beside)),
            pool=_pool(conf, each.args[0], posixpath.basename(real.get(each.file, each.file)), beside),
            is_managed=each.file.startswith(managed),
        )
        for each in blocks
    ]
    return (*upstreams, *_addresses(conf))


def _addresses(conf: NginxConf) -> Iterator[FoundUpstream]:
    by: dict[str, list[str]] = {}
    for each in places.passes(conf):
        for name in passed_upstreams(conf, each):
            by.setdefault(name, []).append(each.place)
    for name, passing in by.items():
        if places.is_address(conf, name) and _OWN_ADDRESS.match(name):
            yield FoundUpstream(name=name, place="", servers=(name,), passes=tuple(dict.fromkeys(passing)))


def _others(conf: NginxConf, name: str, beside: Mapping[str, str]) -> Iterator[str]:
    """Upstreams that are named like this one but for the pool, and files that nginx does not read with an upstream of this name."""
    every = [each.args[0] for each in upstream_blocks(conf)]
    for word in _WORDS.findall(name):
        yield from sibling_upstreams(name, word, every).values()
    yield from (path for path, text in beside.items() if name in _names(text))


def _pool(conf: NginxConf, name: str, file: str, beside: Mapping[str, str]) -> str:
    """The pool's name, where the upstream's name or the file's has one and the other pool has the like."""
    every = [each.args[0] for each in upstream_blocks(conf)]
    if word := next((word for word in _WORDS.findall(name) if sibling_upstreams(name, word, every)), ""):
        return word
    files = {posixpath.basename(path) for path in beside}
    words = [found for found in _WORDS.finditer(file) if _exchanged(file, found) in files]
    return words[-1][0] if words else ""


def _exchanged(name: str, word: re.Match[str]) -> str:
    other = OPPOSITE[word[0].lower()]
    return f"{name[: word.start()]}{other.upper() if word[0].isupper() else other}{name[word.end() :]}"


def _names(text: str) -> set[str]:
    try:
        return {each.name for each in read_upstreams(text).upstreams}
    except StatementError:
        return set()


def _beside(host: Host, conf: NginxConf, real: Mapping[str, str]) -> dict[str, str]:
    """The files beside those with upstreams that nginx does not read, by path. A symlink is left out."""
    folders = dict.fromkeys(posixpath.dirname(real[each.file]) for each in upstream_blocks(conf))
    paths = []
    for folder in folders:
        listing = host.run(("ls", "-1", folder), deadline=QUICK_S).out.decode("utf-8", "replace").splitlines()
        paths += [f"{folder}/{name}" for name in listing[:_MOST_FILES] if BACKUP not in name]
    seen = zip(paths, kinds(host, paths), strict=True)
    unread = [path for path, (kind, _, _) in seen if kind == "file" and path not in real.values()]
    return {path: text for path in unread if (text := text_of(host, path))}
