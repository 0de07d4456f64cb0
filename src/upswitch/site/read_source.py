"""Reading a pool that is a table: the source of its servers."""

import re
from collections.abc import Callable

from upswitch.site import values
from upswitch.site.source import CommandSource, FileSource, Source
from upswitch.site.values import Reader

_WORD = re.compile(r"[^\x00-\x1f\x7f]{1,4000}")


def is_source(value: object) -> bool:
    """Whether a table of an upstream is a pool's source: it has the key of one."""
    return isinstance(value, dict) and not KINDS.keys().isdisjoint(value)


def source(reader: Reader) -> Source | None:
    """The source that the table describes; None, with a problem, where it is none or several."""
    kinds = [kind for kind in KINDS if kind in reader]
    if len(kinds) > 1:
        reader.refuse(kinds[1], "(given)", f"must not stand beside {kinds[0]}: a pool has one source")
    found = KINDS[kinds[0]](reader)
    return None if any(reader.is_refused(kind) for kind in kinds) else found


def _file(reader: Reader) -> Source:
    return FileSource(path=reader.take("file", "", values.path))


def _command(reader: Reader) -> Source:
    argv = reader.each("command", (), _word)
    return CommandSource(argv=argv, deadline=reader.take("deadline", 10.0, values.some_seconds))


def _word(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError("must be a list of words, the command first, without control characters")
    return value


KINDS: dict[str, Callable[[Reader], Source]] = {"file": _file, "command": _command}
"""By the key that names the kind."""
