"""The edits of nginx's own files: their diff, and the drain lines among them. Nothing here acts."""

import difflib
import re
from collections.abc import Collection, Mapping

import msgspec

from upswitch.basics.value import Value
from upswitch.init.places import AdoptRefused
from upswitch.nginx import drain_compare, drain_lines
from upswitch.nginx.build import Build
from upswitch.nginx.drain_lines import DrainLines
from upswitch.nginx.dump import NginxConf, parse_dump
from upswitch.nginx.statements import StatementError


class Edit(Value):
    """A change to a file of nginx's own configuration: its whole text before and after, and where its backup goes.

    `replaces_link`: the path is a symlink to a file of a pool. It becomes a file, and the pool's file stays as it is.
    """

    path: str
    old: str
    new: str
    backup: str = ""
    replaces_link: bool = False


def diff(old: str, new: str, path: str) -> str:
    """The unified diff of one file; "" where nothing differs."""
    lines = difflib.unified_diff(_lines(old), _lines(new), fromfile=path, tofile=path)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def edited(conf: NginxConf, edits: Collection[Edit], generation: Mapping[str, str]) -> NginxConf:
    """The configuration as the edits make it, with the files of the first generation by path."""
    new = {**{each.path: each.text for each in conf.files}, **{edit.path: edit.new for edit in edits}, **generation}
    return parse_dump("".join(f"# configuration file {path}:\n{text}\n" for path, text in new.items()))


def with_drain_lines(
    edits: tuple[Edit, ...], after: NginxConf, build: Build, upstreams: Collection[str], *, flag: str
) -> tuple[tuple[Edit, ...], tuple[DrainLines, ...]]:
    """The edits with all drain lines that can be written, in their order, and what is left for the owner.

    `after` is the configuration as the edits make it. Files with a server come before those with locations alone: after each
    single edit nginx still starts.
    """
    needed = drain_compare.advice(after, build, upstreams, flag=flag)
    found = {edit.path: edit for edit in edits}
    files = {each.path: each.text for each in after.files}
    for path in dict.fromkeys(each.file for each in needed if each.lines and not each.remove):
        base = found.get(path) or Edit(path=path, old=files[path], new=files[path])
        try:
            new = drain_lines.with_lines(base.new, [each for each in needed if each.file == path])
        except StatementError as exc:
            raise AdoptRefused(f"the drain lines can't be written into {path}: {exc}") from exc
        found[path] = msgspec.structs.replace(base, new=new)
    return tuple(found.values()), _left(edited(after, found.values(), {}), build, upstreams, flag=flag)


def _left(conf: NginxConf, build: Build, upstreams: Collection[str], *, flag: str) -> tuple[DrainLines, ...]:
    """What the new texts still lack. AdoptRefused where anything else is missing or is not as it should be."""
    left = drain_compare.advice(conf, build, upstreams, flag=flag)
    wrong = [each.text for each in left if each.lines and not each.remove]
    own = [jump for jump in drain_compare.jumps(conf, flag=flag) if jump.is_ours]
    wrong += [each.text for each in drain_compare.differences(conf, own)]
    if wrong:
        raise AdoptRefused(f"the drain lines can't be written, add them by hand (`upswitch drain-lines`): {wrong[0]}")
    return left


def _lines(text: str) -> list[str]:
    """The lines as nginx counts them: `splitlines` would also cut at form feeds."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)
