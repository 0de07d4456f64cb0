"""Where and as which user to log in: a host as the site file names it, completed from ssh_config.

ssh_config is read as ssh reads it: with `Include`, which paramiko and fabric leave out.
"""

import getpass
import glob
import os
import re
import shlex
from typing import Any

import paramiko

from upswitch.basics.errors import HostError
from upswitch.basics.value import Value
from upswitch.hosts.local import opened, trusted

PORT = 22
_ALLOWED = re.compile(r"[A-Za-z0-9._:@\[\]%][A-Za-z0-9._:@\[\]%-]*")
_FORMS = re.compile(
    r"(?:(?P<user>[^@\[\]]+)@)?"
    r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\](?::(?P<six_port>\d+))?|(?P<bare>[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.%\w]*)|(?P<name>[^:@\[\]]+)(?::(?P<port>\d+))?)"
)
_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
SYSTEM_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
_IDENTITIES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_MOST_JUMPS = 8


class Login(Value):
    """One host, ready to be connected to. `text` is how the site file names it, `jumps` are gone through in their order."""

    text: str
    user: str
    host: str
    port: int
    known_as: str
    known_hosts: tuple[str, ...]
    identities: tuple[str, ...]
    only_identities: bool
    jumps: "tuple[Login, ...]" = ()

    @property
    def shown(self) -> str:
        """For people: its name, and its address where that says more."""
        place = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return self.text if place in self.text else f"{self.text} ({place})"


def login(text: str, config: paramiko.SSHConfig, *, depth: int = 0) -> Login:
    """`text`: NAME, USER@NAME, USER@NAME:PORT, [IP6]:PORT; what it leaves open ssh_config says. HostError where it can't be used.

    It may not begin with "-" nor hold what a shell or ssh would read (reliability.md, S3). `depth`: jumps that led here.
    """
    user, name, port = _parse(text)
    found = _lookup(config, name, text)
    if found.get("proxycommand", "none") != "none":
        raise HostError(f"use the host {text}", "its ProxyCommand in ssh_config is not supported: use ProxyJump")
    host = found.get("hostname", name)
    port = port or int(found.get("port", PORT))
    given = tuple(found.get("identityfile", ()))
    return Login(
        text=text,
        user=user or found.get("user", "") or getpass.getuser(),
        host=host,
        port=port,
        known_as=found.get("hostkeyalias", "") or (host if port == PORT else f"[{host}]:{port}"),
        known_hosts=(*_files(found.get("userknownhostsfile", _KNOWN_HOSTS)), SYSTEM_KNOWN_HOSTS),
        identities=tuple(map(os.path.expanduser, given or _IDENTITIES)),
        only_identities=found.get("identitiesonly", "no") == "yes",
        jumps=_jumps(found.get("proxyjump", "none"), config, text=text, depth=depth),
    )


def _lookup(config: paramiko.SSHConfig, name: str, text: str) -> dict[str, Any]:
    try:
        return dict(config.lookup(name))
    except (paramiko.ConfigParseError, paramiko.CouldNotCanonicalize, KeyError, ValueError) as exc:
        raise HostError(f"use the host {text}", f"ssh_config: {exc}") from exc


def _jumps(value: str, config: paramiko.SSHConfig, *, text: str, depth: int) -> tuple[Login, ...]:
    """The hops in their order. As in OpenSSH the first one's own ProxyJump counts, the others' do not."""
    if value.lower() == "none":
        return ()
    if depth >= _MOST_JUMPS:
        raise HostError(f"use the host {text}", f"its ProxyJump in ssh_config leads over more than {_MOST_JUMPS} hosts")
    hops = [login(hop.strip().removeprefix("ssh://"), config, depth=depth + 1) for hop in value.split(",")]
    return (*hops[0].jumps, *hops)


def _parse(text: str) -> tuple[str, str, int]:
    """User, name and port; "" and 0 for what is not given."""
    match = _FORMS.fullmatch(text) if _ALLOWED.fullmatch(text) else None
    if match is None:
        raise HostError(f"use the host {text!r}", "allowed are NAME, USER@NAME, USER@NAME:PORT and [IP6]:PORT")
    name = match["six"] or match["bare"] or match["name"]
    port = int(match["six_port"] or match["port"] or 0)
    if name.startswith("-") or port > 65535:  # noqa: PLR2004  (the last port)
        raise HostError(f"use the host {text!r}", "a name may not begin with '-', and ports end at 65535")
    return match["user"] or "", name, port


def _files(value: str) -> tuple[str, ...]:
    return tuple(os.path.expanduser(each) for each in shlex.split(value) if each != "none")


# ---- ssh_config ----

USER_FILE = "~/.ssh/config"
SYSTEM_FILE = "/etc/ssh/ssh_config"
_DEEPEST = 16  # as in OpenSSH's readconf.c
_INCLUDE = re.compile(r"(?i)\s*include(?:\s*=\s*|\s+)(.*)")
_BLOCK = re.compile(r"(?i)\s*(?:host|match)(?:\s*=|\s)")


def load(path: str | None = None) -> paramiko.SSHConfig:
    """The user's file and then the system's: the first value counts. With a `path` that one alone, as `ssh -F`. HostError."""
    paths = [path] if path is not None else filter(os.path.exists, (os.path.expanduser(USER_FILE), SYSTEM_FILE))
    lines = [line for each in paths for line in ("Host *", *_lines(each, folder=_folder(each)))]
    try:
        return paramiko.SSHConfig.from_text("\n".join(lines))
    except paramiko.ConfigParseError as exc:
        raise HostError(f"read {path or USER_FILE}", str(exc)) from exc


def _folder(path: str) -> str:
    """What the names in an Include are relative to."""
    return os.path.dirname(SYSTEM_FILE if path == SYSTEM_FILE else os.path.expanduser(USER_FILE))


def _lines(path: str, *, folder: str, depth: int = 0) -> list[str]:
    """A file's lines, with those that it includes in the place of each Include."""
    if depth > _DEEPEST:
        raise HostError(f"read {path}", "more than 16 Includes lie one in the other")
    try:
        with opened.text(os.path.expanduser(path)) as file:
            lines = file.read().splitlines()
        trusted.check(os.path.expanduser(path))
    except OSError as exc:
        raise HostError(f"read {path}", exc.strerror or str(exc)) from exc
    block, out = "Host *", []
    for line in lines:
        if match := _INCLUDE.match(line):
            patterns = [os.path.join(folder, os.path.expanduser(each)) for each in match[1].replace('"', " ").split()]
            files = [each for pattern in patterns for each in sorted(glob.glob(pattern)) if os.path.isfile(each)]
            included = [more for each in files for more in _lines(each, folder=folder, depth=depth + 1)]
            if block.split()[1:] != ["*"] and any(map(_BLOCK.match, included)):
                raise HostError(
                    f"read {path}", f"an Include below '{block.strip()}' has a Host or Match of its own: put it at the top"
                )
            out += [*included, block]
        else:
            block = line if _BLOCK.match(line) else block
            out.append(line)
    return out
