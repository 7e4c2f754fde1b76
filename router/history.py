"""The past of one channel: a ring of the frames that were fanned out, bounded in events, bytes and age; no I/O.

It holds references to the batches that all readers share, and joins those of few events: a replay of a thousand events
that came singly is some thirty pieces, for each of those who want it. It encodes nothing and copies nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque

from router.batches import Batch, Slice, joined

#: So many batches of few events are made one.
_JOIN = 32
#: A batch of more bytes has no few events, or they are large, and then it is a reference that is small.
_FEW_BYTES = 2048


class Ring:
    """The newest events of a channel, as many as the bounds allow.

    The mutable state is the slices, oldest first, and their sums; the channel's stream changes it.
    """

    __slots__ = ("_few", "_kept_since", "_slices", "events", "last", "max_age_ms", "max_bytes", "max_events", "size")

    def __init__(self, max_events: int, max_bytes: int, max_age_ms: int | None = None, last: int = 0) -> None:
        """Make an empty ring.

        Args:
            max_events: How many events it holds at most; 0: it holds none.
            max_bytes: How many bytes of frames.
            max_age_ms: How long it holds an event, a thirtieth less at times; None: as long as there is room.
            last: The seq of the last event that is not held.
        """
        self._slices: deque[Slice] = deque()
        self._kept_since: deque[int] = deque()
        # The last slices, so many, are batches of few events.
        self._few = 0
        self.events = 0
        self.size = 0
        #: The seq of the last event that was appended.
        self.last = last
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.max_age_ms = max_age_ms

    @property
    def first(self) -> int:
        """The seq of the first event that is still held; where none is, of the next one."""
        return self.last - self.events + 1

    def append(self, batch: Batch, unix_ms: int) -> None:
        """Keep a batch of the events that follow the last ones; what is over the bounds goes."""
        self.last += len(batch)
        if not self.max_events:
            return
        whole = Slice(batch, 0, len(batch))
        self._slices.append(whole)
        self._kept_since.append(unix_ms)
        self.events += len(whole)
        self.size += whole.size
        self.expire(unix_ms)
        self._keep_bounds()
        self._few = self._few + 1 if len(batch) < _JOIN and whole.size <= _FEW_BYTES else 0
        if self._few == _JOIN:
            self._few = 0
            self._join_last()

    def _join_last(self) -> None:
        """Join the last batches, unless their ages differ by much where age counts."""
        slices, times = self._slices, self._kept_since
        few = min(_JOIN, len(slices))
        if not few or (self.max_age_ms is not None and times[-1] - times[-few] > self.max_age_ms // _JOIN):
            return
        since = times[-few]
        batch = joined([slices[index] for index in range(-few, 0)])
        for _ in range(few):
            slices.pop()
            times.pop()
        slices.append(Slice(batch, 0, len(batch)))
        times.append(since)

    def expire(self, unix_ms: int) -> None:
        """Let go of what is too old."""
        if self.max_age_ms is not None:
            while self._slices and self._kept_since[0] <= unix_ms - self.max_age_ms:
                self._shorten(len(self._slices[0]))

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
        oldest.start += events
        self.events -= events
        self.size -= before - (oldest.size if len(oldest) else 0)
        if not len(oldest):
            self._slices.popleft()
            self._kept_since.popleft()

    def after(self, seq: int) -> list[Slice]:
        """What is held of the events behind a position, as slices of shared batches."""
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
        """The position behind which the events of a time and later stand, as far as they are held.

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
        self._kept_since.clear()
        self._few = 0
        self.events = self.size = self.last = 0

    def is_sound(self) -> bool:
        """Whether the parts of the state agree with one another."""
        return (
            self.events == sum(map(len, self._slices))
            and self.size == sum(held.size for held in self._slices)
            and len(self._slices) == len(self._kept_since)
        )
