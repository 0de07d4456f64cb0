"""What access logs said around a switch, second by second, kept as what their lines say instead of as whose they are.

Whose a line is can only be told when it is known which pool took over, and when: of a log from elsewhere that comes out of the log
itself. So lines are counted by all that decides about them (generation, addresses, statuses, whether the client hung), which is a
few hundred different ones a second at most, however busy the site; and only the seconds that may still matter are kept.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from upswitch.logs.entries import Moment
from upswitch.logs.line import ALWAYS, HISTORY_S
from upswitch.watch.attribution import Attribution
from upswitch.watch.counts import Counts, judged


class Window:
    """The seconds that may still matter: ten minutes and the watch around `at`; while that is sought, the last ten minutes.

    `oldest` and `newest` are of all lines, kept or not; None without any.
    """

    def __init__(self, duration: int, *, at: int | None, begins: Callable[[int, Moment], bool]) -> None:
        """`begins` is told each second and its lines, in their order, and says whether the switch is in it."""
        self.at = at
        self._is_sought = at is None
        self.oldest: int | None = None
        self.newest: int | None = None
        self._duration = duration
        self._begins = begins
        self._seconds: dict[int, list[tuple[int, Moment]]] = {}
        self._looked = 0

    @property
    def since(self) -> int:
        """Nothing before it matters; 0 while that is not known."""
        return max(0, self.at - HISTORY_S) if self.at is not None else 0

    @property
    def until(self) -> int | None:
        return None if self.at is None else self.at + self._duration

    def add(self, source: int, counted: dict[int, Moment]) -> None:
        """What the source of this number said. Lines may come late, but not after `settle` went beyond them."""
        for second, moment in counted.items():
            self.oldest = second if self.oldest is None else min(self.oldest, second)
            self.newest = second if self.newest is None else max(self.newest, second)
            if self._is_sought or second in self._kept:
                self._seconds.setdefault(second, []).append((source, moment))

    def settle(self, upto: int) -> bool:
        """All lines before `upto` have come. True: nothing that matters can come any more.

        A log in which the switch was sought is read to its end, to tell of later ones.
        """
        for second in sorted(each for each in self._seconds if self._looked < each < upto):
            self._looked = second
            if self._begins(second, self.moment(range(second, second + 1))) and self.at is None:
                self.at = second
        kept = self._kept if self.at is not None else range(upto - HISTORY_S, ALWAYS.stop)
        self._seconds = {each: found for each, found in self._seconds.items() if each > self._looked or each in kept}
        return not self._is_sought and upto >= kept.stop

    @property
    def _kept(self) -> range:
        return range(self.since, ALWAYS.stop if self.until is None else self.until)

    def moment(self, seconds: range) -> Moment:
        """All lines of these seconds as one."""
        found: Moment = Counter()
        for _, _, moment in self._of(seconds):
            found.update(moment)
        return found

    def counts(self, seconds: range, whose: Callable[[int], Attribution]) -> Iterator[Counts]:
        """Second by second; `whose` is by the number of the source. A second without lines is a quiet one."""
        for second in seconds:
            parts = (judged(moment.items(), whose(source)) for _, source, moment in self._of(range(second, second + 1)))
            yield sum(parts, Counts())

    def _of(self, seconds: range) -> Iterator[tuple[int, int, Moment]]:
        for second in seconds if len(seconds) < len(self._seconds) else sorted(set(seconds) & self._seconds.keys()):
            for source, moment in self._seconds.get(second, ()):
                yield second, source, moment
