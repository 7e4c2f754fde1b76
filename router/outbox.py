"""A session's outbox: the events that wait for one client, bounded in events and bytes; no I/O.

Each subscription has a queue of its own. The writer takes from the queues in turn, so a flood on one channel does
not delay another. Where the outbox is full, the queue with the most bytes loses its oldest events, and a `gap` at
their place says which: whatever is missing is announced where it is missing.

What the writer has taken is no longer here and cannot be dropped. If the connection dies first, `give_back`
returns what was not handed whole to the socket.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heapify, heappush, heapreplace

import msgspec

from router.errors import GapReason
from router.frames import text_frame

_encode = msgspec.json.encode


class Batch:
    """Frames of consecutive events, joined once and shared by all their readers; immutable.

    Attributes:
        buffer: The frames, joined.
        ends: Where in `buffer` each frame ends.
        first_seq: Of the first event; the others follow without holes. None: events without a position.
        epoch: Of the positions.
    """

    __slots__ = ("buffer", "ends", "epoch", "first_seq")

    def __init__(self, buffer: bytes, ends: Sequence[int], first_seq: int | None, epoch: str) -> None:
        self.buffer = buffer
        self.ends = tuple(ends)
        self.first_seq = first_seq
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.ends)

    def offset(self, index: int) -> int:
        """Where in the buffer frame `index` begins."""
        return self.ends[index - 1] if index else 0


class Slice:
    """The frames `start` to `stop` of a batch, as one queue has them."""

    __slots__ = ("batch", "start", "stop")

    def __init__(self, batch: Batch, start: int, stop: int) -> None:
        self.batch = batch
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def size(self) -> int:
        """Bytes."""
        return self.batch.offset(self.stop) - self.batch.offset(self.start)

    @property
    def buffer(self) -> memoryview:
        """The bytes of its frames, not copied."""
        return memoryview(self.batch.buffer)[self.batch.offset(self.start) : self.batch.offset(self.stop)]

    def seq(self, index: int) -> int | None:
        """The seq of the batch's frame `index`."""
        return None if self.batch.first_seq is None else self.batch.first_seq + index


class Gap(msgspec.Struct, tag_field="type", tag="gap"):
    """Events that are missing from a queue at this place, as the wire says it."""

    of: str
    epoch: str
    first: int | None = msgspec.field(name="from")
    last: int | None = msgspec.field(name="to")
    count: int | None
    reason: GapReason

    def frame(self) -> bytes:
        """The message, framed."""
        return text_frame(_encode(self))

    def absorb(self, later: Gap) -> bool:
        """Take in the gap that follows, and its reason; False where they do not adjoin, or how many is not known."""
        if self.epoch != later.epoch or self.count is None or later.count is None:
            return False
        if self.last is not None and later.first != self.last + 1:
            return False
        self.last, self.reason = later.last, later.reason
        self.count += later.count
        return True


class Queue:
    """What waits for one client on one channel, in order: slices of batches, and gaps at their place.

    The mutable state is changed by its `Outbox` alone.
    """

    __slots__ = ("channel", "discarded", "entries", "events", "size")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.entries: deque[Slice | Gap] = deque()
        self.events = 0
        self.size = 0
        #: Its subscription has ended: what the writer has taken of it does not come back.
        self.discarded = False

    def announce(self, at: int, gap: Gap) -> None:
        """Put a gap at its place, as one with those that it adjoins."""
        entries = self.entries
        before = entries[at - 1] if at else None
        if isinstance(before, Gap) and before.absorb(gap):
            at, gap = at - 1, before
        else:
            entries.insert(at, gap)
        after = entries[at + 1] if at + 1 < len(entries) else None
        if isinstance(after, Gap) and gap.absorb(after):
            del entries[at + 1]


class Piece:
    """What the writer took: a slice, a gap, or (without a queue) bytes of its own; `sent` bytes of it are out."""

    __slots__ = ("buffer", "entry", "queue", "sent")

    def __init__(
        self, buffer: bytes | memoryview, queue: Queue | None = None, entry: Slice | Gap | None = None, sent: int = 0
    ) -> None:
        self.buffer = buffer
        self.queue = queue
        self.entry = entry
        self.sent = sent

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

    The mutable state is the queues and their sums. Sync functions change it: the router puts in, the writer takes
    out.
    """

    __slots__ = ("_by_size", "_ready", "dropped", "events", "max_bytes", "max_events", "reason", "size")

    def __init__(self, max_events: int, max_bytes: int, reason: GapReason = GapReason.SLOW_CONSUMER) -> None:
        # Queues with entries, in the order of their turns. Few at a time: an empty deque would weigh ten such lists.
        self._ready: list[Queue] = []
        # Either empty or a heap with an entry for each ready queue that is not smaller than the queue: `_largest`.
        self._by_size: list[tuple[int, int, Queue]] = []
        self.events = 0
        self.size = 0
        #: Events lost to the bound, over the session's life.
        self.dropped = 0
        self.max_events = max_events
        self.max_bytes = max_bytes
        #: What a gap says when the bound makes it.
        self.reason = reason

    def __bool__(self) -> bool:
        return bool(self._ready)

    def put(self, queue: Queue, batch: Batch) -> None:
        """Queue a batch at the end of its channel; over the bound, the oldest of the largest queue go."""
        if not queue.entries:
            self._ready.append(queue)
        entry = Slice(batch, 0, len(batch))
        queue.entries.append(entry)
        self._count(queue, len(entry), entry.size)
        if self._by_size:
            heappush(self._by_size, (-queue.size, id(queue), queue))
        if self.events > self.max_events or self.size > self.max_bytes:
            self._keep_bound()

    def put_gap(self, queue: Queue, gap: Gap) -> None:
        """Announce at the end of a channel's queue that events are missing there."""
        if not queue.entries:
            self._ready.append(queue)
        queue.announce(len(queue.entries), gap)

    def limit(self, max_events: int, max_bytes: int, reason: GapReason) -> None:
        """Set another bound, as when a session loses or finds its connection, and enforce it."""
        self.max_events, self.max_bytes, self.reason = max_events, max_bytes, reason
        self._keep_bound()

    def take(self, max_bytes: int) -> list[Piece]:
        """Take what is written next, the queues in turn, until `max_bytes` is reached (always one entry)."""
        pieces: list[Piece] = []
        taken = 0
        self._by_size.clear()
        while self._ready and taken < max_bytes:
            queue = self._ready.pop(0)
            entry = queue.entries.popleft()
            buffer = entry.frame() if isinstance(entry, Gap) else entry.buffer
            if isinstance(entry, Slice):
                self._count(queue, -len(entry), -len(buffer))
            if queue.entries:
                self._ready.append(queue)
            pieces.append(Piece(buffer, queue, entry))
            taken += len(buffer)
        return pieces

    def give_back(self, pieces: Iterable[Piece]) -> None:
        """Return to the front of their queues what of `pieces` was not handed whole to the socket."""
        self._by_size.clear()
        for piece in reversed(list(pieces)):
            queue, entry = piece.queue, piece.entry
            if queue is None or queue.discarded or entry is None or piece.sent == len(piece.buffer):
                continue
            if not queue.entries:
                self._ready.insert(0, queue)
            if isinstance(entry, Gap):
                queue.announce(0, entry)
                continue
            entry.start = bisect_right(entry.batch.ends, entry.batch.offset(entry.start) + piece.sent)
            self._count(queue, len(entry), entry.size)
            queue.entries.appendleft(entry)
        self._keep_bound()

    def discard(self, queue: Queue) -> int:
        """Forget a queue for good, as when its subscription ends: what waits in it, and what might be given back.

        Returns:
            How many events waited.
        """
        events = queue.events
        queue.discarded = True
        if queue.entries:
            self._ready.remove(queue)
            self._count(queue, -queue.events, -queue.size)
            queue.entries.clear()
        return events

    def _count(self, queue: Queue, events: int, size: int) -> None:
        queue.events += events
        queue.size += size
        self.events += events
        self.size += size

    def _keep_bound(self) -> None:
        while self.events > self.max_events or self.size > self.max_bytes:
            self._drop_oldest(self._largest())

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

    def _drop_oldest(self, queue: Queue) -> None:
        """Drop from the oldest slice of `queue` what the bound asks for, and say so in a gap before the rest."""
        at = 0
        while isinstance(oldest := queue.entries[at], Gap):
            at += 1
        batch, start = oldest.batch, oldest.start
        by_size = bisect_left(batch.ends, batch.offset(start) + self.size - self.max_bytes) + 1
        stop = min(oldest.stop, max(by_size, start + self.events - self.max_events))
        events = stop - start
        self._count(queue, -events, batch.offset(start) - batch.offset(stop))
        self.dropped += events
        oldest.start = stop
        if stop == oldest.stop:
            del queue.entries[at]
        first, last = oldest.seq(start), oldest.seq(stop - 1)
        queue.announce(at, Gap(queue.channel, batch.epoch, first, last, events, self.reason))
