"""A witness: two clients that go on publishing and hearing, all the while others misbehave."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.e2e.clients import Client, connected

_PACE_S = 0.005


class Witness:
    """What was published and heard so far: the numbers from 1 to `heard`."""

    def __init__(self) -> None:
        self.heard = 0
        self._hears = trio.Event()

    def hear(self, number: int) -> None:
        assert number == self.heard + 1, f"heard {number} after {self.heard}"
        self.heard = number
        self._hears.set()
        self._hears = trio.Event()

    async def hears_more(self, events: int = 3) -> None:
        """Wait until some more have come."""
        enough = self.heard + events
        while self.heard < enough:
            await self._hears.wait()


@asynccontextmanager
async def witness(port: int, query: str = "", channel: str = "signals") -> AsyncIterator[Witness]:
    """Numbered events are published and heard, one by one and without a hole, till the context ends and beyond."""
    async with connected(port, query) as publisher, connected(port, query) as listener, trio.open_nursery() as nursery:
        await listener.subscribe(channel)
        one = Witness()
        nursery.start_soon(_go_on, one, publisher, listener, channel)
        await one.hears_more()
        yield one
        await one.hears_more()
        nursery.cancel_scope.cancel()


async def _go_on(one: Witness, publisher: Client, listener: Client, channel: str) -> None:
    while True:
        await publisher.publish({"witness": one.heard + 1}, channel)
        while True:
            event = await listener.hear(channel=channel)
            if "witness" in event["data"]:
                break
        one.hear(event["data"]["witness"])
        await trio.sleep(_PACE_S)
