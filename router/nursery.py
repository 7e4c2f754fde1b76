"""A nursery that does not wrap what its own block raises in a group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def bare_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery for tasks that help the block, and end with it.

    Raises:
        Exception: What the block raised, as it was.
        ExceptionGroup: What a task raised.

    Cancellation: the block and the tasks are cancelled.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # raised below, where no nursery wraps it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
