"""What has been received and waits for the handlers: bounded, in the order it came; no I/O.

It is filled with all that came with one read of the socket, and emptied by as much, so that an event costs no
synchronisation of its own.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from neurograph_ws_client.events import Gap
from neurograph_ws_client.messages import At
from neurograph_ws_client.subscriptions import Subscription


class Mark(NamedTuple):
    """What comes among the events and is none: the stream moved on without one, or there is a gap, or both.

    `subscription` is None for a gap of a channel that nobody has subscribed to (`personal`, `global`).
    """

    subscription: Subscription | None
    at: At | None
    gap: Gap | None = None


#: An event and its subscription; with None, a mark.
Item = tuple[Subscription | None, Any]


class Inbox:
    """The queue between the reader and the handlers.

    Args:
        max_items: It is full with so many items,
        max_bytes: or with so many bytes of messages.
    """

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._batches: deque[tuple[list[Item], int]] = deque()
        self._items = 0
        self._bytes = 0

    def put(self, items: list[Item], size: int) -> None:
        """Add what came with one read, of `size` bytes; it is taken in, though it may be more than there is room."""
        self._batches.append((items, size))
        self._items += len(items)
        self._bytes += size

    def first(self) -> list[Item] | None:
        """The oldest batch, which stays until it is `done`; None: it is empty."""
        return self._batches[0][0] if self._batches else None

    def done(self) -> None:
        """The oldest batch has been worked on."""
        items, size = self._batches.popleft()
        self._items -= len(items)
        self._bytes -= size

    def clear(self) -> None:
        """Forget all but the batch that is being worked on."""
        while len(self._batches) > 1:
            items, size = self._batches.pop()
            self._items -= len(items)
            self._bytes -= size

    def has_room(self, times: int = 1) -> bool:
        """Whether to read on, with the bounds taken `times`."""
        return self._items < times * self._max_items and self._bytes < times * self._max_bytes

    def __len__(self) -> int:
        return self._items
