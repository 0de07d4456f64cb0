"""The keys and passwords of the person who runs us: each is asked for once, and never written anywhere."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from upswitch.basics.errors import HostError
from upswitch.basics.text import plain
from upswitch.hosts.ssh.login import Login

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
        agent = paramiko.Agent()
        try:
            yield from self._keys_of(login, agent.get_keys())
        finally:
            agent.close()

    def _keys_of(self, login: Login, held: Sequence[paramiko.PKey]) -> Iterator[paramiko.PKey]:
        public = {path: _public(path) for path in login.identities}
        named = {*public.values()}
        offered = [key for key in held if key.asbytes() in named or not login.only_identities]
        yield from sorted(offered, key=lambda key: key.asbytes() not in named)
        blobs = {key.asbytes() for key in offered}
        files = [path for path in login.identities if public[path] not in blobs and os.path.exists(path)]
        opened = {path: self._opened(path) for path in files}
        yield from (key for key in opened.values() if key is not None)
        yield from (self._unlocked(path) for path, key in opened.items() if key is None)

    def password(self, user: str) -> str:
        """For sudo. HostError where nobody can be asked."""
        with self._lock:
            if user not in self._passwords:
                said = self._ask(f"sudo password of {user}: ")
                if said is None:
                    raise HostError(f"sudo as {user}", "it needs a password, and nobody can be asked here: allow it with NOPASSWD")
                self._passwords[user] = said
            return self._passwords[user]

    def _opened(self, path: str) -> "paramiko.PKey | None":
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
                said = self._ask(f"passphrase of {path}: ")
                if said is None:
                    why = f"it has a passphrase, and nobody can be asked here: load it into an agent with ssh-add {path}"
                    raise HostError(f"use the key {path}", why)
                try:
                    self._keys[path] = _load(path, said.encode())
                except TypeError:
                    raise HostError(f"use the key {path}", "an empty passphrase does not open it") from None
            return self._keys[path]


def _load(path: str, passphrase: bytes | None) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path, passphrase)
    except OSError as exc:
        raise HostError(f"use the key {path}", exc.strerror or str(exc)) from exc
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException) as exc:
        why = "the passphrase does not open it" if passphrase else plain(str(exc))
        raise HostError(f"use the key {path}", why) from None


def _public(path: str) -> bytes:
    """The public half beside a key, by which an agent's key is known; b"" where there is none."""
    try:
        with open(f"{path}.pub", encoding="utf-8", errors="replace") as file:
            return paramiko.PublicBlob.from_string(file.read()).key_blob  # type: ignore[no-any-return]
    except (OSError, ValueError):
        return b""
