"""The texts of the templates: the packaged ones, and those that the site file names by path."""

from pathlib import Path

from upswitch.basics.errors import HostError
from upswitch.hosts.local import opened, trusted
from upswitch.site.model import Site

PACKAGED = ("upstream.conf.j2", "marker.conf.j2", "standby.conf.j2")


def folder() -> Path:
    """In a wheel the folder lies beside this package, in a checkout at the top."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "templates"
    return shipped if shipped.is_dir() else package.parent.parent / "templates"


def load(site: Site | None = None) -> dict[str, str]:
    """Every text by the name that the site file uses. HostError, and UntrustedError where others may write to it."""
    texts = {name: _read(folder() / name) for name in PACKAGED}
    for name in {upstream.template for upstream in site.upstreams} - texts.keys() if site else ():
        path = Path(name) if name.startswith("/") else folder() / name
        texts[name] = _read(path)
        trusted.check(str(path))  # it is code: who may write it decides what nginx does (reliability.md, S2)
    return texts


def _read(path: Path) -> str:
    try:
        with opened.text(str(path), errors="strict") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise HostError(f"read the template {path}", str(exc)) from exc
