"""What really was published, and what one client makes of the messages about one channel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from router.batches import Batch
from router.engine.memory import Stream

Json = dict[str, Any]
Wants = Callable[[Json], bool]
#: (epoch, seq)
Place = tuple[str, int]


class Truth:
    """All events that were fanned out, by epoch and channel, and the epochs in their order."""

    def __init__(self) -> None:
        self.epochs: list[str] = []
        self.events: dict[tuple[str, str], dict[int, Json]] = {}

    def between(self, epoch: str, channel: str, after: int, to: int) -> Iterator[tuple[int, Json]]:
        """The events of these positions."""
        known = self.events.get((epoch, channel), {})
        return ((seq, known[seq]) for seq in range(after + 1, to + 1) if seq in known)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write down what every stream fans out."""
        flush = Stream.flush

        def recording(stream: Stream, epoch: str) -> Batch | None:
            batch = flush(stream, epoch)
            if batch is not None:
                self.begin(epoch)
                assert batch.seqs is not None
                known = self.events.setdefault((epoch, stream.name), {})
                for index, seq in enumerate(batch.seqs):
                    assert seq not in known, "a position means one event"
                    known[seq] = json.loads(bytes(batch.payload(index)))["data"]
            return batch

        with mock.patch.object(Stream, "flush", recording):
            yield

    def begin(self, epoch: str) -> None:
        """Know an epoch."""
        if epoch not in self.epochs:
            self.epochs.append(epoch)


@dataclass
class Account:
    """One client's account of one channel: where it is, and what it was told.

    Attributes:
        truth: What really was published.
        channel: Its name.
        place: Where the client is.
        latest: The policy is `latest`: of those replaced it is told nothing.
        key: The field of `data` whose latest it wants; None: there is one key.
        wants: What it asks for, and behind which place.
        high: The last seq that it was told of, by epoch.
        delivered: Events that it was sent for the first time.
        resent: Events that it was sent again.
        lost: Events that it was told are missing, the first time; None: it can't be known.
        honest: Where it is where it has claimed to be further, and has not been contradicted yet.
        broken: It was told that the epoch is over, and where it goes on may still be told.
        epoch: Whose sums these are.
    """

    truth: Truth
    channel: str
    place: Place
    latest: bool
    key: str | None
    wants: list[tuple[Place, Wants]]
    epoch: str
    high: dict[str, int] = field(default_factory=dict)
    delivered: int = 0
    resent: int = 0
    lost: int | None = 0
    broken: bool = False
    honest: Place | None = None

    def __post_init__(self) -> None:
        self.high.setdefault(*self.place)

    def expected(self, epoch: str, after: int, to: int) -> list[int]:
        """What it is to be told of between two positions: what it asked for then and, of what comes again, now."""
        high, wants_now = self.high.get(epoch, 0), self.wants[-1][1]
        return [
            seq
            for seq, event in self.truth.between(epoch, self.channel, after, to)
            if self._asked_at(epoch, seq)(event) and (seq > high or wants_now(event))
        ]

    def possible(self, epoch: str, after: int, to: int) -> list[int]:
        """What it may be told of: of what comes again, what it asks for now, though it did not then."""
        high, wants_now = self.high.get(epoch, 0), self.wants[-1][1]
        return [
            seq
            for seq, event in self.truth.between(epoch, self.channel, after, to)
            if self._asked_at(epoch, seq)(event) or (seq <= high and wants_now(event))
        ]

    def _asked_at(self, epoch: str, seq: int) -> Wants:
        """What it asked for when an event came."""
        order = self.truth.epochs.index
        asked = [wants for (of, after), wants in self.wants if (order(of), after) < (order(epoch), seq)]
        return asked[-1] if asked else self.wants[0][1]

    def take(self, message: Json, current_epoch: str) -> None:
        """A message about the channel."""
        self.honest = None
        match message.get("type"):
            case None:
                self._take_event(message["seq"], message["data"])
            case "gap":
                self._take_gap(message, current_epoch)
            case _:
                position = message["positions"][self.channel]
                self._take_position(position["epoch"], position["seq"])

    def _take_event(self, seq: int, data: Json) -> None:
        epoch, last = self.place
        assert seq > last, f"{seq} after {last}"
        self.nothing_missing(seq - 1)
        assert self.truth.events[epoch, self.channel][seq] == data
        assert self._asked_at(epoch, seq)(data) or self.wants[-1][1](data), "nobody asked for this"
        if seq > self.high.get(epoch, 0):
            self.delivered += 1
        else:
            self.resent += 1
        self._move(epoch, seq)

    def _take_position(self, epoch: str, seq: int) -> None:
        if self.broken and epoch != self.place[0]:
            assert seq == 0
            self.place = (epoch, 0)
        else:
            assert epoch == self.place[0]
            assert seq >= self.place[1]
            self.nothing_missing(seq)
            self._move(epoch, seq)

    def _take_gap(self, gap: Json, current_epoch: str) -> None:
        epoch, last = self.place
        assert gap["epoch"] == epoch, (gap, self.place)
        assert gap["from"] > last
        self.nothing_missing(gap["from"] - 1)
        if gap["reason"] == "epoch_changed":
            assert (gap["to"], gap["count"]) == (None, None)
            self.place, self.broken = (current_epoch, 0), True
            return
        first, to, count = gap["from"], gap["to"], gap["count"]
        matching = self.expected(epoch, first - 1, to)
        high = self.high.get(epoch, 0)
        if gap.get("exact", True):
            assert count > 0
            assert self.latest or len(matching) <= count, (gap, matching)
            assert count <= len(self.possible(epoch, first - 1, to)), (gap, matching)
        elif first > high:
            assert len(matching) <= count <= to - first + 1
        if self.latest and first <= high < to:
            self.lost = None
        elif self.lost is not None and to > high:
            self.lost += count if first > high else len(self.expected(epoch, high, to))
        self._move(epoch, to)

    def nothing_missing(self, to: int) -> None:
        """Nothing that it was to be told of stands between where it is and a position."""
        epoch, last = self.place
        missing = self.expected(epoch, last, to)
        if self.latest:
            missing = [seq for seq in missing if not self._replaced(epoch, seq)]
        assert not missing, f"unannounced: {missing[:5]} … of {len(missing)} up to {to}, of {self}"

    def _replaced(self, epoch: str, seq: int) -> bool:
        """Whether a younger event of its key has come."""
        key = self.key and self.truth.events[epoch, self.channel][seq].get(self.key)
        return any(
            self._asked_at(of, other)(event) and (self.key and event.get(self.key)) == key
            for of in self.truth.epochs[self.truth.epochs.index(epoch) :]
            for other, event in self.truth.events.get((of, self.channel), {}).items()
            if of != epoch or other > seq
        )

    def _move(self, epoch: str, seq: int) -> None:
        self.place, self.broken = (epoch, seq), False
        self.high[epoch] = max(self.high.get(epoch, 0), seq)

    def go_on_from(self, epoch: str, seq: int) -> None:
        """The server goes on from its own mark: what was in flight may be lost."""
        if epoch == self.place[0]:
            seq = max(seq, self.place[1])
        self._move(epoch, seq)

    def claim(self, epoch: str, seq: int) -> None:
        """The client says that it is here."""
        if (epoch, seq) > self.place:
            self.honest = self.place
        self.place = (epoch, seq)

    def withdraw(self) -> None:
        """Its connection is gone, with what it claimed."""
        if self.honest is not None:
            self.place, self.honest = self.honest, None
