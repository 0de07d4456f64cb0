"""Requests through nginx, as a client would make them: what the watch asks on a quiet site."""

import time
from typing import TYPE_CHECKING

from upswitch.basics.errors import HostError
from upswitch.basics.result import Failure, is_own_limit
from upswitch.basics.text import plain
from upswitch.hosts.host import Asked, Asking, Host
from upswitch.logs.line import GOOD

if TYPE_CHECKING:
    import httpx

_TIMEOUT = 2.0
_MOST = 1 << 16  # bytes of an answer
_HEADERS = {"Connection": "close", "User-Agent": "upswitch-watch"}


class ThroughProbe:
    """Requests one URL from where the host stands, over a new connection each time.

    It follows no redirect, uses no proxy of the environment, keeps no cookie and accepts any certificate: it asks our own nginx.
    """

    def __init__(self, asking: Asking, host: Host) -> None:
        import httpx  # noqa: PLC0415  (120 ms, and only a site that names a probe needs it)

        from upswitch.hosts.http import HostTransport  # noqa: PLC0415  (as above)

        self._httpx = httpx
        headers = _HEADERS | ({"Host": asking.name} if asking.name else {})
        self._client = httpx.Client(transport=HostTransport(host), timeout=_TIMEOUT, headers=headers, trust_env=False)
        extensions = {"sni_hostname": asking.name} if asking.name else {}
        try:  # made once: so no cookie of an answer is sent
            self._request = self._client.build_request("GET", asking.url, extensions=extensions)
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise HostError(f"use watch.probe {asking.shown}", "it is no URL") from exc

    def ask(self) -> Asked:
        """Make one request and judge it, in the terms of the watch rule. No answer is nginx's own failure: GATEWAY.

        HostError where the host itself is lost, or a limit of our own is reached: that says nothing of nginx.
        """
        try:
            response = self._client.send(self._request, stream=True)
        except self._httpx.ReadTimeout:
            return Asked(failure=Failure.HUNG, said=f"no answer within {_TIMEOUT:g} s")
        except self._httpx.TransportError as exc:
            if is_own_limit(exc.__cause__):
                raise HostError("make a request of our own", str(exc)) from exc
            return Asked(failure=Failure.GATEWAY, said=f"no answer ({plain(str(exc)) or type(exc).__name__})")
        is_cut = self._is_cut(response)
        response.close()
        if response.status_code not in GOOD:
            return Asked(failure=Failure.GATEWAY, said=f"status {response.status_code}", status=response.status_code)
        failure, said = (Failure.APP, "the answer broke off") if is_cut else (Failure.NONE, "")
        return Asked(failure=failure, said=said, status=response.status_code)

    def _is_cut(self, response: "httpx.Response") -> bool:
        """Whether the answer breaks off. nginx logs such an answer as complete, so only who reads it knows.

        It is read as far as it comes within the time of one request.
        """
        until, size = time.monotonic() + _TIMEOUT, 0
        try:
            for part in response.iter_raw():
                size += len(part)
                if size > _MOST or time.monotonic() > until:
                    return False
        except self._httpx.TimeoutException:
            return False
        except self._httpx.TransportError:
            return True
        return False

    def close(self) -> None:
        self._client.close()
