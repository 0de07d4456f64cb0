"""What `watch` prints, of live traffic and of a replay."""

from collections.abc import Iterator

import msgspec

from upswitch.basics.result import Failure
from upswitch.basics.text import plain
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View
from upswitch.site.model import SilencePolicy, Watch
from upswitch.watch import rule
from upswitch.watch.attribution import Mode
from upswitch.watch.ending import Final
from upswitch.watch.history import Second
from upswitch.watch.live import Observed
from upswitch.watch.probation import ENDED
from upswitch.watch.replay import Replayed, clock_time
from upswitch.watch.rule import Judgement

_SPIKE = "rollback"


class WatchView(View):
    """`watch`: the rule's verdict on traffic, live or past; nothing was changed. Exit 3: a switch would not have been kept.

    `looks` and `told` are of a replay: the rule's line of each second, and the seconds, from 1, that are shown.
    """

    said: str
    would: str
    seen: Observed
    looks: tuple[str, ...] = ()
    told: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        lines = [*(self.looks[second - 1] for second in self.told), self.said]
        lines += [f"Changed: {change}" for change in self.seen.changes]
        lines += [f"Down: {', '.join(self.seen.peers_down)}"] if self.seen.peers_down else []
        lines += [f"Why: {self.seen.reasons}"] if self.seen.reasons else []
        return "\n".join([*lines, *(f"Note: {note}" for note in self.seen.notes)])


def replayed(found: Replayed, watch: Watch) -> WatchView:
    """`watch` has the policies: what a spike, or too little traffic to judge, leads to."""
    pool, seconds, begin = plain(found.release.pool), len(found.looks), clock_time(found.at)
    would = _would(found.verdict, watch, found.looks[-1])
    whole = sum(found.since, Second())
    failed = whole.failures
    is_spike, to = found.verdict == _SPIKE, "any pool (LIMITED MODE)" if found.mode is Mode.LIMITED else pool
    ending = "" if is_spike else f"{ENDED[Final(found.verdict)]}. "
    when = f" after {seconds} s, at {clock_time(found.at + seconds)}" if is_spike else ""
    return WatchView(
        command="watch",
        exit=Exit.DONE if would == "keep" else Exit.FINDINGS,
        said=f"{failed} of {whole.total} requests to {to} failed in {seconds} s from {begin}. {ending}{_would_have(would, when)}",
        would=would,
        seen=Observed(
            verdict=found.verdict,
            began=begin,
            pool=pool,
            generation=plain(found.release.attribution.generation),
            at_s=seconds if found.verdict == _SPIKE else None,
            judgement=found.looks[-1],
            seconds=seconds,
            failed=failed,
            total=whole.total,
            mode=found.mode,
            notes=tuple(map(plain, found.notes)),
        ),
        looks=tuple(rule.sentence(look, second, to) for second, look in enumerate(found.looks, 1)),
        told=tuple(_seconds_shown(found)),
    )


def _seconds_shown(found: Replayed) -> Iterator[int]:
    """The seconds, from 1, in which something failed or an answer changed."""
    former = {"enough": False, "big": False, "new": False, "not_luck": False}
    for second, (look, brought) in enumerate(zip(found.looks, found.since, strict=True), 1):
        if brought.has_failed or look.answers != former:
            yield second
        former = look.answers


def observed(found: Observed, watch: Watch) -> WatchView:
    """The same of live traffic. A server that is down is a finding too, even if it failed after the verdict."""
    would = _would(found.verdict, watch, found.judgement)
    said = found.why or f"{found.progress}. {ENDED[Final(found.verdict)]}"
    return WatchView(
        command="watch",
        exit=Exit.DONE if would == "keep" and not found.peers_down else Exit.FINDINGS,
        said=f"{plain(said).removesuffix('.')}. {_would_have(would)}",
        would=would,
        seen=msgspec.structs.replace(
            found,
            pool=plain(found.pool),
            generation=plain(found.generation),
            changes=tuple(map(plain, found.changes)),
            notes=tuple(map(plain, found.notes)),
        ),
    )


def _would_have(would: str, when: str = "") -> str:
    """What would have become of a switch, and when."""
    done = {"keep": "kept", "rollback": "rolled back", "hold": "held"}[would]
    then = ": the pool keeps serving, and a person decides" if would == "hold" else ""
    return f"A switch would have been {done}{when}{then}."


def _would(verdict: str, watch: Watch, look: Judgement) -> str:
    """What a switch with this verdict would have led to: keep, rollback or hold."""
    if verdict == _SPIKE:
        return "hold" if watch.holds(look.kind if look.is_spike else Failure.NONE) else "rollback"
    match Final(verdict):
        case Final.KEEP | Final.KEEP_ELEVATED:
            return "keep"
        case Final.HELD:
            return "hold"
        case Final.NOT_SWITCHED:
            return "rollback"
        case Final.UNPROVEN | Final.BLIND:
            return SilencePolicy(watch.on_silence).value
