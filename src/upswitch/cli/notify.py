"""Notices: what a command came to, sent to the chats and monitors of the site file ([[notify]], docs/notices.md).

A notice never changes the outcome or the exit code. Each is sent in a thread of its own, which ends with its `timeout`. Why one
was not sent is a line without URL or header: these may be secrets.
"""

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from upswitch.basics.errors import HostError
from upswitch.basics.text import plain
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View
from upswitch.cli.views.acted import Acted
from upswitch.cli.views.fleet import FleetView
from upswitch.cli.views.keys import encoded
from upswitch.generations import templates
from upswitch.hosts.host import Clock
from upswitch.hosts.local import opened, trusted
from upswitch.hosts.wait import until
from upswitch.site.model import Site
from upswitch.site.telling import Notice, Secret

if TYPE_CHECKING:
    import httpx

_AGAIN_S = 1.0  # seconds between two attempts
_LOOK_S = 0.05
_LATE_S = 0.5  # seconds for a thread to say itself that its time is over
_LONGEST = 3000  # characters of the text: Datadog takes 4000
_TOO_MANY = 429
_SILENT = "no answer in time"
_SEVERITIES: dict[int, str] = {Exit.DONE: "ok", Exit.STUCK: "critical", Exit.HELD: "critical", Exit.BUG: "critical"}


class NoticeError(Exception):
    """A notice that can't be made or sent, in words without a secret."""


class Sending:
    """The notices of one result, under way. Every result of a command that acts has one; without targets it is empty."""

    def __init__(self, site: Site, view: View, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._notices = [(at, each) for at, each in enumerate(site.notify, 1) if _outcome(view).lower() in each.on]
        self._failures = {at: _SILENT for at, _ in self._notices}  # until it is known better
        self._threads = {
            at: threading.Thread(target=self._send, args=(at, each, site, view), daemon=True) for at, each in self._notices
        }
        for thread in self._threads.values():
            thread.start()

    def failures(self) -> tuple[str, ...]:
        """A line for each notice that was not sent, when all are sent or out of time."""
        for at, notice in self._notices:
            left = self._began + notice.timeout + _LATE_S - self._clock.monotonic()
            self._threads[at].join(max(0.0, left))
        lines = ((at, notice, self._failures.get(at)) for at, notice in self._notices)
        return tuple(f"NOTICE NOT SENT: notify[{at}] ({_name(notice)}): {plain(why)}" for at, notice, why in lines if why)

    def _send(self, at: int, notice: Notice, site: Site, view: View) -> None:
        try:
            self._failures[at] = _sent(
                notice,
                made(notice, values_of(site, view, self._clock)),
                self._clock,
                note=lambda why: self._failures.update({at: why}),
            )
        except NoticeError as exc:
            self._failures[at] = str(exc)


def values_of(site: Site, view: View, clock: Clock) -> Mapping[str, Any]:
    """What a template may use: docs/notices.md lists it."""
    from datetime import datetime

    return {
        "outcome": _outcome(view),
        "severity": _SEVERITIES.get(view.exit, "warning"),
        "said": _printable(getattr(view, "said", ""))[:_LONGEST],
        "text": _printable(view.text)[:_LONGEST],
        "site": site.name,
        "machine": socket.gethostname(),
        "at_ms": int(datetime.fromisoformat(clock.now()).timestamp() * 1000),
        "result": msgspec.json.decode(msgspec.json.encode(encoded(view))),
    }


def made(notice: Notice, values: Mapping[str, Any]) -> bytes:
    """The body of a notice: what its template makes, which must be JSON. NoticeError."""
    from upswitch.generations.render import RenderError, rendered

    try:
        path = _template(notice.template)
        with opened.text(path, errors="strict") as file:
            body = rendered(path, {path: file.read()}, values)
        msgspec.json.decode(body)
    except (OSError, HostError, RenderError, UnicodeError) as exc:
        raise NoticeError(f"the template can't be used: {exc}") from exc
    except msgspec.MsgspecError as exc:
        raise NoticeError(f"the template makes no JSON: {exc}") from exc
    return body.encode()


def _template(name: str) -> str:
    """An owner's template is code: nobody else may write it."""
    if not name.startswith("/"):
        return str(templates.folder() / "notify" / f"{name}.json.j2")
    trusted.check(name)
    return name


def _sent(notice: Notice, body: bytes, clock: Clock, *, note: Callable[[str], None]) -> str:
    """Why it was not sent, "" where it was. Sent again after a failed connection, 429 and 5xx, but not after a silence:
    the notice may have arrived.
    """
    import httpx

    headers = {name: _read(secret) for name, secret in notice.headers}
    url = _read(notice.url)
    seen = list[str]()
    with httpx.Client(timeout=notice.timeout, headers={"content-type": "application/json", **headers}) as client:

        def attempt() -> tuple[str, bool]:
            why, is_final = _attempted(lambda: client.post(url, content=body))
            seen.append(why)
            note(why)
            return why, is_final

        within = notice.timeout - _AGAIN_S
        why, _ = until(lambda each: each[1], attempt, every=_AGAIN_S, clock=clock, within=within)
    return f"{why}, after {len(seen)} attempts" if why and len(seen) > 1 else why


def _attempted(post: "Callable[[], httpx.Response]") -> tuple[str, bool]:
    """Why it failed, "" where it did not; and whether that is final."""
    import httpx

    try:
        answer = post()
    except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
        return f"the connection failed ({exc})", False
    except httpx.TimeoutException:
        return _SILENT, True
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        return "the URL is not valid", True
    except (httpx.HTTPError, ValueError) as exc:  # h11 refuses a header with a newline; its words would show it
        return f"the request failed ({type(exc).__name__})", True
    if answer.is_success:
        return "", True
    return f"the answer is HTTP {answer.status_code}", not (answer.is_server_error or answer.status_code == _TOO_MANY)


def _read(secret: Secret) -> str:
    """The value, without white space around it. NoticeError names the place only."""
    if secret.text:
        return secret.text
    if secret.env:
        found = os.environ.get(secret.env, "").strip()
        if not found:
            raise NoticeError(f"the environment variable {secret.env} is not set; sudo drops variables, so name a file there")
        return found
    try:
        trusted.check(secret.file)
        with opened.text(secret.file, errors="strict") as file:
            found = file.read(1 << 13).strip()
    except (OSError, HostError, UnicodeError) as exc:
        raise NoticeError(f"{secret.file} can't be read: {_reason(exc)}") from exc
    if not found:
        raise NoticeError(f"{secret.file} is empty")
    return found


def _reason(exc: Exception) -> str:
    return str(exc) if isinstance(exc, HostError) else (exc.strerror or "") if isinstance(exc, OSError) else "it is not UTF-8"


def _outcome(view: View) -> str:
    return view.outcome if isinstance(view, Acted | FleetView) else ""


def _name(notice: Notice) -> str:
    return Path(notice.template).name.partition(".")[0]


def _printable(text: str) -> str:
    return "\n".join(map(plain, text.split("\n")))


def with_failures(view: View, failures: Sequence[str]) -> View:
    """The view that says which notices were not sent."""
    return msgspec.structs.replace(view, notices=tuple(failures)) if isinstance(view, Acted | FleetView) else view
