"""The output of `nginx -T` as one tree of directives, with every include expanded in place.

It is what nginx itself reads, under the names by which nginx reads it, in one command on any host. nginx writes
`# configuration file PATH:`, the file as it is, and one newline more, each file once (ngx_conf_add_dump). Includes are resolved as
in nginx: the text is joined to the folder of the *main* file, never of the including one. A pattern is glob(3): matched part by
part, without a leading dot, in the order of the bytes.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from upswitch.basics.value import Value

_MARKER = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_ESCAPE = re.compile(r"\\([\\\"'trn])")
_CONTROL = {"t": "\t", "r": "\r", "n": "\n"}
_NEEDS_QUOTES = re.compile(r"[\s;{}\"'\\]|^#|^$")
_MOST_STATEMENTS = 500_000
_GLOB = re.compile(r"[*?\[]")


class DumpError(ValueError):
    """The text is not the whole output of `nginx -T`, or its braces don't match."""


class Directive(Value):
    """One statement. `args` are unquoted, with escapes resolved. `block` is None where the statement ends with `;`.

    An `include` stays in its place. The statements of the included file follow it, each with its own file and line.
    """

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    block: "tuple[Directive, ...] | None" = None

    @property
    def text(self) -> str:
        """The statement without its block on one line, quoted where it must be, ending with `;`."""
        return " ".join((self.name, *map(quoted, self.args))) + ";"

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    def children(self, *names: str) -> tuple["Directive", ...]:
        """Direct children of these names, in their order."""
        return tuple(each for each in self.block or () if each.name in names)


def walk(block: Iterable[Directive]) -> Iterator[Directive]:
    """These statements and every one inside them."""
    for each in block:
        yield each
        yield from walk(each.block or ())


class ConfFile(Value):
    """One file of the dump, by the name nginx read it under."""

    path: str
    text: str


class NginxConf(Value):
    """A whole configuration: its files, the main one first, and their statements as one tree."""

    files: tuple[ConfFile, ...]
    tree: tuple[Directive, ...]

    @property
    def path(self) -> str:
        """The main file."""
        return self.files[0].path

    def includes(self, directive: Directive) -> str:
        """The path or pattern that an `include` opens: joined to the main file's folder, nothing normalised."""
        return include_pattern(self.path, directive.args[0])


def parse_dump(text: str) -> NginxConf:
    """Read the stdout of `nginx -T`. DumpError names the file and line. An unknown directive is no error."""
    files = split_dump(text)
    path = files[0].path
    parsed = {each.path: _parse_file(each) for each in files}
    return NginxConf(files=files, tree=_Expansion(path, parsed).expand(parsed[path], (path,)))


def split_dump(text: str) -> tuple[ConfFile, ...]:
    """The files in the order nginx read them; the first is the main one."""
    marks = list(_MARKER.finditer(text))
    if not marks:
        raise DumpError("this is not the output of nginx -T: it has no line '# configuration file PATH:'")
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return tuple(
        ConfFile(path=mark[1], text=text[mark.end() + 1 : end].removesuffix("\n")) for mark, end in zip(marks, ends, strict=True)
    )


def matches_include(pattern: str, path: str) -> bool:
    """Whether an include of `pattern` (a full path, maybe with `*`, `?`, `[...]`) reads `path`."""
    if not _GLOB.search(pattern):
        return pattern == path
    wanted, parts = pattern.split("/"), path.split("/")
    return len(wanted) == len(parts) and all(map(_matches_part, wanted, parts))


def is_glob(pattern: str) -> bool:
    """Whether nginx reads it as a pattern (ngx_conf_include). For any other include a missing file is an error."""
    return _GLOB.search(pattern) is not None


def include_pattern(conf_path: str, argument: str) -> str:
    """What an `include ARGUMENT` opens under the main file `conf_path`."""
    return argument if argument.startswith("/") else conf_path[: conf_path.rfind("/") + 1] + argument


def unescaped(token: str) -> str:
    r"""The escapes that nginx itself resolves (ngx_conf_read_token): `\\`, `\"`, `\'`, `\t`, `\r`, `\n`; others stay."""
    return _ESCAPE.sub(lambda found: _CONTROL.get(found[1], found[1]), token)


class _Expansion:
    """Puts the statements of included files behind their include. One file may be included in many places."""

    def __init__(self, path: str, parsed: Mapping[str, tuple[Directive, ...]]) -> None:
        self._path = path
        self._parsed = parsed
        self._left = _MOST_STATEMENTS

    def expand(self, block: tuple[Directive, ...], reading: tuple[str, ...]) -> tuple[Directive, ...]:
        """`reading` are the files around this block. A file that includes itself is refused, as in nginx."""
        return tuple(each for directive in block for each in self._one(directive, reading))

    def _one(self, directive: Directive, reading: tuple[str, ...]) -> Iterator[Directive]:
        self._left -= 1
        if self._left < 0:
            raise DumpError(f"{directive.place}: more than {_MOST_STATEMENTS} statements; does a file include another one twice?")
        yield directive if directive.block is None else replace(directive, block=self.expand(directive.block, reading))
        if directive.name == "include" and directive.args:
            for name in self._included(directive.args[0]):
                if name in reading:
                    raise DumpError(f"{directive.place}: {name} includes itself")
                yield from self.expand(self._parsed[name], (*reading, name))

    def _included(self, argument: str) -> list[str]:
        pattern = include_pattern(self._path, argument)
        return sorted(name for name in self._parsed if matches_include(pattern, name))


def _matches_part(pattern: str, part: str) -> bool:
    return fnmatch.fnmatchcase(part, pattern) and (not part.startswith(".") or pattern.startswith("."))


def _parse_file(file: ConfFile) -> tuple[Directive, ...]:
    import crossplane  # noqa: PLC0415  (11 ms that most commands don't need)

    payload = crossplane.parse_string(file.text, filename=file.path, single=True, check_ctx=False, check_args=False, strict=False)
    parsed = payload["config"][0]
    if parsed["errors"]:
        raise DumpError(f"{file.path}: {parsed['errors'][0]['error']}")
    return _directives(file.path, parsed["parsed"])


_OF_FREE_WORDS = frozenset({"map", "geo", "split_clients", "types", "charset_map"})


def _directives(name: str, statements: list[dict[str, Any]], block: str = "") -> tuple[Directive, ...]:
    """Those of a file, or of a block of this name. crossplane takes a second `{` for a directive, and nginx refuses it."""
    brace = next((each["line"] for each in statements if each["directive"] == "{" and block not in _OF_FREE_WORDS), 0)
    if brace:
        raise DumpError(f'{name}:{brace}: nginx refuses a "{{" here. A template must be rendered first')
    return tuple(
        Directive(
            name=each["directive"],
            args=tuple(unescaped(arg) for arg in each["args"]),
            file=name,
            line=each["line"],
            block=_directives(name, each["block"], each["directive"]) if "block" in each else None,
        )
        for each in statements
    )


def quoted(arg: str) -> str:
    """One argument as it must be written, in quotes where nginx would split it."""
    if not _NEEDS_QUOTES.search(arg):
        return arg
    text = arg.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    return f'"{text}"'
