"""The demo: a good release, a bad one that is taken back by itself, a mended one, and a rollback; all under load.

nginx, the servers, the load and every command are real, on loopback, in a folder of their own.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from upswitch.basics.value import Value
from upswitch.switch.words import Outcome
from upswitch_lab.children import Load
from upswitch_lab.conf import UPSTREAM, Layout
from upswitch_lab.lab import Lab
from upswitch_lab.load import Progress, Summary
from upswitch_lab.process import until
from upswitch_lab.prompt import Prompt, Typed
from upswitch_lab.stops import Stops
from upswitch_lab.told import Chapter, Scene, Told, differences

CLIENTS = 32
_RATE = 1000  # requests a second in all: busy connections, and a processor or two left for the rest
_HISTORY_S = 10  # the watch compares with what was before
_BAD_AFTER_S = "1"

LAYOUT = Layout(
    site={
        "upstreams": {UPSTREAM: {"check": {"rise": 2}}},
        "gate": {"interval": "200ms"},
        "watch": {"duration": "4s"},
    },
)

SCENES = (
    Scene(
        name="before",
        title=f"Pool A serves {CLIENTS} keep-alive clients. {_HISTORY_S} s of traffic first: the watch will compare with it.",
        command="upswitch status",
        exit=0,
        pool="A",
    ),
    Scene(
        name="good release",
        title="Pool B holds a good release. Each server must pass two probes; then nginx must prove that B serves.",
        command="switch --to B",
        exit=0,
        pool="B",
    ),
    Scene(
        name="bad release",
        title="The next release goes to pool A, and it is bad: /healthz says ok, but a second after its first request it hangs up "
        "on every one.",
        command="switch --to A",
        exit=4,
        pool="B",
        release=("--fail-after", _BAD_AFTER_S, "--fail-mode", "close"),
        is_bad=True,
    ),
    Scene(name="mended release", title="Pool A is mended.", command="switch --to A", exit=0, pool="A", release=()),
    Scene(name="rollback", title="Second thoughts: back to B by hand.", command="upswitch rollback", exit=0, pool="B"),
)

Say = Callable[[str], None]


class _Past(Value):
    outcome: str
    said: str


class _History(Value):
    """What is read of `upswitch history --json`."""

    runs: tuple[_Past, ...]


def perform(binary: str, *, keep: bool, say: Say) -> Told:
    """Play the story on the nginx at `binary`, showing it through `say`. Under a minute.

    LabError where the laboratory itself can't; KeyboardInterrupt on the first of SIGINT, SIGTERM and SIGHUP. Either way all
    that was started has ended and the folder is gone, unless it is kept.
    """
    began = time.monotonic()
    with Stops() as stops, _laboratory(binary, keep=keep, stops=stops) as lab:
        version = ".".join(map(str, lab.place.build.version))
        say(f"nginx {version} on {lab.place.public}, two pools of two servers, in {lab.folder}")
        prompt = Prompt(str(lab.folder), say)
        with lab.load("--connections", str(CLIENTS), "--rate", str(_RATE)) as load:
            chapters = tuple(_play(scene, lab, load, prompt=prompt) for scene in _announced(say))
        rule, reason = _why(prompt)
        history, pool = prompt.run("upswitch history").output, _serving(lab)
    told = _told(chapters, load.summary, rule=rule, reason=reason)
    seconds, folder = round(time.monotonic() - began, 1), str(lab.folder) if keep else ""
    return msgspec.structs.replace(told, nginx=version, pool=pool, history=history, seconds=seconds, folder=folder)


def _told(chapters: tuple[Chapter, ...], load: Summary, *, rule: str, reason: str) -> Told:
    first, last = load.first_failure_s, load.last_failure_s
    differs = differences(SCENES, chapters, load)
    differs += () if rule and reason else ("the history does not say why the release was taken back",)
    return Told(
        command="demo",
        exit=1 if differs else 0,
        clients=CLIENTS,
        chapters=chapters,
        load=load,
        first_failure_s=first,
        last_failure_s=last,
        suffered_s=round((last or 0.0) - (first or 0.0), 3),
        rule=rule,
        reason=reason,
        differs=differs,
    )


@contextmanager
def _laboratory(binary: str, *, keep: bool, stops: Stops) -> Iterator[Lab]:
    """With `keep` its folder stands there again, under its own name, after everything in it has ended."""
    with ExitStack() as afterwards, Lab(binary, LAYOUT) as lab:
        try:
            yield lab
        finally:
            stops.ignore()
            if keep:
                aside = shutil.copytree(lab.folder, f"{lab.folder}.kept", symlinks=True)
                afterwards.callback(os.rename, aside, lab.folder)


def _announced(say: Say) -> Iterator[Scene]:
    for number, scene in enumerate(SCENES, start=1):
        say(f"\n== {number}. {scene.title}")
        yield scene


def _play(scene: Scene, lab: Lab, load: Load, *, prompt: Prompt) -> Chapter:
    """Chapters meet at the load's own lines, one a second, so that each request is in one of them."""
    before = () if scene is SCENES[0] else load.progress
    if scene.release is not None:
        for server in lab.pool("A"):
            server.restart(*scene.release)
    typed = prompt.type(scene.command)
    _await_line(load, at_least_s=_HISTORY_S)
    return _chapter(scene, typed, load.progress[len(before) :], pool=_serving(lab))


def _await_line(load: Load, *, at_least_s: float) -> None:
    """A line of the load's that was written after now, and after its first `at_least_s` seconds."""
    seen = len(load.progress)
    until(
        lambda: len(load.progress) > seen and load.progress[-1].at_s >= at_least_s,
        deadline=at_least_s + 10.0,
        what="the load's next line",
    )


def _chapter(scene: Scene, typed: Typed, lines: Sequence[Progress], *, pool: str) -> Chapter:
    return Chapter(
        name=scene.name,
        command=typed.command,
        exit=typed.exit,
        seconds=typed.seconds,
        requests=sum(line.requests for line in lines),
        failed=sum(line.failed for line in lines),
        pool=pool,
        output=typed.output,
    )


def _serving(lab: Lab) -> str:
    """The pool, by nginx's own answer."""
    return lab.marker().rpartition("-")[2]


def _why(prompt: Prompt) -> tuple[str, str]:
    """The rule's sentence and nginx's own reason for the rollback, as the journal keeps them; "" where there was none."""
    runs = msgspec.json.decode(prompt.run("upswitch history --json").output, type=_History).runs
    said = next((past.said for past in runs if past.outcome == Outcome.ROLLED_BACK), "")
    rule, _, reason = said.partition(" | why: ")
    return rule.partition(": watch: ")[2], reason
