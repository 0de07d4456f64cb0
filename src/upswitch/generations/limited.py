"""Renders an owner's template in a process of its own: it may take so much time and memory, and give a text of so many bytes.

A loop in a template, or `{{ 9 ** (9 ** 9) }}`, would never end here: Python can't stop its own arithmetic.
Run as a program, this module is that process: one JSON object on stdin, one on stdout.
"""

import contextlib
import resource
import subprocess
import sys
from collections.abc import Mapping

import msgspec

from upswitch.basics.value import Value
from upswitch.generations import render, templates
from upswitch.generations.render import RenderError

SECONDS = 10.0
MEMORY = 1 << 29
"""Bytes of address space; Python and jinja2 themselves take a tenth of it."""
LARGEST = 1 << 22
"""Bytes of text: a pool of 50,000 servers."""
_BEYOND = 3  # seconds of processor time by which the process ends where nobody is left to stop it


class _Asked(Value):
    template: str
    texts: dict[str, str]
    values: dict[str, str | tuple[str, ...]]


class _Answer(Value):
    text: str = ""
    fault: str = ""


def rendered(template: str, texts: Mapping[str, str], values: Mapping[str, object], *, seconds: float = SECONDS) -> str:
    """A `Run` for render.py. The packaged templates need no limits."""
    if template in templates.PACKAGED:
        return render.rendered(template, texts, values)
    argv = (sys.executable, "-P", "-m", __name__)
    asked = msgspec.json.encode({"template": template, "texts": texts, "values": values})
    try:
        ran = subprocess.run(argv, input=asked, capture_output=True, timeout=seconds, start_new_session=True, check=False)
        answer = msgspec.json.decode(ran.stdout, type=_Answer)
    except subprocess.TimeoutExpired:
        raise RenderError(template, f"it has not ended after {seconds:g} s: look for a loop or a very large number") from None
    except msgspec.MsgspecError as exc:
        said = ran.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise RenderError(template, f"it ended the process that rendered it (exit {ran.returncode}) {said}".rstrip()) from exc
    if answer.fault:
        raise RenderError(template, answer.fault)
    return answer.text


def _answer(asked: _Asked) -> _Answer:
    try:
        text = render.rendered(asked.template, asked.texts, asked.values)
    except RenderError as exc:
        return _Answer(fault=f"{exc.why} (it may use {MEMORY >> 20} MiB)" if isinstance(exc.__cause__, MemoryError) else exc.why)
    size = len(text.encode())
    return _Answer(text=text) if size <= LARGEST else _Answer(fault=f"it gives {size} bytes of text; {LARGEST} are allowed")


def _limit(kind: int, most: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # a lower limit is in force already, or this system has none
        resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    _limit(resource.RLIMIT_AS, MEMORY)
    _limit(resource.RLIMIT_CPU, round(SECONDS) + _BEYOND)
    sys.stdout.buffer.write(msgspec.json.encode(_answer(msgspec.json.decode(sys.stdin.buffer.read(), type=_Asked))))
