"""Requests through nginx, as a client would make them: what the watch asks on a quiet site."""

from upswitch.basics.errors import HostError
from upswitch.basics.result import Failure
from upswitch.hosts.host import Host

_TIMEOUT = 2.0
_GATEWAY = {502, 503, 504}


class ThroughProbe:
    """One URL, asked anew each time, from where the host stands: without one, from here.

    No redirects, no proxy of the environment, no certificate names: it asks our own nginx.
    """

    def __init__(self, url: str, host: Host | None = None) -> None:
        import httpcore  # noqa: PLC0415  (with httpx 120 ms, and only a site that names a probe needs it)
        import httpx  # noqa: PLC0415

        from upswitch.hosts.http import Backend, trusting  # noqa: PLC0415  (as above)

        try:
            self._url = str(httpx.URL(url))
            self._headers = httpx.Request("GET", url, headers={"Connection": "close", "User-Agent": "upswitch-watch"}).headers.raw
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise HostError(f"use watch.probe {url}", str(exc)) from exc
        backend = Backend(host) if host is not None else None
        self._httpcore = httpcore
        self._failures = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.UnsupportedProtocol)
        self._pool = httpcore.ConnectionPool(ssl_context=trusting(), network_backend=backend)

    def ask(self) -> Failure:
        """How one request fared, in the words of the watch rule. No answer at all is nginx's own failure: GATEWAY.

        HostError where the host itself is lost: that says nothing of nginx.
        """
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), _TIMEOUT)
        try:
            with self._pool.stream("GET", self._url, headers=self._headers, extensions={"timeout": timeouts}) as response:
                return Failure.GATEWAY if response.status in _GATEWAY else Failure.NONE
        except self._httpcore.ReadTimeout:
            return Failure.HUNG
        except self._failures:
            return Failure.GATEWAY

    def close(self) -> None:
        self._pool.close()
