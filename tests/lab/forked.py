"""Commands of upswitch as forks of the test's process, which has imported everything: without the start of a new Python.

That start is half of what a short command costs. A fork is a process like any other: it has its own id, session, signals, streams
and environment, and dies of kill -9. tests/cli/test_main.py and test_demo.py start commands as a shell does.
"""

import atexit
import faulthandler
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

import upswitch
from upswitch.cli.main import main
from upswitch.cli.open import Wiring
from upswitch_lab import backend, load

PROGRAMS = {"upswitch_lab.backend": backend.main, "upswitch_lab.load": load.main}
_KEPT: list[object] = []
"""What a fork has replaced: if it were freed, it would close a file by its number, which is another file's by then."""


def popen_upswitch(
    words: Sequence[str], *, env: Mapping[str, str] | None = None, wiring: Wiring | None = None, **how: Any
) -> subprocess.Popen:
    """`upswitch WORDS` under way; `how` is as for Popen."""
    _import_all()
    return popen_forked(lambda: main(words, wiring), env=env, **how)


def run_upswitch(
    words: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    wiring: Wiring | None = None,
    cwd: Path | str = "/",
) -> subprocess.CompletedProcess[bytes]:
    """`upswitch WORDS`, ended."""
    pipe = subprocess.PIPE
    with popen_upswitch(words, env=env, wiring=wiring, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            out, err = process.communicate(stdin, timeout=60)
        finally:
            process.kill()
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def popen_forked(act: Callable[[], object], *, env: Mapping[str, str] | None = None, **how: Any) -> subprocess.Popen:
    """A process that does `act` and ends. It begins in Popen's child, where a program would be executed."""
    live = partial(_live, act, env)
    return subprocess.Popen(("upswitch",), preexec_fn=live, **how)  # noqa: PLW1509  (the other threads are xdist's, and wait)


def popen_program(argv: Sequence[str], **how: Any) -> subprocess.Popen:
    """As Popen, but a fork where `argv` starts the laboratory's server or load."""
    program = PROGRAMS.get(argv[2]) if argv[:2] == (sys.executable, "-m") else None
    return popen_forked(partial(_main, program, argv), **how) if program else subprocess.Popen(argv, **how)


def _main(program: Callable[[], object], argv: Sequence[str]) -> None:
    sys.argv = [*argv[2:]]
    program()


@cache
def _import_all() -> None:
    root = Path(upswitch.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if path.stem != "__main__":
            importlib.import_module(".".join(("upswitch", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__"))


def _live(act: Callable[[], object], env: Mapping[str, str] | None) -> NoReturn:
    code = 1
    try:
        _be_new(env)
        try:
            act()
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  (the end of a program)
        traceback.print_exc()
    finally:
        os._exit(code)


def _be_new(env: Mapping[str, str] | None) -> None:
    """Nothing of the test's process is left: its files, its signals' handlers, what it does at its end, what it warns of."""
    gc.freeze()
    atexit._clear()
    faulthandler.disable()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # also the pipe on which Popen waits for the program
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _KEPT.extend((sys.stdin, sys.stdout, sys.stderr))
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    _KEPT.extend((sys.stdin, sys.stdout, sys.stderr))  # as Python keeps its own: a command replaces them
    sys.unraisablehook, threading.excepthook = sys.__unraisablehook__, threading.__excepthook__
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
