"""A program that counts lines of a log where the log lies, and its answer."""

from upswitch.basics.value import Value
from upswitch.hosts import sh

_NOTHING = {
    "status": b"000",
    "msec": b"0.000",
    "request_time": b"0.000",
    "time_local": b"01/Jan/1970:00:00:00 +0000",
    "time_iso8601": b"1970-01-01T00:00:00+00:00",
    "request_completion": b"OK",
}


class Alike(Value):
    """`times` lines of the log that are like this one (with its newline) in all that decides.

    `is_good`: all went well with these requests. The others would have been sent whole, had there not been too many of them.
    """

    line: bytes
    times: int
    is_good: bool


class CountProgram(Value):
    """`awk` is the program. Its variables: `n`, how many bytes it gets; `torn`, 1 where these begin within a line that nobody
    wants; `most`, how many lines of requests that did not go well it may send whole; `room`, if given, how many bytes of lines
    that it can't count. It writes rows, and on stderr how many of the bytes are whole lines and, if any, how many lines it left
    out.

    `wanted` are the parts that it counts by, in the order of its rows.
    """

    awk: str
    parts: tuple[tuple[str, bytes], ...] = ()
    wanted: tuple[int, ...] = ()

    def rows(self, rows: bytes) -> tuple[bytes, tuple[Alike, ...]]:
        """The lines that were sent whole, each with its newline; and what was counted. ValueError where these are no such rows."""
        whole, _, counted = (b"\n" + rows).partition(b"\n\n")
        lines = whole[2:].replace(b"\n\t", b"\n") + (b"\n" if whole else b"")
        return lines, tuple(map(self._alike, counted.split(b"\n")[:-1]))

    def _alike(self, row: bytes) -> Alike:
        times, *values = row.split(b"\t")
        found = dict(zip(self.wanted, values, strict=True))
        texts = (found.get(at) or _NOTHING.get(variable, b"") for at, (variable, _) in enumerate(self.parts))
        line = b"".join(text + literal for text, (_, literal) in zip(texts, self.parts, strict=True))
        return Alike(line=line + b"\n", times=int(times), is_good=not times.startswith(b"+"))


def span_argv(path: str, span: range, program: CountProgram, *, room: int) -> tuple[str, ...]:
    """Count a span of a file."""
    return sh.argv("upswitch.hosts", "count.sh", path, str(span.start), str(len(span)), str(room), program.awk)


def counting(body: str) -> str:
    """An awk program: `body`, which sees each whole line, between what every counting program begins and ends with."""
    head, tail = (sh.script("upswitch.hosts", f"count_{part}.awk") for part in ("head", "tail"))
    return f"{head}{body}{tail}"


def lines_with(text: str) -> CountProgram:
    """Sends the lines that hold this text (without quotes and backslashes) whole, and counts nothing."""
    return CountProgram(awk=counting(f'!index($0, "{text}") {{ next }}\n{{ line = $0 }}\n'))


def whole_lines() -> CountProgram:
    """Counts nothing: sends every line whole."""
    return CountProgram(awk=counting("{ line = $0 }\n"))
