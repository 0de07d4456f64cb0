"""An nginx configuration on this machine, or a part of one: files, a pipe, or what `nginx -T` printed."""

import glob
import os
import re
import stat
from collections.abc import Iterator

from upswitch.hosts.local import opened
from upswitch.lint.rules import IncludedFile
from upswitch.nginx import configuration, dump
from upswitch.nginx.configuration import PASSES
from upswitch.nginx.dump import Directive, DumpError, NginxConf

STDIN = "-"
_PRINTED = "# configuration file "
_OF_NGINX_T = re.compile(rf"(?:(?:nginx: [^\n]*|[ \t]*)\n)*{_PRINTED}[^\n]+:\n")
"""Its output, and maybe what it wrote to stderr before."""
_END = "upswitch_end"
_LARGEST = 1 << 22  # characters of one file
_MOST_FILES = 10_000
_OF_MAIN = {"http", "events", "stream", "mail"}
_OF_SERVER = {"location", "listen", "server_name", *PASSES}


def read(path: str) -> tuple[NginxConf, tuple[IncludedFile, ...]]:
    """What `nginx -T -c PATH` would print, as a tree, and the files of this disk. PATH may also hold such output, and `-` is stdin.

    Includes start from PATH's folder. One that can't be read is left out. OSError where PATH can't be read, DumpError where it is
    not nginx's syntax.
    """
    main = os.path.abspath("<stdin>" if path == STDIN else path)
    text = _text(main, os.dup(0) if path == STDIN else opened.named(main))  # not /dev/stdin: it may be a socket
    if found := _OF_NGINX_T.match(text.replace("\r\n", "\n")):
        printed = text.replace("\r\n", "\n")
        return dump.parse_dump(printed[printed.index(_PRINTED, 0, found.end()) :]), ()
    seen = {main: _looked_at(main, main, _written_by(main, 1))} if path != STDIN else {}
    return _with_includes(main, text, seen)


def _with_includes(main: str, text: str, seen: dict[str, IncludedFile]) -> tuple[NginxConf, tuple[IncludedFile, ...]]:
    texts, waiting = {main: _marked(main, text)}, [main]
    while waiting:
        for name, by in _included(main, _alone(texts[waiting.pop()])):
            if name in texts or name in seen:
                continue
            try:
                texts[name] = _marked(name, _text(name, opened.regular(name)))  # nobody writes into a pipe that is included
            except OSError as exc:
                seen[name] = IncludedFile(path=name, by=by, why_unread=exc.strerror or str(exc))
                continue
            seen[name] = _looked_at(name, main, by)
            waiting.append(name)
        if len(texts) > _MOST_FILES:
            raise DumpError(f"{main} includes more than {_MOST_FILES} files")
    return dump.parse_dump("".join(texts.values())), tuple(seen.values())


def whole(conf: NginxConf) -> NginxConf:
    """A part of a configuration gets the blocks around it that nginx would need."""
    names, tree = {each.name for each in conf.tree}, conf.tree
    if names & _OF_MAIN:
        return conf
    if any(each.name == "server" and each.block is None for each in tree):
        tree = (_block(conf, "upstream", tree, os.path.basename(conf.path)),)
    elif names & _OF_SERVER:
        tree = (_block(conf, "server", tree),)
    workers = Directive(name="worker_processes", args=("auto",), file=conf.path, line=0)
    return NginxConf(files=conf.files, tree=(workers, _block(conf, "http", tree)))


def _block(conf: NginxConf, name: str, inside: tuple[Directive, ...], *args: str) -> Directive:
    return Directive(name=name, args=args, file=conf.path, line=1, block=inside)


def _marked(name: str, text: str) -> str:
    """As `nginx -T` prints a file. A comment like such a line would end the file for us."""
    return f"{_PRINTED}{name}:\n{text.replace(_PRINTED, '# ')}\n"


def _text(path: str, descriptor: int) -> str:
    with open(descriptor, encoding="utf-8", errors="backslashreplace", newline="") as file:
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise DumpError(f"{path} is larger than {_LARGEST >> 20} MiB")
    if text.startswith("\ufeff"):
        raise DumpError(f"{path} begins with a byte order mark, which nginx refuses")
    return text


def _alone(printed: str) -> tuple[Directive, ...]:
    """One file. crossplane accepts a last statement without `;`, and nginx does not."""
    conf = dump.parse_dump(f"{printed}{_END};\n")
    if (conf.tree[-1].name, conf.tree[-1].args) != (_END, ()):
        raise DumpError(f'{conf.path} ends where a ";" is missing')
    return conf.tree[:-1]


def _included(main: str, block: tuple[Directive, ...]) -> Iterator[tuple[str, Directive]]:
    """Each file and the line that includes it. A pattern may match nothing, but its folder should be there."""
    for each in configuration.includes(block):
        pattern = dump.include_pattern(main, each.args[0])
        if not dump.is_glob(pattern) or not os.path.isdir(os.path.dirname(pattern)):
            yield pattern, each
        else:
            yield from ((name, each) for name in glob.glob(pattern) if os.path.isfile(name))


def _looked_at(path: str, main: str, by: Directive) -> IncludedFile:
    file, folder = os.stat(path), os.stat(os.path.dirname(path))
    is_elsewhere = file.st_dev != os.stat(main if os.path.exists(main) else ".").st_dev
    is_open = is_open_to_all(file.st_mode, folder.st_mode, is_of_pattern=dump.is_glob(by.args[0]))
    return IncludedFile(path=path, by=by, is_writable_by_others=is_open, is_elsewhere=is_elsewhere)


def is_open_to_all(file: int, folder: int, *, is_of_pattern: bool = False) -> bool:
    """By the modes. In a folder that is open anybody can put another file, and behind its sticky bit one more for a pattern."""
    is_folder_open = folder & stat.S_IWOTH and (not folder & stat.S_ISVTX or is_of_pattern)
    return bool(file & stat.S_IWOTH or is_folder_open)


def _written_by(path: str, line: int) -> Directive:
    return Directive(name="include", args=(path,), file=path, line=line)
