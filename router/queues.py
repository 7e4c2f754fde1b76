"""What waits for one client on one channel: slices of shared batches, gaps at their place, and whose turn it is to go.

Where a queue has to give something up, its policy says what: the oldest, the newest, or the oldest once only the latest
event of each key is left. What is given up is announced by a `gap` where it is missing; what a later event of its key
has replaced is not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Hashable

import msgspec
from msgspec import Struct

from router.batches import Batch, Slice
from router.errors import GapReason
from router.frames import text_frame
from router.paths import Path
from router.policies import Policy

_encode = msgspec.json.encode
#: Places of replaced events are kept up to this many beyond those of events that wait.
_SPARE_PLACES = 64


class Gap(Struct):
    """Events that are missing at this place.

    Attributes:
        of: The channel.
        epoch: Of the positions.
        first: The seq of the first that is missing.
        last: The seq of the last; what a filter would have left out may stand between them.
        count: How many are missing.
        reason: Why.
        exact: Whether the count is; a filter may not have been there to be asked which of them match.
        behind: The seq of the event that its reader was to get before it; None: the one before the first.
    """

    of: str
    epoch: str
    first: int | None
    last: int | None
    count: int | None
    reason: GapReason
    exact: bool = True
    behind: int | None = None

    @property
    def before(self) -> int:
        """The position that it comes after."""
        if self.behind is not None:
            return self.behind
        if self.first is not None:
            return self.first - 1
        return self.last or 0  # where it begins is not known

    def frame(self) -> bytes:
        """The message, framed."""
        fields = {"type": "gap", "of": self.of, "epoch": self.epoch, "from": self.first, "to": self.last}
        inexact = {} if self.exact else {"exact": False}
        return text_frame(_encode({**fields, "count": self.count, "reason": self.reason, **inexact}))

    def absorb(self, later: Gap) -> bool:
        """Take in the gap that follows, and its reason; False where how many are missing is not known, or not where."""
        if self.epoch != later.epoch or self.count is None or later.count is None:
            return False
        if self.last is not None and later.first is None:
            return False
        self.last, self.reason = later.last, later.reason
        self.count += later.count
        self.exact = self.exact and later.exact
        return True


class Queue:
    """What waits, in order.

    The mutable state is changed by its `Outbox` alone, and its policy by the router.

    Attributes:
        channel: Its name.
        policy: What it gives up first.
        entries: What waits. A slice may have become empty, its event replaced.
        events: How many events wait.
        size: Their bytes.
        replaced: Events that a later one of their key has replaced, since the subscription began.
        dropped: Events given up, by reason, likewise.
        resent: Events that its client may have had and is sent, or to be sent, again.
        discarded: Its subscription has ended: what the writer has taken of it does not come back.
        latest_behind: Epoch and seq behind which its policy is `latest`: an event that comes back and stood before
            is not replaced; None: any may be.
    """

    __slots__ = (
        "_latest", "channel", "discarded", "dropped", "entries", "events", "key", "latest_behind", "policy",
        "replaced", "resent", "size",
    )  # fmt: skip

    def __init__(self, channel: str, policy: Policy = Policy.DROP_OLDEST, key: Path | None = None) -> None:
        self.channel = channel
        self.policy = policy
        self.key = key
        self.entries: deque[Slice | Gap] = deque()
        self.events = 0
        self.size = 0
        self.replaced = 0
        self.dropped: dict[GapReason, int] = {}
        self.resent = 0
        self.discarded = False
        self.latest_behind: tuple[str, int] | None = None
        # By key, what waits of each; as long as the policy is `latest`.
        self._latest: dict[object, Slice] | None = None

    def set_policy(self, policy: Policy, key: Path | None, epoch: str, seq: int) -> None:
        """Take another policy, for the events after a position, the channel's last one."""
        self.policy, self.key = policy, key
        self.latest_behind = (epoch, seq) if policy is Policy.LATEST else None
        self._latest = None

    def append(self, batch: Batch) -> None:
        """Queue a batch at the end."""
        if self.policy is Policy.LATEST:
            for index, key in enumerate(batch.keys(self.key)):
                self._replace(key, Slice(batch, index, index + 1))
            self._forget_places()
        else:
            entry = Slice(batch, 0, len(batch))
            self.entries.append(entry)
            self._count(entry, 1)

    def first(self) -> Slice | Gap | None:
        """What waits first; None: nothing does."""
        entries = self.entries
        while entries and isinstance(place := entries[0], Slice) and not len(place):
            entries.popleft()
            _remember_place(place, entries[0] if entries else None)
        return entries[0] if entries else None

    def compact(self) -> None:
        """Forget the places of replaced events; what follows them remembers what was before."""
        entries = list(self.entries)
        self.entries.clear()
        for entry, later in zip(entries, [*entries[1:], None], strict=True):
            if isinstance(entry, Slice) and not len(entry):
                _remember_place(entry, later)
            else:
                self.entries.append(entry)

    def take(self) -> Slice | Gap:
        """Take what is first."""
        entry = self.first()
        assert entry is not None, "only queues with something to take are asked"
        self.entries.popleft()
        if isinstance(entry, Slice):
            self._count(entry, -1)
            if self._latest is not None:  # what is on its way is replaced no more
                key = entry.batch.keys(self.key)[entry.start]
                if self._latest.get(key) is entry:
                    del self._latest[key]
        return entry

    def give_back(self, entry: Slice | Gap) -> None:
        """Put back at the front what was taken last."""
        if isinstance(entry, Gap):
            self.announce(0, entry)
        elif self.policy is Policy.LATEST:
            keys = entry.batch.keys(self.key)
            for index in reversed(entry.indices):
                behind = entry.behind if index == entry.start else None
                self._put_back(keys[index], Slice(entry.batch, index, index + 1, behind))
        else:
            self.entries.appendleft(entry)
            self._count(entry, 1)

    def clear(self) -> None:
        """Forget what waits."""
        self.entries.clear()
        self._latest = None
        self.events = self.size = 0

    def _count(self, entry: Slice, sign: int) -> None:
        self.events += sign * len(entry)
        self.size += sign * entry.size

    # The latest of each key

    def _replace(self, key: Hashable, entry: Slice) -> None:
        """Queue an event; an elder one of its key that waits leaves."""
        elder = self._waiting(key)
        if elder is not None:
            self._count(elder, -1)
            elder.stop = elder.start
            self.replaced += 1
        self._remember(key, entry)
        self.entries.append(entry)

    def _put_back(self, key: Hashable, entry: Slice) -> None:
        """Put back an event, unless a younger one of its key waits and may replace it."""
        if not self._is_replaceable(entry):
            self.entries.appendleft(entry)
            self._count(entry, 1)
        elif self._waiting(key) is not None:
            self.replaced += 1
            self.entries.appendleft(Slice(entry.batch, entry.start, entry.start, entry.behind))
        else:
            self._remember(key, entry)
            self.entries.appendleft(entry)

    def _is_replaceable(self, entry: Slice) -> bool:
        if self.latest_behind is None:
            return True
        epoch, behind = self.latest_behind
        seq = entry.seq(entry.start)
        return seq is not None and entry.epoch == epoch and seq > behind

    def _waiting(self, key: Hashable) -> Slice | None:
        entry = None if self._latest is None else self._latest.get(key)
        return entry if entry is not None and len(entry) else None

    def _remember(self, key: Hashable, entry: Slice) -> None:
        if self._latest is None:
            self._latest = {}
        self._latest[key] = entry
        self._count(entry, 1)

    def _forget_places(self) -> None:
        """Let go of the places of replaced events, when they are as many as those that wait."""
        if len(self.entries) > 2 * self.events + _SPARE_PLACES:
            self.compact()
        if self._latest is not None and len(self._latest) > 2 * self.events + _SPARE_PLACES:
            self._latest = {key: entry for key, entry in self._latest.items() if len(entry)}

    # Giving up

    def give_up(self, events: int, size: int, reason: GapReason) -> int:
        """Give up events of the slice whose turn it is, as many as are asked for or it has.

        Args:
            events: How many events are too many; 0 or less: none.
            size: How many bytes are.
            reason: What the gap says.

        Returns:
            How many it gave up: one at least.
        """
        newest = self.policy is Policy.DROP_NEWEST
        at, entry = self._last_slice() if newest else self._first_slice()
        batch, start, stop = entry.batch, entry.start, entry.stop
        self._count(entry, -1)
        if newest:
            by_size = bisect_right(batch.ends, batch.offset(stop) - size) if size > 0 else stop
            entry.stop = max(start, min(by_size, stop - events, stop - 1))
            start = entry.stop
            before = entry.before if start == entry.start else batch.before(start)
        else:
            by_size = bisect_left(batch.ends, batch.offset(start) + size) + 1 if size > 0 else start
            before, entry.behind = entry.before, None
            entry.start = min(stop, max(by_size, start + events, start + 1))
            stop = entry.start
        self._count(entry, 1)
        if not len(entry):
            del self.entries[at]
        elif newest:
            at += 1
        lost = stop - start
        self.dropped[reason] = self.dropped.get(reason, 0) + lost
        first, last = entry.seq(start), entry.seq(stop - 1)
        self.announce(at, Gap(self.channel, batch.epoch, first, last, lost, reason, behind=before))
        return lost

    def regain(self, reason: GapReason, events: int) -> int:
        """Count events as no longer given up. Returns how many.

        Args:
            reason: What their gap says; one that was merged has the last of its reasons, so the other may have to do.
            events: How many.
        """
        left = events
        for each in (reason, GapReason.SLOW_CONSUMER, GapReason.BUFFER_OVERFLOW):
            back = min(left, self.dropped.get(each, 0))
            if back:
                left -= back
                self.dropped[each] -= back
        self.dropped = {each: lost for each, lost in self.dropped.items() if lost}
        return events

    def _first_slice(self) -> tuple[int, Slice]:
        at = 0
        while isinstance(entry := self.entries[at], Gap) or not len(entry):
            if isinstance(entry, Gap):
                at += 1
            else:
                del self.entries[at]
                _remember_place(entry, self.entries[at])
        return at, entry

    def _last_slice(self) -> tuple[int, Slice]:
        at = len(self.entries) - 1
        while isinstance(entry := self.entries[at], Gap) or not len(entry):
            at -= 1
        return at, entry

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


def _remember_place(place: Slice, later: Slice | Gap | None) -> None:
    """What follows a replaced event now follows what that one did."""
    if later is not None and later.epoch == place.epoch:
        later.behind = place.before
