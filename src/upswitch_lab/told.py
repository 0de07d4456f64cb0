"""What the demo came to, as text and as JSON."""

from upswitch.basics.value import Value
from upswitch_lab.load import Summary


class Scene(Value):
    """One act of the story: what is typed, and how it must come out.

    `release`: the servers of pool A are first restarted with these options. `is_bad`: it is the release that fails.
    """

    name: str
    title: str
    command: str
    exit: int
    pool: str
    release: tuple[str, ...] | None = None
    is_bad: bool = False


class Chapter(Value):
    """How one scene came out. `seconds` is the command's; the requests are those from the chapter's begin to the next one's."""

    name: str
    command: str
    exit: int
    seconds: float
    requests: int
    failed: int
    pool: str
    output: str

    @property
    def line(self) -> str:
        return (
            f"{self.name:15} {self.command:18} {self.seconds:7.1f} {self.exit:5} {self.pool:>6} {self.requests:9,} {self.failed:7,}"
        )


class Told(Value):
    """The demo. `pool` serves at its end by nginx's own answer; `rule` and `reason` are the rollback's, in upswitch's words.

    `first_failure_s` and `last_failure_s` are seconds from the load's start, `suffered_s` is from the one to the other.
    `differs` says what did not come out as told; `folder` is "" unless it was kept.
    """

    command: str
    exit: int
    clients: int
    chapters: tuple[Chapter, ...]
    load: Summary
    first_failure_s: float | None
    last_failure_s: float | None
    suffered_s: float
    rule: str
    reason: str
    differs: tuple[str, ...]
    nginx: str = ""
    pool: str = ""
    history: str = ""
    seconds: float = 0.0
    folder: str = ""

    @property
    def text(self) -> str:
        return "\n".join((*self._story(), "", "$ upswitch history", self.history.rstrip(), "", *self._ending()))

    def _story(self) -> tuple[str, ...]:
        bad = next(chapter for chapter in self.chapters if chapter.name == "bad release")
        others = sum(chapter.failed for chapter in self.chapters if chapter is not bad)
        rate = self.load.requests / self.load.seconds
        return (
            "\n== The story ==",
            f"{'':15} {'command':18} {'seconds':>7} {'exit':>5} {'serves':>6} {'requests':>9} {'failed':>7}",
            *(chapter.line for chapter in self.chapters),
            "",
            f"{self.clients} keep-alive clients sent nginx {self.nginx} {self.load.requests:,} requests, {rate:.0f} a second.",
            f"The bad release passed every probe; then {bad.failed:,} requests failed within {self.suffered_s:.1f} s,",
            "until the former pool served again. Nobody typed anything:",
            *(f"  {part}" for part in self.rule.split(" | ")),
            f"  why: {self.reason}",
            f"In the other chapters {others:,} requests failed.",
        )

    def _ending(self) -> tuple[str, ...]:
        kept = (f"Kept: {self.folder}",) if self.folder else ()
        differs = tuple(f"DIFFERS: {each}" for each in self.differs)
        whole = f"{self.pool} serves; {self.seconds:.0f} s in all; everything that was started has ended."
        return (*differs, whole if differs else f"Everything came out as told. {whole}", *kept)


def differences(scenes: tuple[Scene, ...], chapters: tuple[Chapter, ...], load: Summary) -> tuple[str, ...]:
    """What did not come out as it must, in words."""
    found = [said for scene, chapter in zip(scenes, chapters, strict=True) for said in _differs(scene, chapter)]
    uncounted = load.failed - sum(chapter.failed for chapter in chapters)
    return (*found, f"{uncounted} requests failed after the last command") if uncounted else tuple(found)


def _differs(scene: Scene, chapter: Chapter) -> list[str]:
    found = []
    if chapter.exit != scene.exit:
        found.append(f"{scene.name}: `{scene.command}` ended with exit {chapter.exit}, not {scene.exit}")
    if chapter.pool != scene.pool:
        found.append(f"{scene.name}: {chapter.pool or 'nothing'} serves after it, not {scene.pool}")
    if chapter.failed and not scene.is_bad:
        found.append(f"{scene.name}: {chapter.failed} requests failed, not 0")
    if scene.is_bad and not chapter.failed:
        found.append(f"{scene.name}: no request failed, so it was not bad")
    return found
