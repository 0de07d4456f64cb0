"""`[hosts]` and `[rollout]` of the site file, and what the waves of a rollout come to."""

import re
from collections.abc import Sequence

from upswitch.basics.value import Value
from upswitch.site import allowed
from upswitch.site.model import RolloutTable
from upswitch.site.table_reader import Reader, shown
from upswitch.site.words import Unreachable

MOST_HOSTS = 500

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_NAME_SAYS = "a host's name is up to 64 letters, digits and _ . - (not first: . or -)"
# Whatever begins with a dash would be an option to ssh (reliability.md, S3).
_SSH = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]{1,15})?\])"
    r"(?::[1-9][0-9]{0,4})?"
)
_SSH_SAYS = '"USER@HOST:PORT", where user and port may be left out, or a name of ssh_config; an IPv6 address in [ ]'
_WAVE = re.compile(r"[1-9][0-9]{0,3}|(?:[1-9][0-9]?|100)%")


class Entry(Value):
    """One line of `[hosts]`; `reader` has what is its own."""

    name: str
    ssh: str
    reader: Reader


def hosts(reader: Reader) -> tuple[Entry, ...]:
    """Every host that can be read, by its name; problems go to the reader."""
    found = []
    for name in reader.rest:
        if not _NAME.fullmatch(name):
            reader.refuse(name, shown(name), _NAME_SAYS)
        ssh, inner = _entry(reader, name)
        if _NAME.fullmatch(name) and ssh:
            found.append(Entry(name=name, ssh=ssh, reader=inner))
    _refuse_equal(reader, found)
    if len(found) > MOST_HOSTS:
        reader.refuse("", f"{len(found)} hosts", f"at most {MOST_HOSTS}")
    return tuple(sorted(found, key=lambda each: each.name))


def _entry(reader: Reader, name: str) -> tuple[str, Reader]:
    """A host is its address, or a table with `ssh`."""
    value = reader.take(name, None, lambda value: value)
    if isinstance(value, dict):
        inner = reader.inner(name)
        ssh = inner.take("ssh", "", _ssh)
        if not ssh and not inner.is_refused("ssh"):
            inner.refuse("ssh", "(none)", _SSH_SAYS)
        return ssh, inner
    return reader.take(name, "", _ssh), Reader({}, [], name=name)


def _ssh(value: object) -> str:
    if not isinstance(value, str) or not _SSH.fullmatch(value):
        raise ValueError(_SSH_SAYS)
    port = value.rpartition(":")[2] if not value.endswith("]") else ""
    if port.isdigit() and ":" in value and int(port) > 65535:  # noqa: PLR2004  (the highest port)
        raise ValueError(_SSH_SAYS)
    return value


def _refuse_equal(reader: Reader, found: Sequence[Entry]) -> None:
    """Two names for one host would be switched against each other."""
    seen: dict[str, str] = {}
    for each in found:
        former = seen.setdefault(each.ssh, each.name)
        if former != each.name and "nginx" not in each.reader:
            reader.refuse(each.name, shown(each.ssh), f"another host than {former}, or a table nginx of its own")


def rollout(reader: Reader) -> RolloutTable:
    default = RolloutTable()
    found = RolloutTable(
        waves=reader.each("waves", default.waves, _wave),
        unreachable=reader.take("unreachable", default.unreachable, allowed.word(Unreachable)),
    )
    reader.close()
    return found


def _wave(value: object) -> str:
    written = str(value) if type(value) is int else value
    if not isinstance(written, str) or not _WAVE.fullmatch(written):
        raise ValueError('a number of hosts such as "1", or a share of all such as "25%"')
    return written


def in_waves(names: Sequence[str], waves: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The hosts wave by wave. A share is of all hosts, rounded down, at least one; the last wave's size goes on to the end."""
    found: list[tuple[str, ...]] = []
    left = list(names)
    while left:
        wave = waves[min(len(found), len(waves) - 1)]
        size = max(1, len(names) * int(wave[:-1]) // 100) if wave.endswith("%") else int(wave)
        found.append(tuple(left[:size]))
        del left[:size]
    return tuple(found)
