import click

from upswitch.cli.invocation import Common, on_site
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View, acted, status
from upswitch.generations import templates
from upswitch.switch.session import Session, clean


@click.command()
@on_site
@click.option("--nginx-conf", "conf", default="", metavar="FILE", help="Check this configuration alone: no site file, no nginx.")
@with_program
def lint(program: Program, /, *, common: Common, conf: str) -> int:
    """Show what is wrong or dangerous in the site file, in its templates and in nginx.

    Exit 3 with findings.
    """
    from upswitch.lint import lint

    if conf:
        return program.show(_lint_file(conf), as_json=common.as_json)

    def act(session: Session) -> View:
        return status.lint(lint.lint(session.ports, session.site, templates.load(session.site)))

    return program.serve("lint", common, act)


def _lint_file(path: str) -> View:
    from upswitch.lint import lint

    try:
        return status.lint(lint.lint_file(path))
    except (OSError, ValueError) as exc:  # ValueError: not nginx's syntax, or a name that no file can have
        why = f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
        said = f"{clean(path)} can't be read as an nginx configuration: {clean(why)}. No rule was checked"
        return acted.ended("lint", click.UsageError(said), None)
