"""Requests through nginx, as a client would make them: what the watch asks on a quiet site."""

from upswitch.basics.errors import HostError
from upswitch.basics.result import Failure
from upswitch.hosts.host import Host
from upswitch.logs.line import GATEWAY

_TIMEOUT = 2.0
_HEADERS = {"Connection": "close", "User-Agent": "upswitch-watch"}


class ThroughProbe:
    """Requests one URL from where the host stands, over a new connection each time.

    It follows no redirect, uses no proxy of the environment, keeps no cookie and accepts any certificate: it asks our own nginx.
    """

    def __init__(self, url: str, host: Host) -> None:
        import httpx  # noqa: PLC0415  (120 ms, and only a site that names a probe needs it)

        from upswitch.hosts.http import HostTransport  # noqa: PLC0415  (as above)

        self._httpx = httpx
        self._client = httpx.Client(transport=HostTransport(host), timeout=_TIMEOUT, headers=_HEADERS, trust_env=False)
        try:
            self._request = self._client.build_request("GET", url)  # made once: so no cookie of an answer is sent
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise HostError(f"use watch.probe {url}", str(exc)) from exc

    def ask(self) -> Failure:
        """Make one request and judge it, in the terms of the watch rule. No answer is nginx's own failure: GATEWAY.

        HostError where the host itself is lost: that says nothing of nginx.
        """
        try:
            response = self._client.send(self._request, stream=True)
        except self._httpx.ReadTimeout:
            return Failure.HUNG
        except self._httpx.TransportError:
            return Failure.GATEWAY
        response.close()
        return Failure.GATEWAY if response.status_code in GATEWAY else Failure.NONE

    def close(self) -> None:
        self._client.close()
