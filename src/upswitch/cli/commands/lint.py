import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from upswitch.basics.errors import UntrustedError
from upswitch.cli.invocation import Common, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.site_files import NoSiteError, SiteFile, chosen_site
from upswitch.cli.views import View, acted
from upswitch.cli.views import lint as views
from upswitch.cli.views.lint import Format
from upswitch.generations import templates
from upswitch.site.model import Site
from upswitch.site.read import SiteInvalid
from upswitch.switch.session import Session, clean

if TYPE_CHECKING:
    from upswitch.lint.rules import LintFinding


@click.command(
    cls=Documented,
    page="lint",
    examples=[
        ("upswitch lint", "The site, its templates and nginx."),
        ("upswitch lint --nginx-conf nginx.conf", "Any configuration, without a site file."),
        ("upswitch lint --errors-only", "For a pipeline: exit 3 only for errors."),
    ],
)
@on_site
@click.option("--nginx-conf", "conf", default="", metavar="FILE", help="Check this configuration, or part of one; - is stdin.")
@click.option("--errors-only", is_flag=True, help="Show errors only; the exit code is 3 only for these.")
@click.option("--ignore", "ignored", multiple=True, metavar="CODE", help="Leave this code out, as [lint] ignore does. Repeatable.")
@click.option("--format", "form", type=click.Choice([each.value for each in Format]), default="text", show_default=True)
@with_program
def lint(program: Program, /, *, common: Common, conf: str, errors_only: bool, ignored: tuple[str, ...], form: str) -> int:
    """Show what is wrong or dangerous in the site file and in nginx.

    It reads the site file, its templates, and nginx's configuration.
    With --nginx-conf it needs no site file and no nginx. FILE may be a whole configuration, a part of one, or the output of
    `nginx -T`. A site file that you name gives only its [lint] ignore then.

    Exit 0: no finding, or only notes. Exit 3: errors or warnings. Exit 2: usage error, or FILE is not nginx's syntax.
    """
    from upswitch.lint import lint

    common = replace(common, as_json=common.as_json or form == Format.JSON)

    def view(found: Iterable["LintFinding"], site: Site | None) -> View:
        of_site = site.lint_ignore if site else ()
        for key, codes in (("lint.ignore", of_site), ("--ignore", ignored)):
            if said := lint.unknown(codes):
                raise click.UsageError(f"{key}: {clean(said)}")
        return views.lint(lint.without(found, (*of_site, *ignored), errors_only=errors_only), Format(form), os.getcwd())

    if conf:
        return program.show(_of_file(conf, common.file, view), as_json=common.as_json)

    def act(session: Session) -> View:
        return view(lint.lint(session.ports, session.site, templates.load(session.site)), session.site)

    return program.serve("lint", common, act)


def _of_file(path: str, site: SiteFile, view: Callable[[Iterable["LintFinding"], Site | None], View]) -> View:
    """Of a site file that the user named, only what it ignores counts."""
    from upswitch.lint import lint

    try:
        found = lint.lint_file(path)
    except (OSError, ValueError) as exc:  # ValueError: not nginx's syntax, or a name that no file can have
        why = f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
        said = f"{clean(path)} can't be read as an nginx configuration: {clean(why)}. No rule was checked"
        return acted.ended("lint", click.UsageError(said), None)
    try:
        return view(found, chosen_site(site) if site.is_asked else None)
    except (SiteInvalid, NoSiteError, UntrustedError, click.UsageError) as exc:
        return acted.ended("lint", exc, None, file=clean(site.path))
