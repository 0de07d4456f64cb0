"""The pools of a new site: whose names differ by the pool alone, and what the other pools hold. Nothing here acts."""

import posixpath
import re
from collections.abc import Iterable, Iterator

import msgspec

from upswitch.basics.value import Value
from upswitch.nginx.statements import StatementError
from upswitch.nginx.upstream_file import UpstreamBlock, read_upstreams

_CLASSES = (r"[A-Z]+", r"[a-z]+", r"[0-9]+", r"[A-Za-z0-9_-]+")
_PAIRS = (
    *(("blue", "green"), ("a", "b"), ("1", "2"), ("one", "two"), ("v1", "v2"), ("old", "new"), ("active", "standby")),
    *(("live", "idle"), ("primary", "secondary"), ("red", "black"), ("current", "next")),
)
OPPOSITE = {**dict(_PAIRS), **{other: one for one, other in _PAIRS}}
"""How people call the other pool, by the name of one in small letters."""


class Candidate(Value):
    """A file that may hold a pool, with its whole text. `upstream`: the text is only the servers of this upstream."""

    pool: str
    path: str
    text: str
    upstream: str = ""


def other_pool(pool: str) -> str:
    """A name for the other pool, in the letters of this one: green, GREEN, B."""
    found = OPPOSITE.get(pool.lower(), "B" if pool.lower() != "b" else "A")
    return found.upper() if pool.isupper() else found


def pool_word(name: str, pool: str) -> re.Match[str] | None:
    """The pool as a word of a name: the blue of app_blue and of appblue, the B of appB, but not the a of backend."""
    word = re.escape(pool)
    close = rf"|^{word}|{word}$" if len(pool) > len("new") else ""
    return re.search(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])|(?<=[a-z0-9]){re.escape(pool.capitalize())}$" + close, name)


def without_pool(name: str, pool: str) -> str:
    """The name of what both pools are: app of app_blue, "" of blue. A name without the pool stays."""
    found = pool_word(name, pool)
    if not found:
        return name
    before, after = name[: found.start()].rstrip("_.-"), name[found.end() :]
    return before + (after if before else after.lstrip("_.-"))


def sibling_upstreams(name: str, pool: str, names: Iterable[str]) -> dict[str, str]:
    """The upstreams named like this one but for the pool's name (app_blue, app_green), by pool."""
    if not pool_word(name, pool):
        return {}
    found = sibling_names(name, pool, names)
    opposite = next((each for each in found if each.lower() == OPPOSITE.get(pool.lower())), "")
    if opposite:
        return {opposite: found[opposite]}
    return found if re.search(r"\d", pool) else {}


def sibling_names(path: str, pool: str, listing: Iterable[str]) -> dict[str, str]:
    """The files named like `path` but for the pool's name (upstreamA.conf, upstreamB.conf), by pool.

    `listing` are the names in the folder. The other pool's name must be of the same kind (capitals, small letters, digits).
    """
    folder, name = posixpath.split(path)
    before, found, after = name.rpartition(pool)
    if not found:
        return {}
    kind = next((each for each in _CLASSES if re.fullmatch(each, pool)), re.escape(pool))
    pattern = re.compile(f"{re.escape(before)}({kind}){re.escape(after)}")
    matches = (pattern.fullmatch(each) for each in sorted(listing))
    return {match[1]: posixpath.join(folder, match[0]) for match in matches if match and match[1] != pool}


def pools_of(
    source: str, pool: str, own: tuple[UpstreamBlock, ...], candidates: Iterable[Candidate]
) -> tuple[dict[str, tuple[UpstreamBlock, ...]], tuple[str, ...]]:
    """The blocks of every pool, `pool` first, and remarks about the candidates. A pool without all the upstreams is left out."""
    pools, remarks = {pool: own}, list[str]()
    by_pool: dict[str, list[Candidate]] = {}
    for each in candidates:
        by_pool.setdefault(each.pool, []).append(each)
    names = [block.name for block in own]
    for other, several in by_pool.items():
        found = {block.name: block for each in several for block in _readable(each) if block.servers}
        where = ", ".join(each.path for each in several)
        if not found.keys() >= {*names}:
            remarks.append(f"{where} was left out: it does not hold the same upstreams as {source}")
            continue
        theirs = tuple(found[name] for name in names)
        pools[other] = theirs
        own, taken = _with_checks(own, theirs)
        remarks += [f"the check of upstream {name} comes from {where}, for every pool: {source} has none" for name in taken]
        remarks += [f"{what} in {where}; both pools get those of {source}" for what in _differences(own, theirs)]
    return {**pools, pool: own}, tuple(remarks)


def inside_of_only(text: str) -> str:
    """What stands in the only upstream block of a file; "" where it has none or several, or can't be read."""
    try:
        blocks = read_upstreams(text).upstreams
    except StatementError:
        return ""
    return text[text.index("{", blocks[0].start) + 1 : blocks[0].end - 1] if len(blocks) == 1 else ""


def _with_checks(
    own: tuple[UpstreamBlock, ...], other: tuple[UpstreamBlock, ...]
) -> tuple[tuple[UpstreamBlock, ...], tuple[str, ...]]:
    """The blocks with the other file's checks where they have none, and which took one.

    On an nginx without the check module the live file can't have a check, but a file beside it may.
    """
    theirs = {each.name: each.check for each in other}
    taken = tuple(each.name for each in own if each.check is None and theirs[each.name] is not None)
    filled = (msgspec.structs.replace(each, check=theirs[each.name]) if each.name in taken else each for each in own)
    return tuple(filled), taken


def _readable(candidate: Candidate) -> tuple[UpstreamBlock, ...]:
    name, text = candidate.upstream, candidate.text
    try:
        return read_upstreams(f"upstream {name} {{\n{text}\n}}" if name else text).upstreams
    except StatementError:
        return ()


def _differences(own: tuple[UpstreamBlock, ...], other: tuple[UpstreamBlock, ...]) -> Iterator[str]:
    theirs = {each.name: each for each in other}
    for each in own:
        if theirs[each.name].directives != each.directives:
            yield f"the directives of upstream {each.name} differ"
        if theirs[each.name].check != each.check:
            yield f"the check of upstream {each.name} differs"
