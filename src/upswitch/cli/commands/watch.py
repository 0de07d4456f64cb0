"""`upswitch watch` as it is typed. What it needs is imported when it runs: `status` and `--help` share this module."""

import math
import os
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from upswitch.basics.value import Value
from upswitch.cli.session import SITE_FILE, App, Common
from upswitch.cli.views.parts import View
from upswitch.site.allowed import ALLOWED, parse_duration
from upswitch.site.model import Site, Watch
from upswitch.switch.session import Session, clean
from upswitch.watch.rule import DEFAULT, Thresholds

if TYPE_CHECKING:
    from upswitch.watch.live import Frame, Show
    from upswitch.watch.replay.replay import Log


_LARGEST = 1 << 20  # characters of a site file


class _Span(click.ParamType[float]):
    """Seconds, written as in the site file."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = value if isinstance(value, float) else parse_duration(str(value))
        return seconds if seconds and seconds >= 1 else self.fail(f"{clean(str(value))}: {ALLOWED}, and at least 1s", param, ctx)


class _Moment(click.ParamType[int]):
    """Unix time, written as ISO 8601 with a zone: a log from elsewhere, read here, has no local time."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            found = datetime.fromisoformat(str(value))
            found.astimezone(UTC)  # the last of the year 9999 has no date there
        except (ValueError, OverflowError):
            return self.fail(f"{clean(str(value))} is no time such as 2026-11-20T10:00:00Z", param, ctx)
        if found.tzinfo is None:
            here = f"{found.astimezone():%z}"
            return self.fail(
                f"{clean(str(value))} has no zone: add Z for UTC, or {here[:3]}:{here[3:]} for this machine's", param, ctx
            )
        return int(found.timestamp())


class _Percent(click.ParamType[float]):
    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            found = float(str(value).removesuffix("%"))
        except ValueError:
            found = -1.0
        return found if 0 <= found <= 100 else self.fail(f"{clean(str(value))} is no share such as 1%", param, ctx)  # noqa: PLR2004


class _Finite(click.FloatRange):
    """Not a number, and infinity, are in every range for click."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        return found if math.isfinite(found) else self.fail(f"{clean(str(value))} is no finite number", param, ctx)


class _Words(Value):
    """The command line."""

    config: str
    as_json: bool
    hosts: tuple[str, ...]
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
    def common(self) -> Common:
        return Common(config=self.config, as_json=self.as_json, hosts=self.hosts)

    @property
    def thresholds(self) -> Thresholds:
        given = {"enough": self.enough, "big": self.big, "new": self.new, "luck": self.luck}
        return msgspec.structs.replace(DEFAULT, **{name: value for name, value in given.items() if value is not None})

    @property
    def is_of_the_past(self) -> bool:
        return self.at is not None or bool(self.pool or self.log_format) or self.thresholds != DEFAULT


@click.command()
@click.option("-c", "--config", "--site", "config", default=SITE_FILE, show_default=True, metavar="FILE", help="The site file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout (docs/json.md).")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only this host of the site; may be given again.")
@click.option("--duration", type=_Span(), help="How long; else until Ctrl-C, and of a replay watch.duration.")
@click.option(
    "--replay", "files", multiple=True, metavar="LOG", help="Judge past traffic: an access log, plain or .gz; - is stdin."
)
@click.option("--at", type=_Moment(), help="When the switch was, with its zone; else the first second in which the pool serves.")
@click.option("--to", "pool", default="", metavar="POOL", help="Whose release is judged; else the pool that took over.")
@click.option("--log-format", default="", metavar="TEXT", help="The log's log_format, where it is neither nginx's here nor usual.")
@click.option("--enough", type=click.IntRange(1), help=f"At least so many failed...  [default: {DEFAULT.enough}]")
@click.option("--big", type=_Percent(), help=f"...and at least this share of all...  [default: {DEFAULT.big:g}%]")
@click.option("--new", type=_Finite(0), help=f"...and so many times what was before...  [default: {DEFAULT.new:g}]")
@click.option("--luck", type=_Finite(0, 1), help=f"...at smaller odds than this.  [default: {DEFAULT.luck:g}]")
@click.pass_obj
def watch(app: App, /, **options: object) -> int:
    """What the rule says of live traffic, or of past traffic in access logs, second by second. Changes nothing.

    Exit 3 where a switch would not have been kept, or where a server of the live pool is down.
    """
    words = msgspec.convert(options, _Words)
    if words.files.count("-") > 1:
        raise click.UsageError("stdin can be one log only")
    if words.files and words.hosts:
        raise click.UsageError("--replay reads files of this machine: --host is for live traffic")
    if words.files:
        return _replay(app, words)
    if words.is_of_the_past:
        raise click.UsageError("--at, --to, --log-format and the thresholds are for --replay")
    is_one = len(set(words.hosts)) == 1 or _hosts_in(words.config) <= 1
    return app.serve("watch", words.common, lambda session: _observe(session, words, is_one=is_one))


def _hosts_in(config: str) -> int:
    """How many hosts the site has; 0 is this machine. What is wrong with the file is said when it is used."""
    from upswitch.site.read import SiteInvalid, parse_site

    try:
        with open(config, encoding="utf-8", errors="surrogateescape") as file:
            return len(parse_site(file.read(_LARGEST)).hosts)
    except (OSError, SiteInvalid):
        return 0


def _observe(session: Session, words: _Words, *, is_one: bool) -> View:
    from upswitch.cli.views import watch as watchviews
    from upswitch.watch import live

    with ExitStack() as closing:
        show = _shown(session, closing, is_one=is_one)
        found = live.observe(session.ports, session.site, show, duration=words.duration)
    return watchviews.observed(found, session.site.watch)


def _shown(session: Session, closing: ExitStack, *, is_one: bool) -> "Show":
    """A plot on a terminal, of one host; elsewhere a line a second, and each note once."""
    if is_one and sys.stderr.isatty():
        from upswitch.cli.plot import Plot

        plot = Plot()
        closing.callback(plot.close)
        return plot
    told: set[str] = set()

    def show(frame: "Frame") -> None:
        for line in (*frame.notes, frame.said):
            if line not in told:
                session.ports.tell("watch", line)
        told.update(frame.notes)

    return show


def _replay(app: App, words: _Words) -> int:
    """Where no nginx is to say how the log is written, its user's rights are not needed.

    With several hosts each may write its own way, and the file is here: it is read once, as any log from elsewhere.
    """
    if words.log_format or not os.path.exists(words.config) or _hosts_in(words.config):
        return app.serve_files("watch", words.common, lambda session, site: _replayed(session, words, site))
    return app.serve("watch", words.common, lambda session: _replayed(session, words, session.site))


def _replayed(session: Session, words: _Words, site: Site | None) -> View:
    from upswitch.cli.views import watch as watchviews
    from upswitch.logs.line import FormatError
    from upswitch.watch.replay import replay

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
        )
        return watchviews.replayed(replay.replay(session.ports, asked), watch)
    except (replay.ReplayError, FormatError) as exc:
        raise click.UsageError(clean(str(exc))) from exc
    except OSError as exc:
        raise click.UsageError(clean(f"{exc.filename}: {exc.strerror}")) from exc


def _logs(session: Session, words: _Words, site: Site | None) -> "tuple[Log, ...]":
    from upswitch.watch.replay import replay

    if site is None or site.hosts or words.log_format:
        return replay.logs_given(words.files, words.log_format)
    return replay.logs_here(session.ports.host, site, words.files)
