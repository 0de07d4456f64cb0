"""Progress on stderr while a command runs: a live line on a terminal, timestamped lines elsewhere.

Printing must never stop a switch, nor make it slower. So a thread of its own writes, from a queue with a bound. Lines that do not
fit are dropped, and so is what can't be written (streams.py).
"""

import contextlib
import functools
import queue
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, NamedTuple

import msgspec

from upswitch.basics.text import printable
from upswitch.cli.streams import STDERR, Output
from upswitch.hosts.host import Tell

if TYPE_CHECKING:
    from rich.table import Table


_QUEUED = 1000
_PASSING_EVERY = 5.0  # seconds between two passing lines of one step where there is no terminal
_STEP = 12  # columns; the longest is "confirm back"
_LAST_WORDS = 1.0  # seconds for the queue to empty at the end


class _Line(NamedTuple):
    """`host` is "" for this machine, and for what concerns all hosts. A passing line is replaced by the next one."""

    host: str
    step: str
    said: str
    is_passing: bool
    is_bad: bool = False


class Teller:
    """Prints progress. `events` gets every line as JSON too. With `hosts`, a terminal shows a row for each of them."""

    def __init__(
        self,
        *,
        now: Callable[[], str],
        monotonic: Callable[[], float],
        events: IO[bytes] | None = None,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._events = events
        self._passed: dict[str, float] = {}
        self._queue: queue.Queue[_Line | None] = queue.Queue(_QUEUED)
        stream = Output(STDERR)
        self._out = _Terminal(stream, hosts) if stream.isatty() else _Pipe(now, stream, hosts)
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def __call__(self, step: str, said: str, *, is_passing: bool = False, is_bad: bool = False, host: str = "") -> None:
        if is_passing and not self._is_due(f"{host} {step}"):
            return
        with contextlib.suppress(queue.Full):
            said = printable(said.encode("utf-8", "backslashreplace"))
            self._queue.put_nowait(_Line(host, step, said, is_passing, is_bad))

    def of(self, host: str) -> Tell:
        """The same for what concerns one host."""
        return functools.partial(self, host=host)

    def close(self) -> None:
        """Write what is left, for at most a second."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(_LAST_WORDS)

    def _is_due(self, step: str) -> bool:
        if self._out.is_live:
            return True
        now, last = self._monotonic(), self._passed.get(step)
        if last is not None and now - last < _PASSING_EVERY:
            return False
        self._passed[step] = now
        return True

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            if self._events is not None:  # first: stderr may take seconds, a file does not
                with contextlib.suppress(OSError, ValueError):
                    self._events.write(self._event(line))
                    self._events.flush()
            self._out.write(line)
        self._out.close()

    def _event(self, line: _Line) -> bytes:
        event = {"at": self._now(), "step": line.step, "said": line.said, "passing": line.is_passing}
        return msgspec.json.encode(event | ({"host": line.host} if line.host else {})) + b"\n"


class _Pipe:
    """One timestamped line each."""

    is_live = False

    def __init__(self, now: Callable[[], str], stream: IO[str], hosts: tuple[str, ...]) -> None:
        self._now = now
        self._stream = stream
        self._width = max(map(len, hosts), default=-1) + 1

    def write(self, line: _Line) -> None:
        self._stream.write(f"{self._now()} {line.host:{self._width}}{line.step:12} {line.said}\n")

    def close(self) -> None:
        return


class _Terminal:
    """A passing line stands beside a spinner until the next line comes; the others stay. Each of several hosts has a row."""

    is_live = True

    def __init__(self, stream: IO[str], hosts: tuple[str, ...]) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        self._table = Table
        self._rows = {host: _Line(host, "", "", is_passing=True) for host in hosts}
        self._text = Text  # never markup: a log line may hold brackets
        self._console = Console(file=stream, highlight=False, markup=False)
        self._spinner = Spinner("dots", style="status.spinner")
        # Not console.status(): it replaces sys.stdout and sys.stderr by proxies, for the other thread too. The result would go
        # to the terminal, and a terminal that is not read made Python crash at exit (seen).
        self._live = Live(
            self._spinner,
            console=self._console,
            refresh_per_second=12.5,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def write(self, line: _Line) -> None:
        if line.host:
            self._rows[line.host] = line
            self._live.update(self._drawn())
            self._live.start()
        if line.is_passing and not line.host:
            self._spinner.update(text=self._text(f"{line.step:12} {line.said}"))
            self._live.start()
        if line.is_passing or (line.host and not line.is_bad):
            return
        self.close()
        said = f"{line.host:{max(map(len, self._rows), default=-1) + 1}}{line.step:12} {line.said}"
        self._console.print(said, style="red" if line.is_bad else None)

    def _drawn(self) -> "Table":
        """A narrow terminal cuts the end of lines. A low one leaves hosts out, those that fail last, and counts them."""
        table = self._table(box=None, padding=(0, 2, 0, 0), expand=True)
        for name, width in (("HOST", max(map(len, self._rows))), ("STEP", _STEP)):
            table.add_column(name, no_wrap=True, min_width=width)
        table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
        height = self._console.height - 1
        shown = [*self._rows.values()]
        if len(shown) > height:
            shown = sorted(shown, key=lambda row: not row.is_bad)[: max(1, height - 1)]
        for row in shown:
            table.add_row(row.host, row.step, self._text(row.said, style="red" if row.is_bad else ""))
        if more := len(self._rows) - len(shown):
            table.add_row("", "", f"and {more} more hosts")
        return table

    def close(self) -> None:
        self._live.stop()
