"""ssh_config, read as ssh reads it: `Include` too, which paramiko and fabric leave out."""

import glob
import os
import re

import paramiko

from upswitch.basics.errors import HostError

USER_FILE = "~/.ssh/config"
SYSTEM_FILE = "/etc/ssh/ssh_config"
_DEEPEST = 16  # as in OpenSSH's readconf.c
_LINE = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*?)\s*$")


def load(path: str | None = None) -> paramiko.SSHConfig:
    """The user's file and then the system's: the first value counts. With a `path` that one alone, as `ssh -F`. HostError."""
    if path is not None:
        text = _read(path, folder=os.path.expanduser("~/.ssh"))
    else:
        user = os.path.expanduser(USER_FILE)
        texts = [_read(each, folder=os.path.dirname(each)) for each in (user, SYSTEM_FILE) if os.path.exists(each)]
        text = "\nHost *\n".join(texts)
    try:
        return paramiko.SSHConfig.from_text(text)
    except paramiko.ConfigParseError as exc:
        raise HostError(f"read {path or USER_FILE}", str(exc)) from exc


def _read(path: str, *, folder: str, depth: int = 0) -> str:
    """The text of a file with what it includes in the place of each Include. Relative names are below `folder`."""
    if depth > _DEEPEST:
        raise HostError(f"read {path}", "more than 16 Includes lie one in the other")
    try:
        with open(os.path.expanduser(path), encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as exc:
        raise HostError(f"read {path}", exc.strerror or str(exc)) from exc
    block, out = "Host *", []
    for line in lines:
        word, value = _split(line)
        if word in {"host", "match"}:
            block = line
        if word == "include":
            out += [_included(path, value, folder, depth=depth, block=block), block]
        else:
            out.append(line)
    return "\n".join(out)


def _included(path: str, value: str, folder: str, *, depth: int, block: str) -> str:
    texts = []
    for pattern in value.replace('"', " ").split():
        found = sorted(glob.glob(os.path.join(folder, os.path.expanduser(pattern))))
        texts += [_read(each, folder=folder, depth=depth + 1) for each in found if os.path.isfile(each)]
    text = "\n".join(texts)
    is_inside = block.split()[1:] != ["*"]
    if is_inside and any(_split(line)[0] in {"host", "match"} for line in text.splitlines()):
        raise HostError(f"read {path}", f"an Include below '{block.strip()}' has a Host or Match of its own: put it at the top")
    return text


def _split(line: str) -> tuple[str, str]:
    """A line's keyword, in lower case, and its value."""
    match = _LINE.match(line)
    return (match[1].lower(), match[2]) if match else ("", "")
