"""One fan-out: a batch on its way to the readers of its channel; no I/O.

It may be broken off by a crash, and looked at in between: so it says at any moment who has got what.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from router.batches import Batch
from router.engine.memory import Stream
from router.subscriptions import Group, Subscription


class FanOut:
    """A batch on its way. The mutable state is how far it has come; the router alone changes it.

    Attributes:
        stream: The channel's.
        first_seq: Of the batch.
        paused: It lets others run: whoever was reached has got it.
    """

    __slots__ = ("_left", "_parts", "_selected", "_walking", "first_seq", "paused", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.first_seq = stream.flushed_seq + 1
        self._parts: list[tuple[Group, Batch]] = []
        self._walking: tuple[Group, Batch] | None = None
        self._left: Iterator[Subscription] = iter(())
        self._selected = False
        self.paused = False

    def add(self, group: Group, batch: Batch) -> None:
        """A group is to get this."""
        self._parts.append((group, batch))

    def begin(self) -> int:
        """All groups are known: what they are to get counts from now on. Returns how many deliveries that makes."""
        self._selected = True
        for group, batch in self._parts:
            group.matched += len(batch)
            assert batch.seqs is not None, "events of a channel have positions"
            group.last_seq = batch.seqs[-1]
        self._parts.reverse()
        return sum(len(batch) * len(group.readers) for group, batch in self._parts)

    def walk(self) -> Iterator[tuple[Batch, Iterator[Subscription]]]:
        """Group by group: the batch, and the readers that have not got it."""
        while self._parts:
            self._walking = self._parts.pop()
            group, batch = self._walking
            self._left = iter(group.readers)
            yield batch, self._left
        self._walking = None

    @property
    def scanned(self) -> int:
        """The position up to which the groups' sums go."""
        return self.stream.flushed_seq if self._selected else self.first_seq - 1

    def on_the_way_to(self, subscription: Subscription) -> int:
        """Events that count as matched and have not reached a reader yet."""
        if not self._selected:
            return 0
        for group, batch in self._parts:
            if group is subscription.group:
                return len(batch)
        if self._walking is not None and self._walking[0] is subscription.group and subscription in self._missing():
            return len(self._walking[1])
        return 0

    @property
    def on_the_way(self) -> int:
        """The same of all readers together."""
        if not self._selected:
            return 0
        ahead = sum(len(batch) * len(group.readers) for group, batch in self._parts)
        return ahead + (0 if self._walking is None else len(self._walking[1]) * len(self._missing()))

    @property
    def all_asked(self) -> bool:
        """Whether it is known what each group is to get."""
        return self._selected

    def unreached(self) -> dict[Subscription, int]:
        """Who has got nothing of the batch, and how many events each was to get."""
        ahead = {reader: len(batch) for group, batch in self._parts for reader in group.readers}
        return ahead if self._walking is None else ahead | dict.fromkeys(self._missing(), len(self._walking[1]))

    def reached_last(self) -> tuple[Subscription, int] | None:
        """The one that was being given it and may not have got it, and how many events; None: nobody."""
        if self._walking is None or self.paused:
            return None
        missing = self._missing()
        reached = [reader for reader in self._walking[0].readers if reader not in missing]
        return (reached[-1], len(self._walking[1])) if reached else None

    def _missing(self) -> set[Subscription]:
        return set(copy.copy(self._left))
