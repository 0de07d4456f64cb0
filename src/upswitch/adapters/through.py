"""Requests through nginx, as a client would make them: what the watch asks on a quiet site."""

from upswitch.core.errors import HostError
from upswitch.core.rule import Failure

_TIMEOUT = 2.0


class ThroughProbe:
    """One URL, asked anew each time. No redirects, no proxy of the environment, no certificate names: it asks our own nginx."""

    def __init__(self, url: str) -> None:
        import httpx  # noqa: PLC0415  (120 ms, and only a site that names a probe needs it)

        try:
            self._url = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise HostError(f"use watch.probe {url}", str(exc)) from exc
        self._httpx = httpx
        self._client = httpx.Client(
            trust_env=False,
            follow_redirects=False,
            timeout=_TIMEOUT,
            verify=False,  # noqa: S501  (the site's certificate names the site, not the loopback address that is asked)
            headers={"Connection": "close", "User-Agent": "upswitch-watch"},
        )

    def ask(self) -> Failure:
        """How one request fared, in the words of the watch rule. No answer at all is nginx's own failure: GATEWAY."""
        try:
            with self._client.stream("GET", self._url) as response:
                return Failure.GATEWAY if response.status_code in {502, 503, 504} else Failure.NONE
        except self._httpx.ReadTimeout:
            return Failure.HUNG
        except self._httpx.HTTPError:
            return Failure.GATEWAY

    def close(self) -> None:
        self._client.close()
