from functools import partial
from typing import TYPE_CHECKING, Any

import click

from upswitch.basics.text import plain
from upswitch.cli.invocation import Common, Read, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.views import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from upswitch.diagnose.run import Diagnosed
    from upswitch.logs.since import Since
    from upswitch.nginx.dump import NginxConf


def _since(text: str) -> "Since":
    from upswitch.logs.since import parse_since

    try:
        return parse_since(text)
    except ValueError as exc:
        raise ValueError("is neither a time span such as 10m nor a time such as 2026-11-20T10:00:00") from exc


@click.command(
    cls=Documented,
    page="502",
    examples=[
        ("upswitch diagnose", "The last ten minutes of the live host."),
        ("upswitch diagnose --since 1h", "The last hour."),
        ("upswitch diagnose error.log access.log", "Logs from anywhere."),
    ],
)
@on_site
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--error-log", "error_logs", multiple=True, metavar="FILE", help="Read this error log (plain, .gz, .xz); - is stdin.")
@click.option("--access-log", "access_logs", multiple=True, metavar="FILE", help="Read this access log, in the same way.")
@click.option("--log-format", default="", metavar="TEXT", help="The access log's log_format, if it is not a usual one.")
@click.option(
    "--since", type=Read("time", _since), help="10m, or a time (ISO 8601). Default: 10m on a live host, all of given files."
)
@click.option("--nginx-conf", "conf", default="", metavar="FILE", help="With files: the nginx.conf that they were written with.")
@click.option("--live", "is_live", is_flag=True, help="With files: ask the live host too.")
@click.option("--all", "is_all", is_flag=True, help="Show also lines that are no failure, such as an app's own messages.")
@with_program
def diagnose(program: Program, /, *, common: Common, conf: str, is_live: bool, is_all: bool, **words: Any) -> int:
    """Find out why clients get 502s.

    Reads error and access logs; names each cause, where to look, and the fix. FILE may hold either kind of lines, or both (docker
    logs), and several may be given in any order. Without files it reads the live host's logs, checks its servers and looks up the
    directive behind each cause. Exit 3 with findings.
    """
    from upswitch.diagnose import run

    wanted, shown = run.Wanted(**words), partial(_shown, is_all=is_all)
    if sum(names.count("-") for names in (wanted.files, wanted.error_logs, wanted.access_logs)) > 1:
        raise click.UsageError("stdin can be only one of the logs")
    if wanted.names and common.hosts and not is_live:
        raise click.UsageError("the files are on this machine: use --host only with --live, or without files")
    if conf and (is_live or not wanted.names):
        raise click.UsageError("--nginx-conf explains log files: name them, and leave out --live, which asks nginx itself")
    if wanted.names and not is_live:
        known = (_conf(conf),) if conf else ()
        return program.serve_files("diagnose", common, lambda _, site: shown(lambda: _readable(run.of_files(wanted, site, *known))))
    return program.serve("diagnose", common, lambda session: shown(lambda: run.of_host(session.ports, session.site, wanted)))


def _conf(path: str) -> "NginxConf":
    from upswitch.lint import files

    try:
        return files.whole(files.read(path)[0])
    except (OSError, ValueError) as exc:  # ValueError: not nginx's syntax, or a name that no file can have
        why = f"{exc.filename}: {exc.strerror}" if isinstance(exc, OSError) else f"{exc}"
        raise click.UsageError(plain(f"{path} can't be read as an nginx configuration: {why}")) from exc


def _readable(found: "Diagnosed") -> "Diagnosed":
    """FormatError where no line could be read: "nothing found" would be wrong."""
    from upswitch.logs.formats import FormatError

    lines = sum(each.lines for each in found.read)
    if lines and lines == found.diagnosis.unread:
        names = ", ".join(f"{each.name} ({each.kind} log)" for each in found.read)
        raise FormatError(f"no line of {names} can be read: is it another kind of log, or another format?")
    return found


def _shown(diagnose: "Callable[[], Diagnosed]", *, is_all: bool) -> View:
    from upswitch.cli.views.diagnose import diagnosed
    from upswitch.logs.formats import FormatError

    try:
        return diagnosed(diagnose(), is_all=is_all)
    except OSError as exc:
        raise click.UsageError(plain(f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc))) from exc
    except FormatError as exc:
        raise click.UsageError(plain(str(exc))) from exc
