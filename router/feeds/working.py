"""How a feed works: it does one thing over and over beside its mailbox, which only tells it when to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from actors import Mailbox


async def work_until_end(work: Callable[[], Awaitable[None]], mailbox: Mailbox[None]) -> None:
    """Run `work`, which never returns, until the mailbox ends; then cancel it. Cancellation: likewise."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        async for _ in mailbox:
            pass
        nursery.cancel_scope.cancel()
