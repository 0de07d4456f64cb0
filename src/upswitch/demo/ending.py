"""When a laboratory process ends: on SIGTERM or SIGINT, and where asked when its standard input closes."""

import asyncio
import os
import signal
import threading


def stop_event(*, on_stdin: bool) -> asyncio.Event:
    """An event of the running loop. `on_stdin`: set it at end of file too, so that nobody outlives a killed parent."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if on_stdin:
        threading.Thread(target=_await_end_of_stdin, args=(loop, stop), daemon=True).start()
    return stop


def _await_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """os.read, because a daemon thread inside sys.stdin's lock would abort the interpreter at exit; a thread,
    because epoll refuses files and /dev/null.
    """
    while os.read(0, 65536):
        pass
    loop.call_soon_threadsafe(stop.set)
