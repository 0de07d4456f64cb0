"""`upswitch watch`: of live traffic, or of past traffic in access logs."""

import math
import os
import sys
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from upswitch.basics.errors import HostError, JournalCorruptError
from upswitch.basics.value import Value
from upswitch.cli.invocation import Common, Read, on_site
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program
from upswitch.cli.site_files import NoSiteError, SiteFile, site_if_any
from upswitch.cli.views import View
from upswitch.site.model import Site, Watch
from upswitch.site.read import SiteInvalid
from upswitch.site.values import ALLOWED, parse_duration
from upswitch.switch.session import Session, clean
from upswitch.watch.rule import DEFAULT, Thresholds

if TYPE_CHECKING:
    from upswitch.watch.live import Frame, Show
    from upswitch.watch.replay import Log


def _span(text: str) -> float:
    """Seconds, written as in the site file."""
    seconds = parse_duration(text)
    if not seconds or seconds < 1:
        raise ValueError(f"is not {ALLOWED}, and at least 1s")
    return seconds


def _moment(text: str) -> int:
    """Unix time, written as ISO 8601 with a zone: the log may be from a machine in another zone."""
    try:
        found = datetime.fromisoformat(text)
        here = f"{found.astimezone():%z}"  # the last hours of the year 9999 have no local time
    except (ValueError, OverflowError) as exc:
        raise ValueError("is not a time such as 2026-11-20T10:00:00Z") from exc
    if found.tzinfo is None:
        raise ValueError(f"has no time zone: add Z for UTC, or {here[:3]}:{here[3:]} for this machine's")
    return int(found.timestamp())


def _percent(text: str) -> float:
    return _number(text.removesuffix("%"), most=100.0, like="a share such as 1%")


def _number(text: str, *, most: float = sys.float_info.max, like: str = "a number that is 0 or more") -> float:
    """`nan` and `inf` are none."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= most:
        raise ValueError(f"is not {like}")
    return found


def _odds(text: str) -> float:
    return _number(text, most=1.0, like="a chance from 0 to 1")


class _Words(Value):
    """What was typed."""

    common: Common
    duration: float | None
    files: tuple[str, ...]
    at: int | None
    pool: str
    log_format: str
    enough: int | None
    big: float | None
    new: float | None
    luck: float | None

    @property
    def thresholds(self) -> Thresholds:
        given = {"enough": self.enough, "big": self.big, "new": self.new, "luck": self.luck}
        return msgspec.structs.replace(DEFAULT, **{name: value for name, value in given.items() if value is not None})

    @property
    def is_of_the_past(self) -> bool:
        return self.at is not None or bool(self.pool or self.log_format) or self.thresholds != DEFAULT


@click.command(
    cls=Documented,
    page="watch",
    examples=[
        ("upswitch watch --duration 5m", "Judge the live traffic for five minutes."),
        ("upswitch watch --replay access.log", "Judge the last switch in a log."),
    ],
)
@on_site
@click.option(
    "--duration", type=Read("duration", _span), help="How long to watch. Default: until Ctrl-C; for --replay watch.duration."
)
@click.option("--replay", "files", multiple=True, metavar="LOG", help="Judge this access log, plain or .gz; - is stdin.")
@click.option(
    "--at", type=Read("time", _moment), help="When the switch was, with a time zone. Default: when the pool's first request came."
)
@click.option("--to", "pool", default="", metavar="POOL", help="The pool to judge. Default: the one that took over.")
@click.option("--log-format", default="", metavar="TEXT", help="The log's log_format, if it is not this nginx's or a usual one.")
@click.option(
    "--enough", type=click.IntRange(1), metavar="N", help=f"--replay: least failures for a rollback.  [default: {DEFAULT.enough}]"
)
@click.option(
    "--big", type=Read("percent", _percent), help=f"--replay: least share of failed requests.  [default: {DEFAULT.big:g}%]"
)
@click.option("--new", type=Read("times", _number), help=f"--replay: times the failures before.  [default: {DEFAULT.new:g}]")
@click.option("--luck", type=Read("odds", _odds), help=f"--replay: highest probability of chance.  [default: {DEFAULT.luck:g}]")
@with_program
def watch(program: Program, /, **options: object) -> int:
    """Judge live or past traffic by the rollback rule.

    It judges second by second, and changes nothing. Exit 3 if a switch would have been rolled back or held, or if a server
    of the live pool is down.
    """
    words = msgspec.convert(options, _Words)
    if words.files.count("-") > 1:
        raise click.UsageError("stdin can be only one of the logs")
    if words.files and words.common.hosts:
        raise click.UsageError("--replay reads files on this machine; --host is for live traffic")
    if words.files:
        return _replay(program, words)
    if words.is_of_the_past:
        raise click.UsageError("--at, --to, --log-format, --enough, --big, --new and --luck are for --replay")
    is_one = len(set(words.common.hosts)) == 1 or _hosts_in(words.common.file) <= 1
    return program.serve("watch", words.common, lambda session: _observe(session, words, is_one=is_one))


def _hosts_in(file: SiteFile) -> int:
    """How many hosts the site has; 0 is this machine. An invalid file counts as 0 here: it is reported when it is used."""
    try:
        site = site_if_any(file)
    except (NoSiteError, SiteInvalid):
        return 0
    return len(site.hosts) if site else 0


def _observe(session: Session, words: _Words, *, is_one: bool) -> View:
    from upswitch.cli.views import watch as watchviews
    from upswitch.watch import live

    with ExitStack() as closing:
        show = _shown(session, closing, is_one=is_one)
        spans = _taken_back(session, session.site)
        found = live.observe(session.ports, session.site, show, duration=words.duration, taken_back=spans)
    return watchviews.observed(found, session.site.watch)


def _taken_back(session: Session, site: Site, *, at: int | None = None) -> tuple[range, ...]:
    """When releases served that were taken back: they are not what is usual. A watch goes on without the journal, and says so."""
    from upswitch.switch.job import taken_back
    from upswitch.switch.journal import journal_of

    try:
        return taken_back(session.ports, journal_of(session.ports.host, site.nginx).read(), at=at)
    except (HostError, JournalCorruptError) as exc:
        session.ports.tell("watch", f"Releases that were taken back count as history, because the journal can't be read: {exc}")
        return ()


def _shown(session: Session, closing: ExitStack, *, is_one: bool) -> "Show":
    """On a terminal a plot of one host; elsewhere a line a second, and each note once."""
    if is_one and sys.stderr.isatty():
        from upswitch.cli.plot import Plot

        plot = Plot()
        closing.callback(plot.close)
        return plot
    shown: set[str] = set()

    def show(frame: "Frame") -> None:
        for line in (*frame.notes, frame.said):
            if line not in shown:
                session.ports.tell("watch", line)
        shown.update(frame.notes)

    return show


def _replay(program: Program, words: _Words) -> int:
    """As nginx.user only where this machine's nginx must say how the log is written.

    Hosts of a fleet may each have their own format: there the file is read as any log from another machine.
    """
    if words.log_format or not os.path.isfile(words.common.file.path) or _hosts_in(words.common.file):
        return program.serve_files("watch", words.common, lambda session, site: _replayed(session, words, site))
    return program.serve("watch", words.common, lambda session: _replayed(session, words, session.site))


def _replayed(session: Session, words: _Words, site: Site | None) -> View:
    from upswitch.cli.views import watch as watchviews
    from upswitch.logs.formats import FormatError
    from upswitch.watch import replay

    watch = site.watch if site else Watch()
    if site and words.pool not in {"", *site.pools}:
        raise click.BadParameter(f"{words.pool!r}: the site has {', '.join(site.pools)}", param_hint="--to")
    try:
        asked = replay.Asked(
            logs=_logs(session, words, site),
            at=words.at,
            pool=words.pool,
            duration=int(words.duration or watch.duration or Watch().duration),
            thresholds=words.thresholds,
            site=site,
            taken_back=_taken_back(session, site, at=0) if site and _is_here(site, words) else (),
        )
        return watchviews.replayed(replay.replay(session.ports, asked), watch)
    except (replay.ReplayError, FormatError) as exc:
        raise click.UsageError(clean(str(exc))) from exc
    except OSError as exc:
        raise click.UsageError(clean(f"{exc.filename}: {exc.strerror}")) from exc


def _is_here(site: Site, words: _Words) -> bool:
    """Whether this machine's nginx wrote the logs, as far as that was said."""
    return not (site.hosts or words.log_format)


def _logs(session: Session, words: _Words, site: Site | None) -> "tuple[Log, ...]":
    from upswitch.watch import replay

    if site is None or not _is_here(site, words):
        return replay.logs_given(words.files, words.log_format)
    return replay.logs_here(session.ports.host, site, words.files)
