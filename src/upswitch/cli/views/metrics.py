"""What `metrics` prints: the text that Prometheus reads. Each host of each site is one set of values."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from upswitch.basics.text import plain
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View
from upswitch.cli.views.fleet import FleetView
from upswitch.switch.machine import Outcome

HELP = {
    "upswitch_up": "Whether the host could be asked.",
    "upswitch_proved": "Whether nginx serves the generation that the live link points to.",
    "upswitch_live_pool": "1 for the pool that is live, 0 for each other pool of the site.",
    "upswitch_generation": "The number of the live generation, 0 for none.",
    "upswitch_run_unfinished": "Whether a run was cut off or is STUCK: `upswitch repair` is needed.",
    "upswitch_deadman_armed": "Whether a dead-man is armed on the host.",
    "upswitch_last_run_outcome": "1 for how the last run ended, 0 for each other way. All are 0 while it is not over.",
    "upswitch_last_run_start_time_seconds": "When the last run began.",
    "upswitch_last_run_duration_seconds": "How long the last run took.",
    "upswitch_last_run_requests": "Requests to the new pool that the watch of the last run saw.",
    "upswitch_last_run_failed_requests": "Those of them that failed.",
}
"""Each metric, all gauges, and what it says."""


class Sample(NamedTuple):
    metric: str
    value: float
    labels: Mapping[str, str] = {}


class HostMetrics(View):
    """The values of one host."""

    samples: tuple[Sample, ...]


class MetricsView(View):
    """`metrics`: exit 0 where each host could be asked, 3 where one could not. `file`: where the text went, "" for stdout."""

    body: str
    file: str = ""

    @property
    def text(self) -> str:
        return f"The metrics are in {self.file}" if self.file else self.body.rstrip("\n")


def outcomes(ending: str) -> Iterator[Sample]:
    """The last run's outcome; none of them for a run that is not over."""
    for each in Outcome:
        if each is not Outcome.UNCHANGED:  # no run
            yield Sample("upswitch_last_run_outcome", float(each == ending), {"outcome": each.lower()})


def metrics(found: Iterable[tuple[str, View]]) -> MetricsView:
    """`found`: the name of each site, and what its hosts said."""
    samples = [sample for name, view in found for sample in _of_site(name, view)]
    groups = {metric: [each for each in samples if each.metric == metric] for metric in HELP}
    lines = [line for metric, group in groups.items() if group for line in _lines(metric, group)]
    is_all_up = all(each.value for each in groups["upswitch_up"])
    return MetricsView(command="metrics", exit=Exit.DONE if is_all_up else Exit.FINDINGS, body="".join(lines))


def _of_site(name: str, view: View) -> Iterator[Sample]:
    hosts: Mapping[str, View] = view.hosts if isinstance(view, FleetView) else {"": view}
    for host, each in hosts.items():
        base = {"site": name, "host": host}
        given = each.samples if isinstance(each, HostMetrics) else ()
        for sample in (Sample("upswitch_up", float(isinstance(each, HostMetrics))), *given):
            yield sample._replace(labels=base | {**sample.labels})


def _lines(metric: str, group: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {metric} {HELP[metric]}\n# TYPE {metric} gauge\n"
    for each in group:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in each.labels.items() if value)
        yield f"{metric}{f'{{{labels}}}' if labels else ''} {each.value!r}\n"


def _escaped(value: str) -> str:
    return plain(value).replace("\\", "\\\\").replace('"', '\\"')
