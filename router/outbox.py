"""A session's outbox: the events that wait for one client, bounded in events and bytes; no I/O.

Each subscription has a queue of its own. The writer takes from the queues in turn, so a flood on one channel does
not delay another. Where the outbox is full, the queue with the most bytes loses its oldest events, and a `gap` at
their place says which: whatever is missing is announced where it is missing.

What the writer has taken is no longer here and cannot be dropped. If the connection dies first, `give_back`
returns what was not handed whole to the socket.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence

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

    def extend(self, first: int | None, last: int | None, count: int, epoch: str, reason: GapReason) -> bool:
        """Take in events that adjoin; False where they do not, or were lost for another reason."""
        if self.reason is not reason or self.epoch != epoch or self.count is None:
            return False
        if self.last is not None:
            if first != self.last + 1:
                return False
            self.last = last
        self.count += count
        return True


class Queue:
    """What waits for one client on one channel, in order: slices of batches, and gaps at their place.

    The mutable state is changed by its `Outbox` alone.
    """

    __slots__ = ("channel", "entries", "events", "size")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.entries: deque[Slice | Gap] = deque()
        self.events = 0
        self.size = 0

    def first_waiting_seq(self) -> int | None:
        """The seq of the first event that waits or is announced as missing; None where nothing waits."""
        for entry in self.entries:
            return entry.first if isinstance(entry, Gap) else entry.seq(entry.start)
        return None


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
        end = len(self.buffer)
        if isinstance(self.entry, Slice):
            ends, base = self.entry.batch.ends, self.entry.batch.offset(self.entry.start)
            before = base + self.sent
            at = bisect_right(ends, before)
            end = self.sent if before == self.entry.batch.offset(at) else ends[at] - base
        return bytes(self.buffer[self.sent : end]) if self.sent else b""


class Outbox:
    """All queues of one session, under one bound.

    The mutable state is the queues and their sums. Sync functions change it: the router puts in, the writer takes
    out.
    """

    __slots__ = ("_ready", "dropped", "events", "max_bytes", "max_events", "reason", "size")

    def __init__(self, max_events: int, max_bytes: int, reason: GapReason = GapReason.SLOW_CONSUMER) -> None:
        # Queues with entries, in the order of their turns. Few at a time: an empty deque would weigh ten such lists.
        self._ready: list[Queue] = []
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
        self._append(queue, Slice(batch, 0, len(batch)))
        if self.events > self.max_events or self.size > self.max_bytes:
            self._enforce_bound()

    def put_gap(self, queue: Queue, gap: Gap) -> None:
        """Announce at the end of a channel's queue that events are missing there."""
        self._append(queue, gap)

    def limit(self, max_events: int, max_bytes: int, reason: GapReason) -> None:
        """Set another bound, as when a session loses or finds its connection, and enforce it."""
        self.max_events, self.max_bytes, self.reason = max_events, max_bytes, reason
        self._enforce_bound()

    def take(self, max_bytes: int) -> list[Piece]:
        """Take what is written next, the queues in turn, until `max_bytes` is reached (always one entry)."""
        pieces: list[Piece] = []
        taken = 0
        while self._ready and taken < max_bytes:
            queue = self._ready.pop(0)
            entry = queue.entries.popleft()
            if isinstance(entry, Gap):
                pieces.append(Piece(entry.frame(), queue, entry))
            else:
                pieces.append(Piece(entry.buffer, queue, entry))
                self._count(queue, -len(entry), -entry.size)
            if queue.entries:
                self._ready.append(queue)
            taken += len(pieces[-1].buffer)
        return pieces

    def give_back(self, pieces: Iterable[Piece]) -> None:
        """Return to the front of their queues what of `pieces` was not handed whole to the socket."""
        for piece in reversed(list(pieces)):
            queue, entry = piece.queue, piece.entry
            if queue is None or entry is None or piece.sent == len(piece.buffer):
                continue
            if isinstance(entry, Slice):
                base = entry.batch.offset(entry.start)
                entry.start = bisect_right(entry.batch.ends, base + piece.sent)
                self._count(queue, len(entry), entry.size)
            if not queue.entries:
                self._ready.append(queue)
            queue.entries.appendleft(entry)

    def discard(self, queue: Queue) -> int:
        """Forget all that waits in a queue, as when its subscription ends.

        Returns:
            How many events that were.
        """
        events = queue.events
        if queue.entries:
            self._ready.remove(queue)
            self._count(queue, -queue.events, -queue.size)
            queue.entries.clear()
        return events

    def _append(self, queue: Queue, entry: Slice | Gap) -> None:
        if not queue.entries:
            self._ready.append(queue)
        queue.entries.append(entry)
        if isinstance(entry, Slice):
            self._count(queue, len(entry), entry.size)

    def _count(self, queue: Queue, events: int, size: int) -> None:
        queue.events += events
        queue.size += size
        self.events += events
        self.size += size

    def _enforce_bound(self) -> None:
        while self.events > self.max_events or self.size > self.max_bytes:
            self._drop_oldest(max(self._ready, key=_size))

    def _drop_oldest(self, queue: Queue) -> None:
        """Drop from the oldest slice of `queue` what the bound asks for, and say so in a gap before the rest."""
        at = next(index for index, entry in enumerate(queue.entries) if isinstance(entry, Slice))
        oldest = queue.entries[at]
        assert isinstance(oldest, Slice)
        base = oldest.batch.offset(oldest.start)
        by_size = bisect_right(oldest.batch.ends, base + self.size - self.max_bytes - 1) + 1
        by_count = oldest.start + self.events - self.max_events
        start, stop = oldest.start, min(oldest.stop, max(by_size, by_count))
        lost = Slice(oldest.batch, start, stop)
        self._count(queue, -len(lost), -lost.size)
        self.dropped += len(lost)
        oldest.start = stop
        if not oldest:
            del queue.entries[at]
        self._announce(queue, at, lost)

    def _announce(self, queue: Queue, at: int, lost: Slice) -> None:
        first, last, epoch = lost.seq(lost.start), lost.seq(lost.stop - 1), lost.batch.epoch
        before = queue.entries[at - 1] if at else None
        if not (isinstance(before, Gap) and before.extend(first, last, len(lost), epoch, self.reason)):
            queue.entries.insert(at, Gap(queue.channel, epoch, first, last, len(lost), self.reason))


def _size(queue: Queue) -> int:
    return queue.size
