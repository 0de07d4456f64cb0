"""The first line of an HTTP answer, read as nginx_upstream_check_module reads it (parse_status_line, the same in both modules).

Not quite HTTP: any version from 1.0 up with a dot will do, spaces may stand between the three digits, a dot may follow them
(IIS's `403.1`), and a line may end in LF alone. The whole line must be there; headers and body are never waited for.
"""

import re
from collections.abc import Sequence

from upswitch.health.types import ALIVE, MORE, Answer, ProbeType, dead
from upswitch.site.model import Verdict

_LINE = re.compile(rb"(HTTP/[1-9][0-9]*\.[0-9]+ +([0-9]) *[0-9] *[0-9](?:[ .][^\r\n]*)?)\r?\n")
_BEGIN = b"HTTP/"
_LONGEST = 65536  # bytes; the module would go on reading a line that never ends


def read(data: bytes, alive: Sequence[str]) -> Answer:
    """`alive` are the classes that count, as `http_2xx`. A status of 1xx, or over 599, is in none that a site can name."""
    is_whole = b"\n" in data
    if data[: len(_BEGIN)] != _BEGIN[: len(data)] or (len(data) > _LONGEST and not is_whole):
        return dead("the answer is not HTTP", data)
    if not is_whole:
        return MORE
    status = _LINE.match(data)
    if status is None:
        return dead("the answer is not HTTP", data)
    if f"http_{status[2].decode()}xx" in alive:
        return ALIVE
    why = f"{status[1].decode('latin-1')} (alive is {', '.join(alive)})"
    return Answer(verdict=Verdict.FAIL, why=why, has_body=True)


TYPE = ProbeType(
    part="the status line",
    send=lambda rule, _: rule.http_send.encode("latin-1"),
    read=lambda data, rule: read(data, rule.http_expect_alive),
)
