"""`init --drain-lines`: the drain lines as edits of the owner's files. Nothing here acts."""

import posixpath
from collections.abc import Collection

from msgspec.structs import replace

from upswitch.init.adopt import AdoptRefused, Edit
from upswitch.nginx import drain_compare, drain_lines
from upswitch.nginx.build import Build
from upswitch.nginx.drain_lines import DrainLines
from upswitch.nginx.dump import NginxConf, parse_dump
from upswitch.nginx.statements import StatementError


def with_drain_lines(
    edit: Edit, conf: NginxConf, build: Build, upstreams: Collection[str], *, flag: str
) -> tuple[tuple[Edit, ...], tuple[DrainLines, ...]]:
    """The edits with all drain lines that can be written, `edit` first, and what is left for the owner.

    Files with a server come before those with locations alone: after each single edit nginx still starts.
    """
    needed = drain_compare.advice(conf, build, upstreams, flag=flag)
    edits = {edit.path: edit}
    files = {each.path: each.text for each in conf.files}
    for path in dict.fromkeys(each.file for each in needed if each.lines and not each.remove):
        base = edits.get(path) or Edit(path=path, old=files[path], new=files[path])
        try:
            new = drain_lines.with_lines(base.new, [_moved(each, base) for each in needed if each.file == path])
        except StatementError as exc:
            raise AdoptRefused(f"the drain lines can't be written into {path}: {exc}") from exc
        edits[path] = replace(base, new=new)
    left = _left({**files, **{path: each.new for path, each in edits.items()}}, build, upstreams, flag=flag)
    return tuple(edits.values()), left


def _moved(each: DrainLines, edit: Edit) -> DrainLines:
    """The lines at their place after the edit, which replaces one statement that may have several lines."""
    first = posixpath.commonprefix([edit.old, edit.new]).count("\n") + 1
    return replace(each, line=each.line + edit.new.count("\n") - edit.old.count("\n")) if each.line > first else each


def _left(files: dict[str, str], build: Build, upstreams: Collection[str], *, flag: str) -> tuple[DrainLines, ...]:
    """What the new texts still lack. AdoptRefused where anything else is missing or is not as it should be."""
    conf = parse_dump("".join(f"# configuration file {path}:\n{text}\n" for path, text in files.items()))
    left = drain_compare.advice(conf, build, upstreams, flag=flag)
    wrong = [each.text for each in left if each.lines and not each.remove]
    own = [jump for jump in drain_compare.jumps(conf, flag=flag) if jump.is_ours]
    wrong += [each.text for each in drain_compare.differences(conf, own)]
    if wrong:
        raise AdoptRefused(f"the drain lines can't be written, add them by hand (`upswitch drain-lines`): {wrong[0]}")
    return left
