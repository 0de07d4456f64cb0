"""Keys: which one a host must show, and which ones we show it.

A host's key is checked strictly: one that known_hosts does not have is refused before anything is sent to its holder. fabric
accepts any key, even another one than the recorded; paramiko gives up a whole known_hosts for one line that it can't read. So the
files are read here: hashed names, [host]:port, patterns and @revoked count as in sshd(8). A line that can't be read is passed
over, and so is @cert-authority, as we ask for no certificate.
"""

import contextlib
import os
import re
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from upswitch.basics.errors import HostError
from upswitch.basics.result import Why
from upswitch.basics.text import plain
from upswitch.basics.value import Value
from upswitch.hosts.local import opened, trusted
from upswitch.hosts.ssh.login import Login

_NAMES_TYPE_KEY = 3
_UNREADABLE = (InvalidHostKey, paramiko.SSHException, UnsupportedAlgorithm, ValueError, OverflowError, struct.error)
_RSA = ("rsa-sha2-512", "rsa-sha2-256")


class Record(Value):
    """A line of known_hosts that names the host. `place` is FILE:LINE."""

    place: str
    key: paramiko.PKey
    is_revoked: bool


def records(login: Login) -> tuple[Record, ...]:
    """What the files say about this host; a file that can't be read says nothing."""
    found: list[Record] = []
    for path in login.known_hosts:
        try:
            with opened.text(path, errors="replace") as file:
                found += _parse(path, file, login.known_as.lower())
        except OSError:
            continue
    return tuple(found)


def algorithms(known: tuple[Record, ...]) -> tuple[str, ...]:
    """What to ask the host for first: else one with two keys shows that which is not recorded, and looks like another host."""
    types = dict.fromkeys(record.key.get_name() for record in known if not record.is_revoked)
    return tuple(algorithm for each in types for algorithm in (_RSA if each == "ssh-rsa" else (each,)))


def check(login: Login, known: tuple[Record, ...], *, offered: paramiko.PKey) -> None:
    """HostError, with what a person has to do, where the key that is offered is not the recorded one."""
    same = [record for record in known if record.key == offered]
    if revoked := [record for record in same if record.is_revoked]:
        raise _refused(login, f"its host key {_named(offered)} is revoked in {revoked[0].place}: do not connect")
    if same:
        return
    if valid := [record for record in known if not record.is_revoked]:
        raise _refused(login, _changed(login, valid, offered))
    raise _refused(login, _unknown(login, offered))


def _changed(login: Login, valid: list[Record], offered: paramiko.PKey) -> str:
    was = ", ".join(f"{_named(record.key)} in {record.place}" for record in valid)
    path = valid[0].place.rpartition(":")[0]
    return (
        f"its host key is not the recorded one: {_named(offered)} was offered; recorded is {was}. Somebody may intercept this, or"
        f" the host was installed again. When its owner has confirmed the new fingerprint, run:"
        f" ssh-keygen -R '{login.known_as}' -f {path}, then record the new key"
    )


def _unknown(login: Login, offered: paramiko.PKey) -> str:
    """What is recorded must be what was compared: asked again, whoever answers may show another key."""
    kind = offered.get_name().removeprefix("ssh-").partition("-")[0]
    return (
        f"its host key is not known: {_named(offered)} was offered, and none is recorded for {login.known_as} in"
        f" {', '.join(login.known_hosts)}. Fetch that key alone: ssh-keyscan -t {kind} -p {login.port} {login.host} > new-key;"
        f" compare what ssh-keygen -lf new-key says with the host's own console (there: ssh-keygen -lf"
        f" /etc/ssh/ssh_host_{kind}_key.pub); only when they are the same, record it: cat new-key >> {login.known_hosts[0]}"
    )


def _refused(login: Login, why: str) -> HostError:
    return HostError(f"connect to {login.shown}", why, why=Why.HOST_KEY)


def _named(key: paramiko.PKey) -> str:
    """Type and fingerprint, as ssh-keygen -l shows them."""
    return f"{key.get_name()} {key.fingerprint}"


def _parse(path: str, lines: Iterable[str], name: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < _NAMES_TYPE_KEY or words[0].startswith("#") or marker not in {"", "@revoked"}:
            continue
        if _is_named(words[0], name):
            with contextlib.suppress(*_UNREADABLE):
                if entry := HostKeyEntry.from_line(" ".join(words)):
                    yield Record(place=f"{path}:{number}", key=entry.key, is_revoked=bool(marker))


def _is_named(names: str, name: str) -> bool:
    if names.startswith("|1|"):
        return _is_hash_of(names, name)
    patterns = names.lower().split(",")
    if any(_matches(pattern[1:], name) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_matches(pattern, name) for pattern in patterns)


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), name) is not None


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        return bool(paramiko.HostKeys.hash_host(name, hashed) == hashed)
    except (ValueError, AssertionError):  # no such hash
        return False


def check_files(login: Login) -> None:
    """UntrustedError where other users may change the recorded keys, or read a private one."""
    for path in login.known_hosts:
        if os.path.isfile(path):
            trusted.check(path)
    for path in login.identities:
        if os.path.isfile(path):
            trusted.check(path, is_secret=True)


# ---- the user's keys ----

Ask = Callable[[str], str | None]
"""Asks a person for a secret; None where there is nobody to ask, as in a pipeline."""


class Keyring:
    """One for all hosts of a fleet: fifty hosts behind one key ask once."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._keys: dict[str, paramiko.PKey] = {}
        self._passwords: dict[str, str] = {}
        self._lock = threading.RLock()

    def keys(self, login: Login) -> Iterator[paramiko.PKey]:
        """As ssh offers them: the agent's, the files' that can be opened, and those that have a passphrase at the very end."""
        public = {path: _public(path) for path in login.identities}
        named, locked = {*public.values()}, []
        with closing(paramiko.Agent()) as agent:
            offered = [key for key in agent.get_keys() if key.asbytes() in named or not login.only_identities]
            yield from sorted(offered, key=lambda key: key.asbytes() not in named)
            blobs = {key.asbytes() for key in offered}
            for path in (path for path in login.identities if public[path] not in blobs and os.path.exists(path)):
                if key := self._opened(path):
                    yield key
                else:
                    locked.append(path)
            yield from map(self._unlocked, locked)

    def password(self, user: str) -> str:
        """For sudo. HostError where nobody can be asked."""
        with self._lock:
            if user not in self._passwords:
                otherwise = HostError(
                    f"sudo as {user}", "it needs a password, and nobody can be asked here: allow it with NOPASSWD"
                )
                self._passwords[user] = self._asked(f"sudo password of {user}: ", otherwise)
            return self._passwords[user]

    def _opened(self, path: str) -> paramiko.PKey | None:
        """None for a key with a passphrase."""
        with self._lock:
            if path not in self._keys:
                try:
                    self._keys[path] = _load(path, None)
                except TypeError:  # cryptography's word for "it has a passphrase"
                    return None
            return self._keys[path]

    def _unlocked(self, path: str) -> paramiko.PKey:
        with self._lock:
            if path not in self._keys:
                why = f"it has a passphrase, and nobody can be asked here: load it into an agent with ssh-add {path}"
                said = self._asked(f"passphrase of {path}: ", HostError(f"use the key {path}", why))
                try:
                    self._keys[path] = _load(path, said.encode())
                except TypeError:
                    raise HostError(f"use the key {path}", "an empty passphrase does not open it") from None
            return self._keys[path]

    def _asked(self, prompt: str, otherwise: HostError) -> str:
        said = self._ask(prompt)
        if said is None:
            raise otherwise
        return said


def _load(path: str, passphrase: bytes | None) -> paramiko.PKey:
    try:
        for each in (path, f"{path}-cert.pub"):  # paramiko reads both, and would wait for a FIFO
            if os.path.exists(each):
                os.close(opened.regular(each))
        return paramiko.PKey.from_path(path, passphrase)
    except OSError as exc:
        raise HostError(f"use the key {path}", exc.strerror or str(exc)) from exc
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException) as exc:
        why = "the passphrase does not open it" if passphrase else plain(str(exc))
        raise HostError(f"use the key {path}", why) from None


def _public(path: str) -> bytes:
    """The public half beside a key, by which an agent's key is known; b"" where there is none."""
    try:
        return bytes(paramiko.PublicBlob.from_file(f"{path}.pub").key_blob)
    except (OSError, ValueError):
        return b""
