"""The past of one channel: a ring of the frames that were fanned out, bounded in events, bytes and age; no I/O.

It holds references to the batches that all readers share, and joins those of few events: a replay of a thousand events
that came singly is some thirty pieces, for each of those who want it. It encodes nothing, and copies only
when it merges small batches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque

from router.batches import Batch, Slice, joined
from router.clock import timestamp_of

#: So many batches of few events are made one.
_JOIN = 32
#: A batch of more bytes has no few events, or they are large, and then it is a reference that is small.
_FEW_BYTES = 2048


class Ring:
    """The newest events of a channel, as many as the bounds allow.

    The mutable state is the slices, oldest first, and their sums; the channel's stream changes it, and whoever is to
    read it calls `expire` first.
    """

    __slots__ = (
        "_few", "_slices", "doubtful", "events", "last", "max_age_ms", "max_bytes", "max_events", "newest_gone", "size",
    )  # fmt: skip

    def __init__(
        self,
        max_events: int,
        max_bytes: int,
        max_age_ms: int | None = None,
        last: int = 0,
        newest_gone: bytes = b"",
        doubtful: int = 0,
    ) -> None:
        """Make an empty ring.

        Args:
            max_events: How many events it holds at most; 0: it holds none.
            max_bytes: How many bytes of frames.
            max_age_ms: How long `expire` leaves an event; None: as long as there is room.
            last: The seq of the last event that is not held.
            newest_gone: The time of that event, as the wire has it, or a later one; empty: there was none.
            doubtful: Up to this seq nobody knows which positions were given to events.
        """
        self._slices: deque[Slice] = deque()
        # The last slices, so many, are batches of few events.
        self._few = 0
        self.events = 0
        self.size = 0
        #: The seq of the last event that was appended.
        self.last = last
        #: No event that is not held any more is of a later time; empty: all are held.
        self.newest_gone = newest_gone
        self.doubtful = doubtful
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.max_age_ms = max_age_ms

    @property
    def first(self) -> int:
        """The seq of the first event that is still held; where none is, of the next one."""
        return self.last - self.events + 1

    def append(self, batch: Batch) -> None:
        """Keep a batch of the events that follow the last ones; what there is no room for goes."""
        self.last += len(batch)
        if not self.max_events:
            self.newest_gone = batch.timestamp(len(batch) - 1)
            return
        whole = Slice(batch, 0, len(batch))
        self._slices.append(whole)
        self.events += len(whole)
        self.size += whole.size
        self._keep_bounds()
        self._few = self._few + 1 if len(batch) < _JOIN and whole.size <= _FEW_BYTES else 0
        if self._few == _JOIN:
            self._few = 0
            self._join_last()

    def _join_last(self) -> None:
        """Join the last batches."""
        slices = self._slices
        few = min(_JOIN, len(slices))
        if not few:
            return
        batch = joined([slices[index] for index in range(-few, 0)])
        for _ in range(few):
            slices.pop()
        slices.append(Slice(batch, 0, len(batch)))

    def expire(self, unix_ms: int) -> None:
        """Let go of what is too old, to the event: each has its time in its frame, and that never goes back."""
        if self.max_age_ms is None or unix_ms < self.max_age_ms or not self._slices:
            return
        too_old = timestamp_of(unix_ms - self.max_age_ms).encode()
        while self._slices and self._slices[0].batch.timestamp(self._slices[0].start) <= too_old:
            oldest = self._slices[0]
            self._shorten(bisect_right(oldest.indices, too_old, key=oldest.batch.timestamp))

    def set_bounds(self, max_events: int, max_bytes: int, max_age_ms: int | None, unix_ms: int) -> None:
        """Hold more or less from now on; what is over the bounds goes. What has gone before does not come back."""
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.max_age_ms = max_age_ms
        self.expire(unix_ms)
        self._keep_bounds()

    def _keep_bounds(self) -> None:
        slices = self._slices
        while self.events > self.max_events or self.size > self.max_bytes:
            oldest = slices[0]
            batch = oldest.batch
            by_size = bisect_left(batch.ends, batch.offset(oldest.start) + self.size - self.max_bytes) + 1
            over = max(self.events - self.max_events, by_size - oldest.start if self.size > self.max_bytes else 0)
            self._shorten(min(len(oldest), over))

    def _shorten(self, events: int) -> None:
        """Let go of the first events of the oldest slice."""
        oldest = self._slices[0]
        before = oldest.size
        self.newest_gone = oldest.batch.timestamp(oldest.start + events - 1)
        oldest.start += events
        self.events -= events
        self.size -= before - (oldest.size if len(oldest) else 0)
        if not len(oldest):
            self._slices.popleft()

    def after(self, seq: int) -> list[Slice]:
        """What is held of the events after a position, as slices of shared batches."""
        found: list[Slice] = []
        for held in reversed(self._slices):
            seqs = held.batch.seqs
            assert seqs is not None, "events of a channel have positions"
            start = max(held.start, bisect_right(seqs, seq))
            if start >= held.stop:
                break
            found.append(Slice(held.batch, start, held.stop))
        found.reverse()
        return found

    def before(self, timestamp: str) -> int:
        """The position after which the events of a time and later begin, as far as they are held.

        Args:
            timestamp: As the wire has it: RFC 3339 in UTC with milliseconds.
        """
        wanted = timestamp.encode()
        seq = self.last
        for held in reversed(self._slices):
            index = bisect_left(range(held.start, held.stop), wanted, key=held.batch.timestamp)
            seq -= len(held) - index
            if index:
                break
        return seq

    def restart(self) -> None:
        """Forget all, as with a new epoch."""
        self._slices.clear()
        self._few = 0
        self.events = self.size = self.last = self.doubtful = 0
        self.newest_gone = b""

    def is_sound(self) -> bool:
        """Whether the parts of the state agree with one another."""
        return self.events == sum(map(len, self._slices)) and self.size == sum(held.size for held in self._slices)
