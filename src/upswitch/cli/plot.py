"""The live plot of `upswitch watch` on a terminal: requests and failures a second, by pool.

It is drawn by a thread of its own, the newest seconds only: a terminal that is not read (Ctrl-S) must hold neither the watch nor
its end.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from upswitch.basics.text import plain
from upswitch.cli.streams import STDERR, Output
from upswitch.watch.history import Second
from upswitch.watch.live import Frame

_KEPT = 600  # seconds
_LAST_WORDS = 1.0  # seconds for the last frame to be drawn
_LABEL, _NUMBER = 12, 10  # columns
_BARS = " ▁▂▃▄▅▆▇█"


class Plot:
    """Draws on standard error until it is closed."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque(maxlen=_KEPT)
        self._came = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._draw, daemon=True)
        self._thread.start()

    def __call__(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._came.set()

    def close(self) -> None:
        """The last frame stays; it is waited for, for at most a second."""
        self._is_over = True
        self._came.set()
        self._thread.join(_LAST_WORDS)

    def _draw(self) -> None:
        console = Console(file=Output(STDERR), highlight=False, markup=False)
        live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        with contextlib.suppress(OSError, ValueError), live:  # a terminal that is gone must not change what happens
            while not self._is_over:
                self._came.wait()
                self._came.clear()
                if self._frames:
                    live.update(picture(tuple(self._frames), width=console.width), refresh=True)


def picture(frames: Sequence[Frame], *, width: int) -> Group:
    """The newest seconds at the right, as many as fit into `width` columns; below them the words on the last one."""
    last = frames[-1]
    first, *others = last.words or (last.said,)
    shown = frames[-max(1, width - _LABEL - _NUMBER - 1) :]
    return Group(
        *_plot("requests/s", shown, lambda second: second.total, style="green"),
        *_plot("failures/s", shown, lambda second: second.failures, style="red"),
        Text(plain(first), style="bold red" if last.is_failing else ""),
        *(Text(plain(other)) for other in others),
        *(Text(f"Down: {plain(server)}", style="bold red") for server in last.down),
        *(Text(plain(note), style="yellow") for note in last.notes),
    )


def _plot(name: str, frames: Sequence[Frame], count: Callable[[Second], int], *, style: str) -> list[Text]:
    """A heading and two rows of one scale: the pool, and all other requests in the logs."""
    rows = {frames[-1].pool: [count(each.new) for each in frames], "others": [count(each.others) for each in frames]}
    top = max(map(max, rows.values()))
    return [Text(f"{name} (up to {top:,})", style="bold"), *(_row(label, values, top, style) for label, values in rows.items())]


def _row(label: str, values: Sequence[int], top: int, style: str) -> Text:
    """A value above zero has a bar, however small."""
    bars = "".join(_BARS[-(-value * (len(_BARS) - 1) // top) if top else 0] for value in values)
    return Text.assemble(f"{plain(label)[:_LABEL]:{_LABEL}}{values[-1]:>{_NUMBER},} ", (bars, style), no_wrap=True)
