"""The option `block` of a channel: its publishers wait until all its subscribers have room.

Before an event gets its seq, the task that reads it from its publisher waits, never the router: as long as it waits it
reads no more, and the publisher feels it. There is room where the outbox of each connected subscriber could take the
events. Without a connection nothing empties an outbox, so such a session is not waited for.

What was seen free is free no more once somebody else has published. So the publishers of a channel take turns: one's
turn lasts from its first look until its letter is on its way, and the next one looks when the router has fanned that
out. What the server itself and its host publish waits for nobody, and is seen once it lies in the outboxes.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TypeVar, cast

import trio

from router.channels import Channels
from router.letters import Events, Item
from router.outbox import Outbox
from router.protocol import EventIn
from router.subscriptions import Subscriptions

T = TypeVar("T", bound=Item)

#: Hands items to the router. It sets the event, if there is one, once those who listen have got them.
Send = Callable[[list[T], trio.Event | None], Awaitable[None]]

#: Of an event's frame, for all but the data and the names of channel and type: at most.
_AROUND_BYTES = 128


class Patience:
    """How long a publisher waits: anew for each publish, and not at all once it has waited in vain.

    So what came with a publish in one read follows it at once, and the reading goes on. The mutable state is that, and
    the wait that goes on; the publisher's task and whoever ends its connection change it.

    Attributes:
        spent: Nothing is waited for any more.
    """

    __slots__ = ("_scope", "spent")

    def __init__(self, *, spent: bool = False) -> None:
        self.spent = spent
        self._scope: trio.CancelScope | None = None

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Let what is waited for in this context take so long, or until `end`; else that was in vain."""
        with trio.CancelScope(deadline=trio.current_time() + seconds) as self._scope:
            yield
        self.spent = self.spent or self._scope.cancelled_caught

    def end(self) -> None:
        """Stop waiting."""
        self.spent = True
        if self._scope is not None:
            self._scope.cancel()


class Load:
    """Events for one channel, handed on in parts. The mutable state is what is left of them.

    A publish is not divided: its events get consecutive seqs, and one answer.
    """

    def __init__(self, items: Iterable[Events]) -> None:
        self._left = deque(items)

    def __bool__(self) -> bool:
        return bool(self._left)

    @property
    def first(self) -> tuple[int, int]:
        """Events and bytes of the first publish."""
        return next(_publishes(self._left[0]))

    def take_all(self) -> list[Events]:
        """Take what is left."""
        part = list(self._left)
        self._left.clear()
        return part

    def take(self, events: int, size: int) -> list[Events]:
        """Take the first publish, and as many of those after it as fit into so many events and bytes."""
        part: list[Events] = []
        while self._left:
            item = self._left[0]
            taken = 0
            for its_events, its_size in _publishes(item):
                events, size = events - its_events, size - its_size
                if (events < 0 or size < 0) and (part or taken):
                    break
                taken += its_events
            if taken < len(item.events):
                if taken:
                    part.append(replace(item, events=item.events[:taken]))
                    self._left[0] = replace(item, events=item.events[taken:])
                break
            part.append(self._left.popleft())
        return part


def _publishes(item: Events) -> Iterator[tuple[int, int]]:
    """Events and bytes of each publish in an item: of several events there is one, before the single ones."""
    around = _AROUND_BYTES + len(item.channel)
    together = together_bytes = 0
    for event in item.events:
        size = around + len(str(event.event_type)) + len(memoryview(event.data))
        if isinstance(event, EventIn):
            together, together_bytes = together + 1, together_bytes + size
            continue
        if together:
            yield together, together_bytes
            together = 0
        yield 1, size
    if together:
        yield together, together_bytes


class Turns:
    """The publishers of one channel, one at a time. The mutable state is the lock, which is fair, and the last letter.

    Attributes:
        lock: Held from the first look for room until the letter is on its way.
        fanned_out: Of the last letter; set by the router.
    """

    __slots__ = ("fanned_out", "lock")

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.fanned_out = trio.Event()
        self.fanned_out.set()


class Blocking:
    """The publishers that wait, by channel. The mutable state is their turns; the tasks of publishers change it."""

    def __init__(self, channels: Channels, subscriptions: Subscriptions) -> None:
        self._channels = channels
        self._subscriptions = subscriptions
        self._turns: dict[str, Turns] = {}

    async def hand_on(self, items: Iterable[T], send: Send[T], patience: Patience) -> None:
        """Hand items on in order, those of channels that block in parts for which there is room.

        Args:
            items: What one publisher has to say.
            send: Called for each part.
            patience: The publisher's.

        Cancellation: what has not been handed on is lost.
        """
        others: list[T] = []
        for channel, group in groupby(items, self._blocks):
            if channel is None:
                others += group
                continue
            if others:
                await send(others, None)
                others = []
            load = Load(cast("list[Events]", list(group)))
            while load:
                await self._hand_on_part(channel, load, send, patience)
        if others:
            await send(others, None)

    def forget(self, channel: str) -> None:
        """Let go of a channel that nobody uses."""
        self._turns.pop(channel, None)

    def _blocks(self, item: Item) -> str | None:
        """The channel of events whose publisher waits."""
        return item.channel if isinstance(item, Events) and self._timeout_s(item.channel) else None

    def _timeout_s(self, channel: str) -> float:
        spec = self._channels.find(channel)
        return spec.settings.block_timeout_ms / 1000 if spec is not None and spec.settings.block else 0

    async def _hand_on_part(self, channel: str, load: Load, send: Send[T], patience: Patience) -> None:
        """Wait for room, and hand on what there is room for; all, where nobody listens or the wait was in vain."""
        if not self._subscriptions.is_read(channel):
            await send(cast("list[T]", load.take_all()), None)
            return
        turns = self._turns.setdefault(channel, Turns())
        has_turn, part = False, []
        try:
            if not patience.spent:
                with patience.within(self._timeout_s(channel)):
                    await turns.lock.acquire()
                    has_turn = True
                    part = load.take(*await self._until_room(channel, turns, *load.first))
            part = part or load.take_all()
            turns.fanned_out = trio.Event()
            await send(cast("list[T]", part), turns.fanned_out)
        finally:
            if has_turn:
                turns.lock.release()

    async def _until_room(self, channel: str, turns: Turns, events: int, size: int) -> tuple[int, int]:
        """Wait until so many events, of so many bytes, have room with all. Returns how many, of how many bytes, have.

        Cancellation: safe.
        """
        while True:
            while not turns.fanned_out.is_set():
                await turns.fanned_out.wait()
            room = self._look(channel, events, size)
            if not isinstance(room, Outbox):
                return room
            look_again = trio.Event()
            room.watch(look_again.set)
            try:
                await look_again.wait()
            finally:
                room.unwatch(look_again.set)

    def _look(self, channel: str, events: int, size: int) -> Outbox | tuple[int, int]:
        """An outbox that has no room for so much; or how many events, of how many bytes, all have room for."""
        free_events = free_bytes = sys.maxsize
        for reader in self._subscriptions.readers(channel):
            outbox = reader.outlet.draining
            if outbox is None:
                continue
            if not outbox.has_room(events, size):
                return outbox
            free_events = min(free_events, outbox.max_events - outbox.events)
            free_bytes = min(free_bytes, outbox.max_bytes - outbox.size)
        return free_events, free_bytes
