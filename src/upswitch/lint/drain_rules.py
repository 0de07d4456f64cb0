"""The lint rules about the drain flag of nginx before 1.27.4: which locations lose requests, and which answer differently."""

from collections.abc import Iterator

from upswitch.lint.rules import LintFinding, Subject, error, note, warning
from upswitch.nginx import configuration, drain_compare, drain_lines
from upswitch.nginx.drain_compare import Jump
from upswitch.nginx.drain_lines import LOST, Passing

_SHOWN = "`upswitch drain-lines` prints the lines to add"
_STAYS_DOWN = "a switch leaves the flag down until this is fixed"


def drain_off(subject: Subject) -> Iterator[LintFinding]:
    if subject.site.nginx.drain <= 0:
        yield warning(f"nginx.drain is 0: {LOST}", 'set nginx.drain = "1s"')


def no_drain_lines(subject: Subject) -> Iterator[LintFinding]:
    """A reload loses requests on idle keep-alive connections (nginx-facts.md, section 4)."""
    without = [each for each, ways in _passing(subject) if not ways]
    needed = list(drain_lines.missing(without, subject.site.nginx.drain_flag))
    for each in without:
        passes = f"{each.place} passes to {', '.join(each.upstreams)}"
        places = {(block.file, block.line) for block in (each.server, each.location)}
        own = [one for one in needed if (one.file, one.line) in places]
        if reason := next((one.no_cure for one in own if one.block == f"location {each.name}"), ""):
            what = f"{passes}. No drain lines fit it, because {reason}: {LOST}"
            yield note(what, "nginx 1.27.4 and later needs no drain lines", each.location)
            continue
        needed = [one for one in needed if one not in own]
        texts = "\n".join(one.text for one in own)
        yield warning(
            f"{passes} without drain lines: {LOST}",
            f"nginx 1.27.4 and later needs none; before, add these:\n{texts}",
            each.location,
        )


def drain_flag_differs(subject: Subject) -> Iterator[LintFinding]:
    flag = subject.site.nginx.drain_flag
    for each, ways in _passing(subject):
        flags = [way.flag for way in ways]
        if flags and flag not in flags:
            what = f"{each.place} passes to {', '.join(each.upstreams)} and tests {', '.join(flags)}, not {flag}: {LOST}"
            yield warning(what, f"name the same file in nginx.drain_flag and in the location; {_SHOWN}", each.location)


def _passing(subject: Subject) -> tuple[tuple[Passing, tuple[Jump, ...]], ...]:
    if subject.site.nginx.drain <= 0 or not subject.build.needs_drain_flag:
        return ()
    return drain_compare.passing(subject.conf, subject.names)


def open_file_cache(subject: Subject) -> Iterator[LintFinding]:
    """nginx caches "no such file" for open_file_cache_valid, 60 s by default (nginx-facts.md, section 4)."""
    for each in configuration.http_children(subject.conf, "open_file_cache"):
        if subject.names and subject.build.needs_drain_flag and each.args[:1] != ("off",):
            what = f"{each.place}: with open_file_cache nginx sees the drain flag up to 60 s late (open_file_cache_valid)"
            yield warning(what, "set open_file_cache only in the locations that serve files", each)


def drain_location_differs(subject: Subject) -> Iterator[LintFinding]:
    """Each directive that does not hold in both. Who may do what is an error, everything else a warning."""
    for each in drain_compare.differences(subject.conf, _jumps(subject)):
        what = f"{each.text}. Requests are answered differently while the drain flag is up"
        hint = f"replace these drain lines: {_SHOWN}; {_STAYS_DOWN}"
        yield (error if each.is_access else warning)(what, hint, each.at)


def drain_lines_old(subject: Subject) -> Iterator[LintFinding]:
    """upswitch advised them once. They come before the access phase, and a named location inherits nothing."""
    for jump in _jumps(subject):
        if jump.code and jump.target:
            what = (
                f"{jump.test.place}: the drain lines with `return {jump.code}` and {jump.path} are dangerous. "
                "While the drain flag is up, they skip auth_basic, allow, deny, auth_request, limit_req and the location's headers"
            )
            yield warning(what, f"remove these lines and {jump.path}; {_SHOWN}, which keep all of that", jump.test)


def _jumps(subject: Subject) -> tuple[Jump, ...]:
    if not subject.build.needs_drain_flag:
        return ()
    return drain_compare.jumps(subject.conf, flag=subject.site.nginx.drain_flag)
