"""upswitch.cli.commands.lint."""

import click

from upswitch.cli.commands.options import on_site
from upswitch.cli.session import App, Common
from upswitch.cli.views import acted, read
from upswitch.cli.views.parts import View
from upswitch.switch.session import Session, clean


@click.command()
@on_site
@click.option("--nginx-conf", "conf", default="", metavar="FILE", help="This nginx configuration alone: no site file, no nginx.")
@click.pass_obj
def lint(app: App, /, *, common: Common, conf: str) -> int:
    """What is wrong or dangerous in the site file, in what it renders to, and in nginx around it. Exit 3 with findings."""
    from upswitch.lint import lint

    if conf:
        return app.show(_lint_file(conf), as_json=common.as_json)

    def act(session: Session) -> View:
        return read.lint(lint.lint(session.ports, session.site, app.templates(session.site)))

    return app.serve("lint", common, act)


def _lint_file(path: str) -> View:
    from upswitch.lint import lint

    try:
        return read.lint(lint.lint_file(path))
    except (OSError, ValueError) as exc:  # ValueError: not nginx's syntax, or a name that no file can have
        why = f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
        said = f"{clean(path)} can't be read as an nginx configuration: {clean(why)} | no rule was asked"
        return acted.wrong_words("lint", said)
