"""What a client that was away has missed: the past of a channel, as far as it is held, and gaps for the rest; no I/O.

It answers with references into the ring's batches, in order, so a replay encodes and copies nothing. A filter is asked
about each event here, by the same code that asks it live.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nlargest

from msgspec import Struct

from router.batches import Slice, count
from router.errors import GapReason
from router.filters import Filter
from router.history import Ring
from router.protocol import Position, reply
from router.queues import Gap


class EpochBreak(Gap):
    """The gap of a channel whose numbering begins anew. Right after it the client is told where it goes on.

    Attributes:
        successor: The epoch that begins.
    """

    successor: str = ""

    def frame(self) -> bytes:
        """Both messages, framed."""
        return super().frame() + reply("position", positions={self.of: Position(self.successor, 0)})


class Missed(Struct):
    """The past of one channel for one client.

    Attributes:
        start: The position that it begins after.
        entries: Gaps and events, in order.
    """

    start: int
    entries: list[Gap | Slice]

    @property
    def events(self) -> int:
        """How many events there are."""
        return count(entry for entry in self.entries if isinstance(entry, Slice))

    def places(self) -> Iterator[tuple[Slice, int]]:
        """Its events, in order: where each stands."""
        return ((entry, index) for entry in self.entries if isinstance(entry, Slice) for index in entry.indices)

    def events_behind(self, seq: float) -> int:
        """How many of them come after a position."""
        return sum(seq_of(entry, index) > seq for entry, index in self.places())

    @property
    def lost(self) -> int:
        """How many events are known to be gone."""
        return sum(entry.count or 0 for entry in self.entries if isinstance(entry, Gap))

    @property
    def last(self) -> int:
        """The position that it ends at."""
        for entry in reversed(self.entries):
            last = entry.last if isinstance(entry, Gap) else seq_of(entry, entry.stop - 1)
            if last is not None:
                return last
        return self.start

    @property
    def complete(self) -> bool:
        """Whether no gap was needed."""
        return not any(isinstance(entry, Gap) for entry in self.entries)


def behind(channel: str, ring: Ring, epoch: str, position: Position, wanted: Filter | None) -> Missed:
    """All that follows a client's position.

    A position of another epoch, or of the future, is announced as such, and all that is held follows.
    """
    entries: list[Gap | Slice] = []
    seq = position.seq
    if position.epoch != epoch or seq > ring.last:
        reason = GapReason.EPOCH_CHANGED
        entries.append(EpochBreak(channel, position.epoch, seq + 1, None, None, reason, successor=epoch))
        seq = 0
    if seq < ring.first - 1:
        last = ring.first - 1
        exact = wanted is None and seq >= ring.doubtful
        entries.append(Gap(channel, epoch, seq + 1, last, last - seq, GapReason.HISTORY_TRIMMED, exact))
    return Missed(seq, [*entries, *matching(ring.after(seq), wanted, max(seq, ring.first - 1))])


def newest(ring: Ring, events: int, wanted: Filter | None) -> Missed:
    """The last events that match, as far as they are held."""
    found: list[Slice] = []
    start = ring.last
    for part in reversed(list(matching(ring.after(0), wanted, 0))):
        if len(part) > events:
            part.start, part.behind = part.stop - events, None
        events -= len(part)
        found.append(part)
        start = seq_of(part, part.start) - 1
        if not events:
            break
    if found:
        found[-1].behind = start
    return Missed(start, [*reversed(found)])


def since(channel: str, ring: Ring, epoch: str, timestamp: str, wanted: Filter | None) -> Missed:
    """All of a time and later. Where some of it are gone, nobody knows how many."""
    start = ring.before(timestamp)
    entries: list[Gap | Slice] = []
    if ring.newest_gone >= timestamp.encode():
        entries.append(Gap(channel, epoch, None, start, None, GapReason.HISTORY_TRIMMED))
    return Missed(start, [*entries, *matching(ring.after(start), wanted, start)])


def matching(slices: Iterable[Slice], wanted: Filter | None, behind: int) -> Iterator[Slice]:
    """Runs of events that a filter lets through, each with the one before it; `behind` is the one before all."""
    for held in slices:
        if wanted is None:
            yield held
            continue
        start = held.start
        for index in held.indices:
            if not wanted.matches(held.batch.candidate(index)):
                if index > start:
                    yield Slice(held.batch, start, index, behind)
                    behind = held.batch.before(index) or 0
                start = index + 1
        if held.stop > start:
            yield Slice(held.batch, start, held.stop, behind)
            behind = held.batch.before(held.stop) or 0


def restored(gap: Gap, ring: Ring, wanted: Filter | None, behind: int) -> list[Gap | Slice]:
    """Events that were given up, in place of the gap that says so, as far as they are held.

    Args:
        gap: One of the current epoch, whose events are all that matched between its ends.
        ring: The channel's past.
        wanted: What they had to match.
        behind: The position after which they had to.
    """
    assert gap.first is not None
    assert gap.last is not None
    assert gap.count is not None
    first = min(max(gap.first, ring.first, behind + 1), gap.last + 1)
    before = gap.before if first == gap.first else first - 1
    held = (up_to(each, gap.last) for each in ring.after(first - 1))
    found = list(matching((each for each in held if each is not None), wanted, before))
    left = min(gap.count - count(found), first - gap.first)
    if not left:
        return list(found)
    return [Gap(gap.of, gap.epoch, gap.first, first - 1, left, gap.reason, gap.exact, gap.behind), *found]


def up_to(events: Slice, seq: int) -> Slice | None:
    """Those up to a position."""
    stop = next((index for index in events.indices if seq_of(events, index) > seq), events.stop)
    return Slice(events.batch, events.start, stop, events.behind) if stop > events.start else None


def part_behind(entry: Gap | Slice, seq: int) -> Gap | Slice | None:
    """The part of an entry after a position."""
    if isinstance(entry, Slice):
        start = next((index for index in entry.indices if seq_of(entry, index) > seq), entry.stop)
        behind = entry.behind if start == entry.start else None
        return Slice(entry.batch, start, entry.stop, behind) if start < entry.stop else None
    if entry.last is None or entry.first is None or entry.first > seq:
        return entry
    if entry.last <= seq:
        return None
    return _part_of(entry, seq + 1, entry.last)


def part_up_to(entry: Gap | Slice, seq: int, epoch: str) -> Gap | Slice | None:
    """The part of an entry up to a position."""
    if isinstance(entry, Slice):
        return up_to(entry, seq)
    if entry.epoch != epoch or entry.first is None or entry.last is None or entry.last <= seq:
        return entry
    if entry.first > seq:
        return None
    return _part_of(entry, entry.first, seq)


def _part_of(gap: Gap, first: int, last: int) -> Gap:
    """A part of a gap. How many of its events match is known where all do."""
    assert gap.first is not None
    assert gap.last is not None
    exact = gap.exact and gap.count == gap.last - gap.first + 1
    return Gap(gap.of, gap.epoch, first, last, last - first + 1, gap.reason, exact)


def keep_newest(missed: dict[str, Missed], events: int) -> None:
    """Keep the newest events, so many in all; what a channel loses by that is one gap there."""
    if sum(each.events for each in missed.values()) <= events:
        return
    places = ((channel, entry, index) for channel, each in missed.items() for entry, index in each.places())
    times = ((entry.batch.timestamp(index), channel, n) for n, (channel, entry, index) in enumerate(places))
    kept = Counter(channel for _, channel, _ in nlargest(events, times))
    for channel, each in missed.items():
        each.entries = _without_first(channel, each.entries, each.events - kept[channel])


def _without_first(channel: str, entries: list[Gap | Slice], events: int) -> list[Gap | Slice]:
    """Replace so many events at the front by gaps."""
    left: list[Gap | Slice] = []
    for entry in entries:
        if isinstance(entry, Slice):
            cut = min(events, len(entry))
            events -= cut
            if cut:
                first, last = seq_of(entry, entry.start), seq_of(entry, entry.start + cut - 1)
                left.append(Gap(channel, entry.epoch, first, last, cut, GapReason.BUFFER_OVERFLOW, behind=entry.before))
            if cut < len(entry):
                left.append(Slice(entry.batch, entry.start + cut, entry.stop, None if cut else entry.behind))
        else:
            left.append(entry)
    return left


def merge_gaps(entries: Iterable[Gap | Slice]) -> list[Gap | Slice]:
    """The same, adjoining gaps as one."""
    whole: list[Gap | Slice] = []
    for entry in entries:
        last = whole[-1] if whole else None
        if not (isinstance(entry, Gap) and isinstance(last, Gap) and last.absorb(entry)):
            whole.append(entry)
    return whole


def seq_of(entry: Slice, index: int) -> int:
    """The seq of an event of a channel."""
    seq = entry.seq(index)
    assert seq is not None, "events of a channel have positions"
    return seq
