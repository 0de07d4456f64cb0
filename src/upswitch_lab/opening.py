"""`upswitch demo`: choosing an nginx, and what is said where the story can't be told."""

import contextlib

import click

from upswitch.basics.value import Value
from upswitch_lab import story
from upswitch_lab.find import find_nginx, read_build
from upswitch_lab.process import LabError
from upswitch_lab.told import Told


class Untold(Value):
    """The story was not told, or not to its end; nothing of it is left. Exit 2 where there is no nginx for it, else 1."""

    command: str
    exit: int
    said: str
    hint: str

    @property
    def text(self) -> str:
        return f"{self.said}\nNext: {self.hint}"


def play(binary: str, *, keep: bool, as_json: bool) -> Told | Untold:
    """Play it on the nginx at `binary`, or on the first that is found where that is ""."""
    path = binary or next((path for _, path in find_nginx()), "")
    if not path:
        return _no_nginx("no nginx is here to show it on")
    if read_build(path) is None:
        return _no_nginx(f"--nginx {path} does not run as an nginx")
    try:
        return story.perform(path, keep=keep, say=lambda line: _narrate(line, as_json=as_json))
    except LabError as exc:
        hint = "all that was started has ended; --nginx PATH tries another nginx"
        return Untold(command="demo", exit=1, said=f"the demo stopped: {exc}", hint=hint)


def _no_nginx(said: str) -> Untold:
    hint = "`pip install 'upswitch[nginx]'` or `apt install nginx`; or name one with --nginx PATH"
    return Untold(command="demo", exit=2, said=said, hint=hint)


def _narrate(line: str, *, as_json: bool) -> None:
    """On stdout, or beside the JSON. A reader that went away must not keep the demo from clearing up."""
    with contextlib.suppress(BrokenPipeError):
        click.secho(line, bold=line.startswith(("\n$", "\n==")), err=as_json)
