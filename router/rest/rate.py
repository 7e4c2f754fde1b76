"""How many requests an address may make a second (ASGI)."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from router.limits import Bucket, Rate
from router.rest.asgi import App, Receive, Scope, Send, refuse
from router.rest.problems import ProblemError

#: Whoever watches the server asks these as often as it likes.
_EXEMPT = frozenset({"/healthz", "/readyz"})
#: Addresses whose buckets are kept. One that has gone had rested longest, so its bucket was the nearest to full.
MAX_ADDRESSES = 10_000


class RateLimit:
    """Passes requests on to the app as long as there are tokens in their address's bucket.

    The mutable state is the buckets, the last used at the end.
    """

    def __init__(self, app: App, rate: Rate, now: Callable[[], float], max_addresses: int = MAX_ADDRESSES) -> None:
        """Make a limit.

        Args:
            app: What is limited.
            rate: Requests of one address.
            now: Seconds on a monotonic clock.
            max_addresses: How many buckets are kept.
        """
        self._app = app
        self._rate = rate
        self._now = now
        self._max_addresses = max_addresses
        self._buckets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        wait_s = 0.0 if scope["path"] in _EXEMPT else self._take(scope["client"][0] if scope["client"] else "")
        if wait_s:
            detail = f"more than {self._rate.per_s:g} requests a second from this address, try again in {wait_s} s"
            await refuse(send, ProblemError(HTTPStatus.TOO_MANY_REQUESTS, detail, retry_after=wait_s))
        else:
            await self._app(scope, receive, send)

    def _take(self, address: str) -> float:
        now = self._now()
        bucket = self._buckets.pop(address, None) or Bucket(self._rate, now)
        self._buckets[address] = bucket
        if len(self._buckets) > self._max_addresses:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now)
