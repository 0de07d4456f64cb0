"""What rules.toml says of each code that `lint` can find. `upswitch help CODE` prints an entry."""

import pkgutil
from collections.abc import Mapping
from functools import cache

import msgspec

from upswitch.basics.value import Value
from upswitch.lint.rules import Level, LintFinding, Spot, Subject


class Entry(Value, forbid_unknown_fields=True):
    """One code. `why` is what happens to requests, `fix` the line to write, `source` where it was measured or who says so.

    Names in braces stand for what a Spot gives. `is_absent`: a line is missing, which another file may have; so it is only a note
    where nobody gave the whole configuration.
    """

    why: str
    fix: str
    source: str
    level: Level = Level.WARNING
    is_absent: bool = False


@cache
def catalogue() -> Mapping[str, Entry]:
    """Every code. ValidationError where a key is missing or unknown."""
    return msgspec.toml.decode(pkgutil.get_data("upswitch.lint", "rules.toml") or b"", type=dict[str, Entry])


def finding(code: str, spot: Spot, subject: Subject) -> LintFinding:
    """A Spot in the words of its entry."""
    entry = catalogue()[code]
    return LintFinding(
        code=code,
        level=Level.NOTE if entry.is_absent and subject.is_part else entry.level,
        what=f"{spot.at.place}: {entry.why.format_map(spot.values)}",
        hint=entry.fix.format_map(spot.values),
        file=spot.at.file,
        line=spot.at.line,
    )


def in_general(text: str) -> str:
    """An entry's text with NAME for what a Spot would give as {name}."""
    return text.format_map(_Capitals())


class _Capitals(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return key.upper()
