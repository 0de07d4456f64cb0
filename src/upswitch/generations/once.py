"""What nginx takes only once in `http`, and which of several sites on one nginx renders it.

nginx refuses a second line of these. The owner's own line comes first, then that of a site whose live generation has one. Where
nobody has one, only the site whose include stands first in `http` may add it. So two sites that switch at the same time, each with
the other's former generation before its eyes, never both add it.
"""

from upswitch.nginx import configuration
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.statements import StatementError, statements

NAMES = ("keepalive_min_timeout", "check_shm_size")


def may_hold(conf: NginxConf, name: str, *, live: str) -> bool:
    """Whether a generation of ours may hold this line. `live` is `Nginx.live`."""
    places = [each.file for each in configuration.http_children(conf, name)]
    if any(not file.startswith(f"{live}/") for file in places):
        return False
    return bool(places) or configuration.lives(conf)[:1] in {(), (live,)}


def refused(conf: NginxConf, *, live: str) -> tuple[str, ...]:
    """The names of the lines that no generation of ours may hold now."""
    return tuple(name for name in NAMES if not may_hold(conf, name, live=live))


def missing(text: str) -> tuple[str, ...]:
    """The names of the lines that this file lacks; none where it can't be read."""
    try:
        found = {each.words[0] for each in statements(text)}
    except StatementError:
        return ()
    return tuple(name for name in NAMES if name not in found)


def without(text: str, names: tuple[str, ...]) -> str:
    """The file without these lines, and otherwise byte for byte. A file that can't be read stays as it is."""
    try:
        found = [each for each in statements(text) if each.words[0] in names]
    except StatementError:
        return text
    for each in reversed(found):
        text = text[: each.start] + text[each.end :].removeprefix("\n")
    return text
