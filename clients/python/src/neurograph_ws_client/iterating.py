"""`async for event in client.events(…)`: a handler that keeps events until somebody takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Generic, TypeVar, cast

from neurograph_ws_client.backend import Wake, current
from neurograph_ws_client.inbox import Mark
from neurograph_ws_client.messages import At
from neurograph_ws_client.subscriptions import Subscription

E_co = TypeVar("E_co", covariant=True)

#: More make the handlers wait, and then the socket.
MAX_KEPT: Final = 1_000


class Buffer:
    """The handler: keeps events and marks. What it returns is awaited: room for more."""

    def __init__(self, channel: str, subscription: Callable[[], Subscription | None], *, gaps: bool) -> None:
        self.channel = channel
        self._subscription = subscription
        self._gaps = gaps
        self._items: deque[Any] = deque()
        self._arrived: Wake | None = None
        self._room: Wake | None = None
        #: The one that was taken last is being worked on.
        self._in_hand: Any = None
        #: The position before the first that is not worked on.
        self._behind: At | None = None
        self._ended = False
        self._error: BaseException | None = None

    def __call__(self, item: Any) -> Awaitable[None] | None:
        """Keep an event, or a mark."""
        if self._ended:
            return None
        if not self._items and self._in_hand is None:
            subscription = self._subscription()
            self._behind = None if subscription is None else subscription.done
        self._items.append(item)
        if self._arrived is not None:
            self._arrived.set()
        return self._wait_for_room() if len(self._items) >= MAX_KEPT else None

    async def _wait_for_room(self) -> None:
        self._room = Wake(current())
        while len(self._items) >= MAX_KEPT and not self._ended:
            await self._room.wait()
        self._room = None

    async def take(self) -> Any:
        """The next event or gap; the one before has been worked on.

        Raises:
            StopAsyncIteration: No more will come.
        """
        while True:
            self._finish()
            while not self._items:
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    raise StopAsyncIteration
                if self._arrived is None:
                    self._arrived = Wake(current())
                await self._arrived.wait()
            item = self._in_hand = self._items.popleft()
            if self._room is not None:
                self._room.set()
            if type(item) is not Mark:
                return item
            if self._gaps and item.gap is not None:
                return item.gap

    def _finish(self) -> None:
        item, self._in_hand = self._in_hand, None
        if type(item) is Mark:
            self._behind = item.at or self._behind
        elif item is not None and self._behind is not None and "seq" in item:
            self._behind = At(self._behind.epoch, item["seq"])

    def end(self, error: BaseException | None, *, drop: bool) -> None:
        """No more will come; what is kept may still be taken, unless it is to be dropped."""
        if not self._ended:
            self._ended, self._error = True, error
        if drop:
            self._items.clear()
        for wake in (self._arrived, self._room):
            if wake is not None:
                wake.set()

    @property
    def behind(self) -> At | None:
        """The position of what has been worked on, where that is not all that came; else None."""
        return self._behind if self._items or self._in_hand is not None else None


class EventStream(AsyncIterator[E_co], Generic[E_co]):
    """The events of a subscription, one after the other.

    It ends when it is closed or collected, or a wait for the next event is cancelled, and then unsubscribes; and when
    the client is closed: by `disconnect()` silently, otherwise with a `ClosedError`. An event counts as worked on when
    the next is asked for.

    Args:
        buffer: What it takes from.
        check: Raises where nothing can come.
        leave: Unsubscribes.
    """

    def __init__(self, buffer: Buffer, check: Callable[[], None], leave: Callable[[], None]) -> None:
        self._buffer = buffer
        self._check = check
        self._leave = leave
        self._left = False

    def __aiter__(self) -> EventStream[E_co]:
        return self

    async def __anext__(self) -> E_co:
        """The next one. Cancellation: ends the stream, and unsubscribes.

        Raises:
            StopAsyncIteration: No more will come.
            ClosedError: The client was closed, and not by `disconnect()`.
            RuntimeError: Nothing reads the connection.
        """
        self._check()
        try:
            return cast(E_co, await self._buffer.take())
        except BaseException:
            # Whoever keeps the traceback keeps this stream, and one that is neither read nor closed holds up the rest.
            self.close()
            raise

    def close(self) -> None:
        """End it, and unsubscribe."""
        if not self._left:
            self._left = True
            self._buffer.end(None, drop=True)
            self._leave()

    async def aclose(self) -> None:
        """End it, and unsubscribe: for `contextlib.aclosing`."""
        self.close()

    async def __aenter__(self) -> EventStream[E_co]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
