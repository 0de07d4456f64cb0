from collections.abc import Iterator
from datetime import datetime

import click
from msgspec.structs import replace

from upswitch.basics.errors import HostError
from upswitch.cli import site_files
from upswitch.cli.exit_codes import Exit
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, live, with_program
from upswitch.cli.views import View
from upswitch.cli.views import metrics as views
from upswitch.cli.views.metrics import HostMetrics, MetricsView, Sample, outcomes
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.site.model import parse_name
from upswitch.switch import deadman, record
from upswitch.switch.deadman import Mark
from upswitch.switch.journal import journal_of
from upswitch.switch.run import Run
from upswitch.switch.session import Session, clean

_MODE = 0o644  # the exporter has a user of its own


@click.command(
    cls=Documented,
    page="monitoring",
    examples=[
        ("upswitch metrics", "The metrics of every site of this machine."),
        ("upswitch metrics -s shop", "Those of one site."),
        ("upswitch metrics --output /var/lib/prometheus/node-exporter/upswitch.prom", "For the textfile collector."),
    ],
)
@click.option("-c", "--config", default="", metavar="FILE", help="Only the site of this file.")
@click.option("-s", "--name", default="", metavar="NAME", help="Only the site of this name.")
@click.option("--output", default="", metavar="FILE", help="Write the metrics to FILE, whole or not at all.")
@with_program
def metrics(program: Program, /, *, config: str, name: str, output: str) -> int:
    """Print metrics of every site for Prometheus.

    nginx itself is asked which generation it serves; all else is read from the journals. No server gets a request. Exit 3 if a host
    could not be asked: its upswitch_up is 0.
    """
    chosen = site_files.find(config, name)
    paths = (chosen.path,) if config or name or not chosen.why else site_files.listed()
    view = views.metrics([program.each(path, _measured) for path in paths])
    return program.show(_written(view, output) if output else view, as_json=False)


def _written(view: MetricsView, path: str) -> MetricsView:
    try:
        LocalHost(SystemClock()).write(path, view.body.encode(), mode=_MODE)
    except HostError as exc:
        raise click.BadParameter(f"{clean(path)}: {exc.reason}", param_hint="--output") from exc
    return replace(view, file=clean(path))


def _measured(session: Session) -> View:
    return HostMetrics(command="metrics", exit=Exit.DONE, samples=(*_serving(session), *_of_runs(session)))


def _serving(session: Session) -> Iterator[Sample]:
    seen = live(session)
    generation = parse_name(seen.running)
    yield Sample("upswitch_proved", float(seen.agrees))
    yield Sample("upswitch_generation", float(generation.number if generation else 0))
    for pool in dict.fromkeys((*session.site.pools, *filter(None, [seen.pool]))):
        yield Sample("upswitch_live_pool", float(pool == seen.pool), {"pool": pool})


def _of_runs(session: Session) -> Iterator[Sample]:
    host, nginx = session.ports.host, session.site.nginx
    last = next(iter(journal_of(host, nginx).read()[::-1]), None)
    holder = session.ports.lock.holder()
    standing = deadman.look(host, nginx) if last is not None and last.is_left else None
    is_armed = standing is not None and standing.mark is Mark.ARMED and standing.is_alive
    yield Sample("upswitch_run_unfinished", float(holder is None and last is not None and last.needs_repair))
    yield Sample("upswitch_deadman_armed", float(is_armed))
    if last is not None:
        yield from _of_last(session, last)


def _of_last(session: Session, last: Run) -> Iterator[Sample]:
    began = _seconds(last.started)
    yield from outcomes(last.ending)
    yield Sample("upswitch_last_run_start_time_seconds", began)
    ends = [each.at for each in (last.closed, last.fired, *last.steps[-1:]) if each is not None]
    if ends:
        yield Sample("upswitch_last_run_duration_seconds", round(max(map(_seconds, ends)) - began, 3))
    kept = record.kept(session.ports.host, session.site.nginx.state, last.plan.run)
    if isinstance(kept, record.Record) and kept.seen is not None:
        new = [each for each in kept.seen.segments if each.pool == last.plan.pool and each.begin_s >= 0]
        yield Sample("upswitch_last_run_requests", float(sum(sum(each.total) for each in new)))
        yield Sample("upswitch_last_run_failed_requests", float(sum(sum(each.failures) for each in new)))


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
