"""Events as they are shared: a batch of frames, joined once for all its readers, and slices of it; no I/O."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from router.filters import Candidate
from router.paths import Path

#: What stands between the channel's name and the time in an event's frame.
_BEFORE_TIME = b'","timestamp":"'
_TIME = len("2024-12-29T12:00:00.123Z")


class Batch:
    """Frames of one channel's events, joined once and shared by all their readers; immutable.

    Attributes:
        buffer: The frames, joined.
        ends: Where in `buffer` each frame ends.
        seqs: Of the events, ascending; a `range` where there are no holes. None: events without a position.
        epoch: Of the positions.
        previous: The seq of the event before the first that its readers were to get; None: there is no hole.
    """

    __slots__ = ("_keys", "buffer", "ends", "epoch", "previous", "seqs")

    def __init__(
        self,
        buffer: bytes,
        ends: Sequence[int],
        seqs: Sequence[int] | None,
        epoch: str,
        previous: int | None = None,
    ) -> None:
        self.buffer = buffer
        self.ends = tuple(ends)
        self.seqs = seqs
        self.epoch = epoch
        self.previous = previous
        # What was asked of `keys` last: many readers ask the same.
        self._keys: tuple[str | None, list[Hashable]] | None = None

    def __len__(self) -> int:
        return len(self.ends)

    def offset(self, index: int) -> int:
        """Where in the buffer frame `index` begins."""
        return self.ends[index - 1] if index else 0

    def before(self, index: int) -> int | None:
        """The seq of the event before event `index` that its readers were to get; None: it has no position."""
        if self.seqs is None:
            return None
        if index:
            return self.seqs[index - 1]
        return self.seqs[0] - 1 if self.previous is None else self.previous

    def payload(self, index: int) -> memoryview:
        """The message that frame `index` carries, not copied."""
        start = self.offset(index)
        length = self.buffer[start + 1]
        header = 2 if length < 126 else 4 if length == 126 else 10
        return memoryview(self.buffer)[start + header : self.ends[index]]

    def timestamp(self, index: int) -> bytes:
        """When event `index` was published, as the wire has it."""
        at = self.buffer.index(_BEFORE_TIME, self.offset(index)) + len(_BEFORE_TIME)
        return self.buffer[at : at + _TIME]

    def candidate(self, index: int) -> Candidate:
        """Event `index`, to ask filters about."""
        return Candidate.from_json(self.payload(index))

    def keys(self, path: Path | None) -> list[Hashable]:
        """What stands at a path in each event, so that it can be compared; all the same where there is no path."""
        text = None if path is None else path.text
        if self._keys is None or self._keys[0] != text:
            found: list[Hashable] = (
                [None] * len(self) if path is None else [path.key(self.candidate(n)) for n in range(len(self))]
            )
            self._keys = (text, found)
        return self._keys[1]

    def select(self, chosen: Sequence[int], previous: int) -> Batch | None:
        """The frames of these indices, as a new batch; None: there are none. `previous` is the event before."""
        if not chosen:
            return None
        if len(chosen) == len(self):
            return Batch(self.buffer, self.ends, self.seqs, self.epoch, previous)
        buffer = memoryview(self.buffer)
        pieces, ends, size = [], [], 0
        for index in chosen:
            piece = buffer[self.offset(index) : self.ends[index]]
            size += len(piece)
            pieces.append(piece)
            ends.append(size)
        seqs = self.seqs
        assert seqs is not None, "events that filters are asked about have positions"
        return Batch(b"".join(pieces), ends, [seqs[index] for index in chosen], self.epoch, previous)


class Slice:
    """The frames `start` to `stop` of a batch, as one holder has them.

    Attributes:
        behind: The last event before it that was not replaced; None: the one before it in its batch.
    """

    __slots__ = ("batch", "behind", "start", "stop")

    def __init__(self, batch: Batch, start: int, stop: int, behind: int | None = None) -> None:
        self.batch = batch
        self.start = start
        self.stop = stop
        self.behind = behind

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

    @property
    def indices(self) -> range:
        """Of its frames in the batch."""
        return range(self.start, self.stop)

    @property
    def epoch(self) -> str:
        """Of the positions."""
        return self.batch.epoch

    @property
    def before(self) -> int | None:
        """The seq of the event that its reader was to get before it; None: it has no position."""
        return self.batch.before(self.start) if self.behind is None else self.behind

    def seq(self, index: int) -> int | None:
        """The seq of the batch's frame `index`."""
        return None if self.batch.seqs is None else self.batch.seqs[index]


def count(slices: Iterable[Slice]) -> int:
    """How many events there are in slices."""
    return sum(map(len, slices))


def joined(slices: Sequence[Slice]) -> Batch:
    """A batch of its own with the events of adjoining slices, none of them without a position."""
    ends: list[int] = []
    size = 0
    for part in slices:
        base = part.batch.offset(part.start) - size
        ends += [end - base for end in part.batch.ends[part.start : part.stop]]
        size = ends[-1]
    first = slices[0].seq(slices[0].start)
    assert first is not None, "events of a channel have positions"
    return Batch(b"".join(part.buffer for part in slices), ends, range(first, first + len(ends)), slices[0].epoch)
