"""How many requests an address may make a second (ASGI), and what is kept for each caller to tell."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Generic, TypeVar

from router.limits import Bucket, Rate
from router.rest.asgi import App, Receive, Scope, Send, refuse
from router.rest.problems import ProblemError

T = TypeVar("T")

#: Whoever watches the server asks these as often as it likes.
_EXEMPT = frozenset({"/healthz", "/readyz"})
#: Callers whose buckets are kept. One that has gone had rested longest, so its bucket was the nearest to full.
MAX_CALLERS = 10_000


class Callers(Generic[T]):
    """What is kept for each caller, made when it first comes; the least recent one makes room for a new one.

    The mutable state is that, the last used at the end.
    """

    def __init__(self, make: Callable[[], T], max_callers: int = MAX_CALLERS) -> None:
        self._make = make
        self._max_callers = max_callers
        self._kept: dict[str, T] = {}

    def __getitem__(self, caller: str) -> T:
        kept = self._kept.pop(caller, None) or self._make()
        self._kept[caller] = kept
        if len(self._kept) > self._max_callers:
            del self._kept[next(iter(self._kept))]
        return kept


class RateLimit:
    """Passes requests on to the app as long as there are tokens in their address's bucket.

    The mutable state is the buckets.
    """

    def __init__(self, app: App, rate: Rate, now: Callable[[], float], max_addresses: int = MAX_CALLERS) -> None:
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
        self._buckets = Callers(lambda: Bucket(rate, now()), max_addresses)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        wait_s = 0.0 if scope["path"] in _EXEMPT else self._buckets[address_of(scope)].take(self._now())
        if wait_s:
            detail = f"more than {self._rate.per_s:g} requests a second from this address, try again in {wait_s} s"
            await refuse(send, ProblemError(HTTPStatus.TOO_MANY_REQUESTS, detail, retry_after=wait_s))
        else:
            await self._app(scope, receive, send)


def address_of(scope: Scope) -> str:
    """Where a request comes from."""
    return str(scope["client"][0]) if scope["client"] else ""
