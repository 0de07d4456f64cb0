"""Health probes over streams from the host's place, many at once.

Each type succeeds exactly where nginx_upstream_check_module would (nginx-facts, section 6), so that what passes here is not
held down there. That is why http_send goes out byte for byte, and not as a request that a library would improve.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from upswitch.adapters import body
from upswitch.adapters.hello import Hellos
from upswitch.adapters.stream import Stream
from upswitch.core import regex
from upswitch.core.foreign import printable
from upswitch.core.gate import Probe, Target
from upswitch.core.gaterule import GateRule
from upswitch.core.probe.answer import MORE
from upswitch.core.probe.question import Question, question
from upswitch.core.words import Verdict
from upswitch.ports import Clock, Connection, Host

MOST_AT_ONCE = 256
_HEAD = 80  # bytes of a wrong answer that are shown


class ProbeFailedError(Exception):
    """Why a server's answer does not count as alive; `head` holds the first bytes of a wrong answer."""

    def __init__(self, why: str, head: bytes = b"") -> None:
        super().__init__(why)
        self.head = head[:_HEAD]


class NetProber:
    """Rounds of probes, all targets at once. No retry, no redirect, no proxy, no name but the target's own."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._hellos = Hellos()
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="probe")

    def round(self, targets: Sequence[Target]) -> tuple[Probe, ...]:
        """One probe of each target, in their order. Takes as long as the slowest, at most its timeout."""
        return tuple(self._pool.map(self.probe, targets))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def probe(self, target: Target) -> Probe:
        began = self._clock.monotonic()
        until = began + target.rule.timeout
        try:
            with self._host.connect(target.address, timeout=target.rule.timeout) as stream:
                self._ask(stream, target.rule, until)
        except ProbeFailedError as exc:
            return self._failed(began, str(exc), exc.head)
        except TimeoutError:
            return self._failed(began, f"no answer within {target.rule.timeout:g} s")
        except OSError as exc:
            return self._failed(began, exc.strerror or str(exc))
        return Probe(ok=True, seconds=self._clock.monotonic() - began)

    def _ask(self, stream: Connection, rule: GateRule, until: float) -> None:
        armed = Stream(stream, self._clock, until)
        asked = question(rule, self._hellos.make)
        if asked is None:
            _ask_tcp(armed)
        else:
            answer = _await_verdict(armed, asked)
            if rule.expect_body:
                _expect(body.read(armed, answer), rule.expect_body)

    def _failed(self, began: float, error: str, head: bytes = b"") -> Probe:
        return Probe(ok=False, error=printable(error.encode()), head=printable(head), seconds=self._clock.monotonic() - began)


def _ask_tcp(stream: Stream) -> None:
    """ngx_http_upstream_check_peek_one_byte: data or "nothing yet" is alive; a closed or reset connection is not."""
    if stream.peek() == b"":
        raise ProbeFailedError("connected, then closed at once")


def _await_verdict(stream: Stream, asked: Question) -> bytes:
    """Say, then read and judge until it is alive. Gives what came; a closed connection is a failure."""
    if asked.say:
        stream.send(asked.say)
    data, answer = b"", MORE
    while answer.verdict is Verdict.RUNNING:
        more = stream.drain()
        if not more:
            raise ProbeFailedError(f"closed inside {asked.part}" if data else "closed without an answer", data)
        data += more
        answer = asked.judge(data)
    if answer.verdict is Verdict.FAIL:
        raise ProbeFailedError(answer.why, body.read(stream, data) if answer.has_body else answer.shown)
    return data


def _expect(found: bytes, pattern: str) -> None:
    if regex.compiled(pattern).search(found.decode("utf-8", "replace")) is None:
        raise ProbeFailedError(f"the body does not match {pattern!r}", found)
