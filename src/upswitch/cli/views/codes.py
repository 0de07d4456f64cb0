"""The page of each code that `diagnose` or `lint` prints. `upswitch help CODE` prints it, and the documentation site has it."""

from collections.abc import Iterator

from upswitch.diagnose.causes import Cause, Line
from upswitch.diagnose.causes import catalogue as causes
from upswitch.lint.catalogue import Entry, in_general
from upswitch.lint.catalogue import catalogue as rules


def page_of(code: str) -> str | None:
    """The page in Markdown. None where neither command prints such a code."""
    if cause := causes().causes.get(code):
        return _page(code, _of_cause(cause))
    rule = rules().get(code)
    return _page(code, _of_rule(rule)) if rule else None


def _page(code: str, paragraphs: Iterator[str]) -> str:
    return "\n\n".join((f"# {code}", *paragraphs))


def _of_cause(cause: Cause) -> Iterator[str]:
    status = "Clients see no status" if cause.status is None else f"Clients get {cause.status:03}"
    yield f"{status}. {cause.why}"
    yield f"Check: {cause.check}"
    yield f"Fix: {cause.fix}"
    if cause.settings:
        names = [f"`proxy{name}`" if name.startswith("_") else f"`{name}`" for name in cause.settings]
        yield f"nginx's directives: {', '.join(names)}"
    yield "\n".join(_evidence(cause))


def _evidence(cause: Cause) -> Iterator[str]:
    """What `diagnose` goes by."""
    if cause.lines:
        yield "Found by lines of nginx's error log that begin so (regular expressions):\n"
        yield from (f"- {_of_line(line)}" for line in cause.lines)
    elif cause.beside:
        yield f"Found by lines of the app itself that fit this regular expression:\n\n- `{cause.beside}`"
    else:
        yield "No error line shows it alone: found by the access log, nginx's configuration or the live host, beside other lines."


def _of_line(line: Line) -> str:
    whiles = " or ".join(f"`while {action}`" for action in line.action)
    errnos = " or ".join(map(str, sorted(line.errno)))
    return f"`{line.message}`" + (f", error number {errnos}" if errnos else "") + (f", {whiles}" if whiles else "")


def _of_rule(entry: Entry) -> Iterator[str]:
    """Words in capitals stand for what `lint` puts there."""
    yield f"What happens: {in_general(entry.why)}"
    yield f"Fix: {in_general(entry.fix)}"
    yield f"Source: {entry.source}"
