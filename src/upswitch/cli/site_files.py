"""Which site file a command reads, how it is read, and that no two of them share what each site must have for itself."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import click

from upswitch.basics.errors import UntrustedError
from upswitch.basics.value import Value
from upswitch.hosts.local import opened, trusted
from upswitch.site import names
from upswitch.site.model import Site
from upswitch.site.read import SiteInvalid, parse_site

FOLDER = "/etc/upswitch"
"""Each site of this machine has its file NAME.toml here."""

HERE = "upswitch.toml"
"""The site file of the current folder."""

VARIABLE = "UPSWITCH_CONFIG"
"""The environment variable with a site file, or with another folder than FOLDER."""

_LARGEST = 1 << 20  # characters of a site file


class NoSiteError(Exception):
    """The site file can't be read."""


class SeveralSitesError(NoSiteError):
    """The user must say which site is meant."""


class SharedSiteError(NoSiteError):
    """Two sites share what each must have for itself."""


class SiteFile(Value):
    """The site file of a command. `words` are the options with which the next command finds it again.

    `is_asked`: the user named it. `why`: no file is chosen, because several could be meant.
    """

    path: str
    words: tuple[str, ...] = ()
    is_asked: bool = False
    why: str = ""


def find(config: str, name: str) -> SiteFile:
    """The first of these that is there: -c FILE, -s NAME, $UPSWITCH_CONFIG, ./upswitch.toml, the only one in /etc/upswitch."""
    if config and name:
        raise click.UsageError("-c and -s both name a site file: give only one of them")
    if config:
        return SiteFile(path=config, words=() if config == HERE else ("-c", config), is_asked=True)
    if name:
        return SiteFile(path=_by_name(name), words=("-s", name), is_asked=True)
    given = os.environ.get(VARIABLE, "")
    if given and not os.path.isdir(given):
        return SiteFile(path=given, words=("-c", given), is_asked=True)
    if not given and os.path.lexists(HERE):
        return SiteFile(path=HERE)
    return _only(listed())


def folder() -> str:
    given = os.environ.get(VARIABLE, "")
    return given if os.path.isdir(given) else FOLDER


def listed() -> tuple[str, ...]:
    """The site files in the folder, by name. A folder that can't be read has none."""
    try:
        return tuple(sorted(str(path) for path in Path(folder()).glob("[!.]*.toml") if path.is_file()))
    except OSError:
        return ()


def path_of(name: str) -> str:
    return f"{folder()}/{name}.toml"


def _only(paths: tuple[str, ...]) -> SiteFile:
    if not paths:
        return SiteFile(path=HERE)
    if len(paths) == 1:
        return SiteFile(path=paths[0])
    return SiteFile(path=folder(), why=f"there are {len(paths)} sites here: {_named(paths)}")


def _named(paths: tuple[str, ...]) -> str:
    return ", ".join(f"{Path(path).stem} ({path})" for path in paths)


def _by_name(name: str) -> str:
    """The file NAME.toml, else the one whose site has this name."""
    path = path_of(name)
    if not names.is_name(name):
        raise click.BadParameter(f"{name!a} {names.SAYS}", param_hint="-s")
    if os.path.lexists(path):
        return path
    paths = listed()
    there = [each for each in paths if (site := _readable(each)) and site.name == name]
    if len(there) == 1:
        return there[0]
    have = f"{folder()} has {_named(paths)}" if paths else f"{folder()} has no site file"
    raise click.BadParameter(f"there is no site {name}: {have}", param_hint="-s")


# ---- reading ----

Warn = Callable[[UntrustedError], None]


def chosen_site(file: SiteFile, *, warn: Warn | None = None) -> Site:
    """The site of a command. SiteInvalid with every problem; NoSiteError where it can't be used. `warn`: see trusted.check."""
    if file.why:
        raise SeveralSitesError(file.why)
    try:
        site = read_site(file.path, warn=warn)
    except FileNotFoundError as exc:
        where = "" if file.is_asked else f", and {folder()} has no site file"
        raise NoSiteError(f"No such file or directory{where}") from exc
    refuse_shared(site, file.path)
    return site


def read_site(path: str, *, warn: Warn | None = None) -> Site:
    """The site, from a file that nobody else may change (UntrustedError): it names commands that are run."""
    try:
        with open(opened.named(path), encoding="utf-8", errors="surrogateescape") as file:
            status = os.fstat(file.fileno())
            trusted.check_status(path, status)
            if stat.S_ISREG(status.st_mode):
                trusted.check(path, warn=warn)
            return parse_site(file.read(_LARGEST))
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise NoSiteError(exc.strerror or str(exc)) from exc


def site_if_any(file: SiteFile) -> Site | None:
    """The site, for a command that runs nothing of it. None where the file was not asked for and can't be read."""
    if file.why:
        return None
    try:
        with open(opened.named(file.path), encoding="utf-8", errors="surrogateescape") as text:
            return parse_site(text.read(_LARGEST))
    except OSError as exc:
        if not file.is_asked:
            return None
        raise NoSiteError(exc.strerror or str(exc)) from exc


def refuse_shared(site: Site, path: str) -> None:
    """SharedSiteError where a file of the folder describes another site that shares something with this one."""
    for other in listed():
        if os.path.realpath(other) == os.path.realpath(path):
            continue
        theirs = _readable(other)
        said = names.shared(site, theirs) if theirs else ""
        if said:
            raise SharedSiteError(f"this site and that of {other} share {said}")


def _readable(path: str) -> Site | None:
    """None for a file that can't be read: it is reported when it is used."""
    try:
        return read_site(path)
    except (OSError, NoSiteError, SiteInvalid, UntrustedError):
        return None
