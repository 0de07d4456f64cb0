"""`upswitch diagnose` as it is typed. What it needs is imported when it runs: `status` and `--help` share this module."""

from typing import TYPE_CHECKING, Any

import click

from upswitch.basics.text import plain
from upswitch.cli.session import SITE_FILE, App, Common
from upswitch.cli.views import acted
from upswitch.cli.views.parts import View
from upswitch.site.model import Site
from upswitch.switch.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from upswitch.diagnose.run import Diagnosed, Wanted
    from upswitch.logs.since import Since


class _SinceType(click.ParamType["Since"]):
    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Since":
        from upswitch.logs.since import parse_since

        try:
            return parse_since(value)
        except ValueError:
            self.fail(f"{value!r} is neither a time span such as 10m nor a time such as 2026-11-20T10:00:00", param, ctx)


@click.command()
@click.option("-c", "--config", default=SITE_FILE, show_default=True, help="The site file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout (docs/json.md).")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only this host of the site; may be given again.")
@click.option("--error-log", "error_logs", multiple=True, metavar="FILE", help="Read this error log; - is stdin, .gz is seen.")
@click.option("--access-log", "access_logs", multiple=True, metavar="FILE", help="Read this access log; the same.")
@click.option("--log-format", default="", metavar="TEXT", help="The access log's log_format, where it is none of the usual ones.")
@click.option("--since", type=_SinceType(), help="10m, or a time (ISO 8601). Live: 10m unless given; files: all.")
@click.option("--live", "is_live", is_flag=True, help="With files: ask the live host too.")
@click.pass_obj
def diagnose(app: App, /, *, config: str, as_json: bool, hosts: tuple[str, ...], is_live: bool, **words: Any) -> int:
    """Why there are 502s: causes by error and access log, who to look at, the fix. Exit 3 with findings.

    Without files: the live host's logs, its servers asked past nginx, its names, and the directive behind each cause.
    """
    from upswitch.diagnose.run import Wanted

    wanted = Wanted(**words)
    if wanted.error_logs.count("-") + wanted.access_logs.count("-") > 1:
        raise click.UsageError("stdin can be one log only")
    common = Common(config=config, as_json=as_json, hosts=hosts)
    if wanted.has_files and hosts and not is_live:
        raise click.UsageError("files are of this machine: --host is for the live hosts, with --live or without files")
    if wanted.has_files and not is_live:
        return app.serve_files("diagnose", common, lambda _, site: _of_files(wanted, site))
    return app.serve("diagnose", common, lambda session: _of_host(session, wanted))


def _of_files(wanted: "Wanted", site: Site | None) -> View:
    from upswitch.diagnose import run

    return _shown(lambda: _readable(run.of_files(wanted, site)))


def _readable(found: "Diagnosed") -> "Diagnosed":
    """FormatError where no line of what was given could be read: nothing found would say too much."""
    from upswitch.logs.line import FormatError

    lines = sum(each.lines for each in found.read)
    if lines and lines == found.diagnosis.unread:
        names = ", ".join(f"{each.name} ({each.kind} log)" for each in found.read)
        raise FormatError(f"no line can be read of {names}: is it of another kind, or format?")
    return found


def _of_host(session: Session, wanted: "Wanted") -> View:
    from upswitch.diagnose import run

    return _shown(lambda: run.of_host(session.ports, session.site, wanted))


def _shown(diagnose: "Callable[[], Diagnosed]") -> View:
    from upswitch.cli.views.diagnose import diagnosed
    from upswitch.logs.line import FormatError

    try:
        return diagnosed(diagnose())
    except OSError as exc:
        return acted.wrong_words("diagnose", plain(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)))
    except FormatError as exc:
        return acted.wrong_words("diagnose", plain(str(exc)))
