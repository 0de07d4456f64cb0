"""What `lint` prints: text for people, JSON, SARIF 2.1.0 for code scanning, and the commands that GitHub shows beside a line."""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View

if TYPE_CHECKING:
    from upswitch.lint.rules import LintFinding

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_GITHUB = {"error": "error", "warning": "warning", "note": "notice"}
_LONG = 100
_ESCAPED = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_ESCAPED_PROPERTY = _ESCAPED | str.maketrans({":": "%3A", ",": "%2C"})


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


class LintView(View):
    """`lint`: exit 0 without an error or a warning, 3 with one. `folder`: the files inside of it get relative names."""

    findings: tuple["LintFinding", ...]
    format: Format = Format.TEXT
    folder: str = ""

    @property
    def text(self) -> str:
        match self.format:
            case Format.SARIF:
                return msgspec.json.format(msgspec.json.encode(_sarif(self))).decode()
            case Format.GITHUB:
                return "\n".join(_github(each, self.folder) for each in self.findings)
            case _:
                return "\n".join(_lines(self.findings)) or "Nothing found."


def lint(findings: Iterable["LintFinding"], form: Format = Format.TEXT, folder: str = "") -> LintView:
    found = tuple(findings)
    is_bad = any(each.level != "note" for each in found)
    return LintView(command="lint", exit=Exit.FINDINGS if is_bad else Exit.DONE, findings=found, format=form, folder=folder)


def _lines(findings: Iterable["LintFinding"]) -> Iterator[str]:
    """What two findings ask for alike, such as a long log_format, stands there once."""
    asked = dict[str, str]()
    for each in findings:
        yield f"{each.level.upper()} {each.code}: {each.what}"
        first = asked.setdefault(each.hint, each.code)
        is_again = first != each.code and len(each.hint) > _LONG
        yield f"    do what {first} asks for: it is the same line" if is_again else f"    {each.hint}"


def of_hosts(views: Sequence[View]) -> str:
    """One document of several hosts, each finding once; "" where a host has none or people read it."""
    found = [each for each in views if isinstance(each, LintView) and each.format in (Format.SARIF, Format.GITHUB)]
    if not found or len(found) < len(views):
        return ""
    together = dict.fromkeys(finding for view in found for finding in view.findings)
    return lint(together, found[0].format, found[0].folder).text


def _github(each: "LintFinding", folder: str) -> str:
    """Workflow commands: `::error file=F,line=N,title=T::message`."""
    place = {"file": _relative(each.file, folder), "line": str(each.line) if each.line else "", "title": f"upswitch {each.code}"}
    words = ",".join(f"{key}={value.translate(_ESCAPED_PROPERTY)}" for key, value in place.items() if value)
    return f"::{_GITHUB[each.level]} {words}::{each.what.translate(_ESCAPED)}%0A{each.hint.translate(_ESCAPED)}"


def _sarif(view: LintView) -> dict[str, Any]:
    from upswitch import __version__
    from upswitch.lint.catalogue import catalogue, in_general

    codes = sorted({each.code for each in view.findings})
    rules = [
        {
            "id": code,
            "shortDescription": {"text": in_general(catalogue()[code].why)},
            "help": {"text": f"{in_general(catalogue()[code].fix)}\n\nSource: {catalogue()[code].source}"},
        }
        for code in codes
    ]
    results = [
        {
            "ruleId": each.code,
            "ruleIndex": codes.index(each.code),
            "level": str(each.level),
            "message": {"text": f"{each.what}\n{each.hint}"},
            "locations": list(_locations(each, view.folder)),
        }
        for each in view.findings
    ]
    driver = {"name": "upswitch", "semanticVersion": __version__, "rules": rules}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _locations(each: "LintFinding", folder: str) -> Iterator[dict[str, Any]]:
    if each.file:
        name = _relative(each.file, folder)
        place: dict[str, Any] = {"artifactLocation": {"uri": f"file://{quote(name)}" if name.startswith("/") else quote(name)}}
        yield {"physicalLocation": place | ({"region": {"startLine": each.line}} if each.line else {})}


def _relative(file: str, folder: str) -> str:
    """As a checkout names it."""
    path = Path(file)
    return path.relative_to(folder).as_posix() if folder and path.is_relative_to(folder) else file
