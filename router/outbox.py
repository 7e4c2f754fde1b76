"""A session's outbox: the events that wait for one client, bounded in events and bytes; no I/O.

Each subscription has a queue of its own. The writer takes from the queues in turn, so a flood on one channel does
not delay another. Where the outbox is full, the queue with the most bytes gives something up, by its own policy, and a
`gap` at its place says what: whatever is missing is announced where it is missing.

Ahead of the queues goes the past that was asked for: slices of a channel's history, bounded by who asks, in their
order. They are references, so they count for no bound here.

What the writer has taken is no longer here and cannot be dropped. If the connection dies first, `give_back`
returns what was not handed whole to the socket.
"""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappush, heapreplace

from router.batches import Batch, Slice
from router.errors import GapReason
from router.policies import Policy
from router.queues import Gap, Queue


class Past:
    """A part of a replay.

    Attributes:
        queue: Of the subscription that it is for; None: a message after a replay.
        entry: Events of the past, a gap, or the message, framed.
        again: Whether the client may have had them: they are not news, and go with the connection.
        news: Of a gap that is only in part news, that part; None: all of it is, or nothing.
    """

    __slots__ = ("again", "entry", "news", "queue")

    def __init__(self, queue: Queue | None, entry: Slice | Gap | bytes, *, again: bool = False) -> None:
        self.queue = queue
        self.entry = entry
        self.again = again
        self.news: Gap | None = None

    def absorb(self, later: Past) -> bool:
        """Take in a gap that follows a gap; False where they do not adjoin."""
        if not (isinstance(self.entry, Gap) and isinstance(later.entry, Gap) and self.queue is later.queue):
            return False
        news = copy.copy(later.entry)
        if not self.entry.absorb(later.entry):
            return False
        if self.again and not later.again:
            self.again, self.news = False, news
        elif self.news is not None:
            self.news.absorb(news)
        return True

    @property
    def events(self) -> int:
        """How many events it is."""
        return len(self.entry) if isinstance(self.entry, Slice) else 0


class Piece:
    """What the writer took: a slice, a gap, or (without a queue) bytes of its own; `sent` bytes of it are out.

    Attributes:
        buffer: The bytes.
        queue: Where it was taken from; None: no queue's.
        entry: What it was there; None: bytes of its own.
        sent: How many bytes are out.
        past: What it was of a replay; None: it is of no replay.
    """

    __slots__ = ("buffer", "entry", "past", "queue", "sent")

    def __init__(
        self,
        buffer: bytes | memoryview,
        queue: Queue | None = None,
        entry: Slice | Gap | None = None,
        sent: int = 0,
        past: Past | None = None,
    ) -> None:
        self.buffer = buffer
        self.queue = queue
        self.entry = entry
        self.sent = sent
        self.past = past

    @property
    def events_left(self) -> int:
        """Events that are not wholly out."""
        if not isinstance(self.entry, Slice):
            return 0
        return self.entry.stop - self._out()

    def _out(self) -> int:
        assert isinstance(self.entry, Slice)
        batch = self.entry.batch
        return bisect_right(batch.ends, batch.offset(self.entry.start) + self.sent)

    def rest(self) -> Slice | Gap | None:
        """What of the entry was not handed whole to the socket; None: nothing."""
        if self.entry is None or self.sent == len(self.buffer):
            return None
        if isinstance(self.entry, Slice) and (out := self._out()) > self.entry.start:
            self.entry.start, self.entry.behind = out, None
        return self.entry

    def rest_of_frame(self) -> bytes:
        """What is missing of a frame that is partly out; empty where `sent` is a frame's end."""
        if not self.sent:
            return b""
        end = len(self.buffer)
        if isinstance(self.entry, Slice):
            batch = self.entry.batch
            base = batch.offset(self.entry.start)
            end = batch.ends[bisect_left(batch.ends, base + self.sent)] - base
        return bytes(self.buffer[self.sent : end])


class Outbox:
    """All queues of one session, under one bound.

    The mutable state is the queues, the past that is to be sent first, their sums, and who waits for room. Sync
    functions change it: the router puts in, the writer takes out.

    Attributes:
        events: Events that wait in queues.
        size: Their bytes.
        dropped: Events lost to the bound, over the session's life.
        max_events: The bound.
        max_bytes: Likewise.
        reason: What a gap says when the bound makes it.
        overflowed: A queue was full whose policy is to disconnect.
        held: Nothing is taken for now: the client is still to say where it goes on.
    """

    __slots__ = (
        "_by_size", "_past", "_ready", "_watchers", "dropped", "events", "held", "max_bytes", "max_events",
        "overflowed", "reason", "size",
    )  # fmt: skip

    def __init__(self, max_events: int, max_bytes: int, reason: GapReason = GapReason.SLOW_CONSUMER) -> None:
        # Queues with entries, in the order of their turns. Few at a time: an empty deque would weigh ten such lists.
        self._ready: list[Queue] = []
        # Either empty or a heap with an entry for each ready queue that is not smaller than the queue: `_largest`.
        self._by_size: list[tuple[int, int, Queue]] = []
        # Made when a client asks for the past.
        self._past: deque[Past] | None = None
        # Likewise, when somebody waits for room.
        self._watchers: list[Callable[[], None]] | None = None
        self.events = 0
        self.size = 0
        self.dropped = 0
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.reason = reason
        self.overflowed = False
        self.held = False

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._ready or self._past) and not self.held

    @property
    def idle(self) -> bool:
        """Whether what comes may be written at once."""
        return not (self._ready or self._past or self.held)

    @property
    def waiting(self) -> int:
        """Events that wait and are news to the client."""
        return self.events + sum(part.events for part in self._past or () if not part.again)

    def has_room(self, events: int, size: int) -> bool:
        """Whether there is room for so many events, of so many bytes; for more than the bound, where nothing waits."""
        return not self.events or (self.events + events <= self.max_events and self.size + size <= self.max_bytes)

    def watch(self, tell: Callable[[], None]) -> None:
        """Have somebody told, once, when there may be more room or nobody need wait for it."""
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(tell)

    def unwatch(self, tell: Callable[[], None]) -> None:
        """Have them not told, if they still were to be."""
        if self._watchers is not None and tell in self._watchers:
            self._watchers.remove(tell)

    def stir(self) -> None:
        """Tell those who wait for room to look again."""
        if self._watchers is not None:
            watchers, self._watchers = self._watchers, None
            for tell in watchers:
                tell()

    def put(self, queue: Queue, batch: Batch) -> None:
        """Queue a batch at the end of its channel; over the bound, the largest queue gives something up."""
        events, size, waits = queue.events, queue.size, bool(queue.entries)
        queue.append(batch)  # before anything is changed here: it may raise
        if not waits:
            self._ready.append(queue)
        self.events += queue.events - events
        self.size += queue.size - size
        if self._by_size:
            heappush(self._by_size, (-queue.size, id(queue), queue))
        if self.events > self.max_events or self.size > self.max_bytes:
            self._keep_bound()

    def put_gap(self, queue: Queue, gap: Gap) -> None:
        """Announce at the end of a channel's queue that events are missing there."""
        if not queue.entries:
            self._ready.append(queue)
        queue.announce(len(queue.entries), gap)

    def replay(self, parts: Iterable[Past]) -> None:
        """Send the past before all that waits, after what was already asked for."""
        if self._past is None:
            self._past = deque()
        for part in parts:
            if part.again and part.queue is not None:
                part.queue.resent += part.events
            if not (self._past and self._past[-1].absorb(part)):
                self._past.append(part)

    def take_all(self, queue: Queue) -> list[Slice | Gap]:
        """Empty a queue, to send what waits there otherwise. Returns that."""
        if not queue.entries:
            return []
        self._by_size.clear()
        self._ready.remove(queue)
        self.events -= queue.events
        self.size -= queue.size
        queue.compact()
        entries = list(queue.entries)
        queue.clear()
        self.stir()
        return entries

    def limit(self, max_events: int, max_bytes: int, reason: GapReason) -> None:
        """Set another bound, as when a session loses or finds its connection, and enforce it."""
        self.max_events, self.max_bytes, self.reason = max_events, max_bytes, reason
        self._keep_bound()
        self.overflowed = False

    def take(self, max_bytes: int) -> list[Piece]:
        """Take what is written next, the past first, the queues in turn, up to `max_bytes` or a little more."""
        pieces: list[Piece] = []
        taken = 0
        if self.held:
            return pieces
        self._by_size.clear()
        while self._past and taken < max_bytes:
            part = self._past.popleft()
            self._join(part)
            if isinstance(part.entry, bytes):
                piece = Piece(part.entry, past=part)
            else:
                piece = Piece(_bytes_of(part.entry), part.queue, part.entry, past=part)
            pieces.append(piece)
            taken += len(piece.buffer)
        if not self._past:
            self._past = None
        while self._ready and taken < max_bytes:
            queue = self._ready.pop(0)
            entry = queue.take()
            if queue.first() is not None:
                self._ready.append(queue)
            buffer = _bytes_of(entry)
            if isinstance(entry, Slice):
                self.events -= len(entry)
                self.size -= len(buffer)
            pieces.append(Piece(buffer, queue, entry))
            taken += len(buffer)
        if self._watchers is not None:
            self.stir()
        return pieces

    def _join(self, part: Past) -> None:
        """Have a gap that ends a subscription's past be one with the gap that its queue begins with."""
        queue = part.queue
        front = None if queue is None or not isinstance(part.entry, Gap) else queue.first()
        if queue is None or not isinstance(front, Gap):
            return
        if not any(later.queue in (queue, None) for later in self._past or ()) and part.absorb(Past(queue, front)):
            queue.entries.popleft()
            if queue.first() is None:
                self._ready.remove(queue)

    def give_back(self, pieces: Iterable[Piece]) -> None:
        """Return to the front what of `pieces` was not handed whole to the socket, for the next connection.

        What is left of a replay is news to the client, and goes back to its queue, or may have come before, and is
        forgotten: the client says anew what it wants.
        """
        self._by_size.clear()
        left = list(pieces)
        for part in self._past or ():
            if not isinstance(part.entry, bytes):
                left.append(Piece(_bytes_of(part.entry), part.queue, part.entry, past=part))
        self._past = None
        for piece in reversed(left):
            queue, rest = piece.queue, piece.rest()
            if queue is None or rest is None or queue.discarded:
                continue
            if piece.past is not None and piece.past.news is not None:
                rest = piece.past.news
            if piece.past is not None and piece.past.again:
                queue.resent -= len(rest) if isinstance(rest, Slice) else 0
                continue
            if not queue.entries:
                self._ready.insert(0, queue)
            events, size = queue.events, queue.size
            queue.give_back(rest)
            self.events += queue.events - events
            self.size += queue.size - size
        self._keep_bound()

    def discard(self, queue: Queue) -> int:
        """Forget a queue for good, as when its subscription ends: what waits in it, and what might be given back.

        Returns:
            How many events waited.
        """
        events, again = self.waiting_for(queue)
        queue.resent -= again
        queue.discarded = True
        self._past = None if self._past is None else deque(part for part in self._past if part.queue is not queue)
        if queue.entries:
            self._ready.remove(queue)
            self.events -= queue.events
            self.size -= queue.size
            queue.clear()
        self.stir()
        return events

    def waiting_for(self, queue: Queue) -> tuple[int, int]:
        """Events that wait for a subscription: those that are news to its client, and those that are sent again."""
        news, again = queue.events, 0
        if self._past is not None:
            for part in self._past:
                if part.queue is queue:
                    if part.again:
                        again += part.events
                    else:
                        news += part.events
        return news, again

    def entries_of(self, queue: Queue) -> Iterator[Slice | Gap]:
        """What waits for a subscription, in order."""
        for part in self._past or ():
            if part.queue is queue and not isinstance(part.entry, bytes):
                yield part.entry
        yield from queue.entries

    def holds(self, queue: Queue) -> bool:
        """Whether anything waits for a subscription, gaps among it."""
        return bool(queue.entries) or any(part.queue is queue for part in self._past or ())

    def _keep_bound(self) -> None:
        while self.events > self.max_events or self.size > self.max_bytes:
            queue = self._largest()
            if queue.policy is Policy.DISCONNECT:
                self.overflowed = True
            size = queue.size
            lost = queue.give_up(self.events - self.max_events, self.size - self.max_bytes, self.reason)
            self.events -= lost
            self.size -= size - queue.size
            self.dropped += lost

    def _largest(self) -> Queue:
        """The queue with the most bytes. A stuck client may have a thousand, and each of its events asks anew."""
        heap = self._by_size
        if not heap or len(heap) > 4 * len(self._ready) + 64:
            heap[:] = [(-queue.size, id(queue), queue) for queue in self._ready]
            heapify(heap)
        size, _, queue = heap[0]
        while queue.size != -size:  # it was larger then
            heapreplace(heap, (-queue.size, id(queue), queue))
            size, _, queue = heap[0]
        return queue


def _bytes_of(entry: Slice | Gap) -> bytes | memoryview:
    return entry.frame() if isinstance(entry, Gap) else entry.buffer
