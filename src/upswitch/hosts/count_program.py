"""A program that counts lines of a log where the log lies, and its answer."""

from upswitch.basics.value import Value

_NOTHING = {
    "status": b"000",
    "msec": b"0.000",
    "request_time": b"0.000",
    "time_local": b"01/Jan/1970:00:00:00 +0000",
    "time_iso8601": b"1970-01-01T00:00:00+00:00",
    "request_completion": b"OK",
}

HEAD = r"""
BEGIN { FS = "\"" }
{ size = length($0); bytes += size + 1 }
bytes > n { bytes -= size + 1; exit }
torn { torn = 0; next }
"""
TAIL = r"""
room && (whole += size) > room { left++; next }
{ print "\t" line }
END {
  print ""
  for (k in good) print good[k] "\t" k
  for (k in bad) print "+" bad[k] "\t" k
  print bytes + 0 (left ? " " left : "") > "/dev/stderr"
}
"""


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


_SPAN = r"""
LC_ALL=C; export LC_ALL
tail -c "+$(($2 + 1))" -- "$1" | head -c "$3" | awk -v n="$3" -v torn="$(($2 > 0))" -v most=0 -v room="$4" "$5"
"""


def span_argv(path: str, span: range, program: CountProgram, *, room: int) -> tuple[str, ...]:
    """Count a span of a file."""
    return ("sh", "-c", _SPAN, "upswitch-count", path, str(span.start), str(len(span)), str(room), program.awk)


LINES = CountProgram(awk=HEAD + "{ line = $0 }" + TAIL)
"""Counts nothing: sends every line whole."""
