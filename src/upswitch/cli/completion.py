"""The words that a shell completes: names of pools, sites and hosts, and pages of the manual. The site file is only read.

What can't be read completes nothing: a shell has no place for an error.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from upswitch.site.model import Site

SHELLS = ("bash", "zsh", "fish")
PROGRAMS = {"upswitch": "_UPSWITCH_COMPLETE", "switch": "_SWITCH_COMPLETE"}
"""Each program, and the variable by which its shell asks it for words."""


def pools(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    del param
    site = _site(ctx)
    return _beginning(site.pools if site else (), incomplete)


def hosts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    del param
    site = _site(ctx)
    return _beginning((host.name for host in site.hosts) if site else (), incomplete)


def sites(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from upswitch.cli.site_files import listed

    del ctx, param
    return _beginning((Path(path).stem for path in listed()), incomplete)


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The shell lists them itself."""
    from click.shell_completion import CompletionItem

    del ctx, param
    return [CompletionItem(incomplete, type="file")]


def program(shell: str) -> str:
    """What the shell must run to complete the words of our programs."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.BadParameter(f"{shell}: click has no completion for it", param_hint="SHELL")
    return "\n".join(kind(click.Command(name), {}, name, variable).source() for name, variable in PROGRAMS.items())


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _site(ctx: click.Context) -> "Site | None":
    from upswitch.cli.site_files import NoSiteError, find, site_if_any
    from upswitch.site.read import SiteInvalid

    try:
        return site_if_any(find(ctx.params.get("config") or "", ctx.params.get("name") or ""))
    except (click.UsageError, NoSiteError, SiteInvalid, OSError):
        return None
