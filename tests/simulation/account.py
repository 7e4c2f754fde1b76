"""What one client makes of the messages about one channel: where it is, and whether anything is missing unsaid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.router.harness import Json
from tests.simulation.truth import Place, Truth, Wants


class Ask(NamedTuple):
    """What a subscription asks for, behind a place.

    Attributes:
        behind: The place.
        wants: Its filter.
        latest: Its policy is `latest`: of those that are replaced it is told nothing.
        key: The field of `data` whose latest it wants; None: there is one key.
    """

    behind: Place
    wants: Wants
    latest: bool = False
    key: str | None = None


class Replay(NamedTuple):
    """A resume that was done and whose `resumed` has not come.

    Attributes:
        epoch: The current one then.
        first: What a policy had given up and the client was not told yet comes again, from here on: as far as the
            history holds it, and behind the place where the client has asked for what it does now.
        last: The last event that the history held.
        strict: Such events are known: the position is, and the policy is not `latest`, under which some are replaced.
    """

    epoch: str
    first: int
    last: int
    strict: bool


@dataclass
class Account:
    """One client's account of one channel.

    The ledger's figures are compared with its own. Where those cannot be known (a new epoch begins the ledger anew;
    what a dead connection had in flight is counted as the server saw it) `unsure` says so, and they are taken over
    when next nothing is under way.

    Attributes:
        truth: What really was published.
        channel: Its name.
        place: Where the client is.
        asks: What it asks for, and did, in order.
        joined: The last event when it began: what it asked for of the past is up to there.
        epoch: Whose sums it compares.
        high: The last seq that it was told of, by epoch.
        delivered: Events that it was sent for the first time.
        resent: Events that it was sent again.
        lost: Events that it was told are missing, the first time.
        unsure: These three are not known.
        honest: Where it is where it has claimed to be further, and has not been contradicted yet.
        astray: It has subscribed behind a position that is not known, and was not told so yet.
        broken: It was told that the epoch is over, and is still to be told where it goes on: where it was, and astray.
        replay: What a resume is to bring.
        cut: In that, gaps left out events which the history held: there were more than a replay may have.
        again: What it asked for at the last resume: that goes for what comes again.
    """

    truth: Truth
    channel: str
    place: Place
    asks: list[Ask]
    joined: Place
    epoch: str
    high: dict[str, int] = field(default_factory=dict)
    delivered: int = 0
    resent: int = 0
    lost: int = 0
    unsure: bool = False
    honest: Place | None = None
    astray: bool = False
    broken: tuple[Place, bool] | None = None
    replay: Replay | None = None
    cut: bool = False
    again: Ask | None = None

    # What it is to be told of

    def _ask_at(self, epoch: str, seq: int) -> Ask:
        """What it asked for when an event came."""
        if len(self.asks) > 1:
            event = self.truth.order((epoch, seq))
            for ask in reversed(self.asks):
                if self.truth.order(ask.behind) < event:
                    return ask
        return self.asks[0]

    def _wants_again(self, data: Json) -> bool:
        """Whether it wants an event to come again."""
        return (self.again or self.asks[0]).wants(data)

    def _may_be_replaced(self, epoch: str, first: int, to: int) -> bool:
        """Whether `latest` was its policy when some of these events came: what it asks for later leaves them."""
        return any(self._ask_at(epoch, seq).latest for seq in range(first, to + 1))

    def expected(self, epoch: str, after: int, to: int) -> list[int]:
        """What it is to be told of between two positions: what it asked for then and, of what comes again, lately."""
        high, wants_again = self.high.get(epoch, 0), self._wants_again
        return [
            seq
            for seq, data in self.truth.between(epoch, self.channel, after, to)
            if self._ask_at(epoch, seq).wants(data) and (seq > high or wants_again(data))
        ]

    def _possible(self, epoch: str, after: int, to: int) -> list[int]:
        """What it may be told of: of what comes again, what it asked for lately, though it did not then."""
        high, wants_again = self.high.get(epoch, 0), self._wants_again
        return [
            seq
            for seq, data in self.truth.between(epoch, self.channel, after, to)
            if self._ask_at(epoch, seq).wants(data) or (seq <= high and wants_again(data))
        ]

    def nothing_missing(self, to: int, behind: int = 0) -> None:
        """Nothing that it was to be told of stands between where it is (or another seq, if later) and a position."""
        epoch, last = self.place
        missing = self.expected(epoch, max(last, behind), to)
        if missing:
            missing = [seq for seq in missing if not self._replaced(epoch, seq)]
        assert not missing, f"unannounced: {missing[:5]} … of {len(missing)} up to {to}, of {self}"

    def _replaced(self, epoch: str, seq: int) -> bool:
        """Whether `latest` was the policy when it came, and a younger event of its key came under the same."""
        ask, data = self._ask_at(epoch, seq), self.truth.event(epoch, self.channel, seq).data
        return ask.latest and self._has_younger(epoch, seq, ask, data)

    def _has_younger(self, epoch: str, seq: int, ask: Ask, data: Json) -> bool:
        epochs = self.truth.epochs[self.truth.epochs.index(epoch) :]
        return any(
            self._ask_at(of, other) is ask
            and ask.wants(event)
            and (ask.key is None or event.get(ask.key) == data.get(ask.key))
            for of in epochs
            for other, event in self.truth.between(
                of, self.channel, seq if of == epoch else 0, len(self.truth.events(of, self.channel))
            )
        )

    # What it is told

    def take(self, message: Json, current_epoch: str) -> None:
        """A message about the channel."""
        match message.get("type"):
            case None:
                self._take_event(message)
            case "gap":
                self._take_gap(message, current_epoch)
            case _:
                position = message["positions"][self.channel]
                self._take_position(position["epoch"], position["seq"])
        self.honest, self.astray = None, False

    def _take_event(self, message: Json) -> None:
        (epoch, last), seq, data = self.place, message["seq"], message["data"]
        assert seq > last, f"{seq} after {last}, of {self}"
        self.nothing_missing(seq - 1)
        assert self.truth.event(epoch, self.channel, seq) == (data, message["timestamp"])
        assert self._ask_at(epoch, seq).wants(data) or self._wants_again(data), "nobody asked for this"
        if seq > self.high.get(epoch, 0):
            self.delivered += 1
        else:
            self.resent += 1
        self._move(epoch, seq)

    def _take_position(self, epoch: str, seq: int) -> None:
        if self.broken is not None and epoch != self.place[0]:
            assert seq == 0
            self.place, self.broken = (epoch, 0), None
        else:
            assert epoch == self.place[0], (epoch, seq, self)
            assert seq >= self.place[1], (epoch, seq, self)
            self.nothing_missing(seq)
            self._move(epoch, seq)

    def _take_gap(self, gap: Json, current_epoch: str) -> None:
        epoch, last = self.place
        assert gap["epoch"] == epoch, (gap, self)
        if gap["from"] is None:  # since a time that the history does not reach back to
            assert (gap["reason"], gap["to"], gap["count"]) == ("history_trimmed", last, None)
            return
        assert gap["from"] > last, (gap, self)
        self.nothing_missing(gap["from"] - 1)
        if gap["reason"] == "epoch_changed":
            assert (gap["to"], gap["count"]) == (None, None)
            self.place, self.broken = (current_epoch, 0), (self.honest or self.place, self.astray)
        else:
            self._take_loss(gap)

    def _take_loss(self, gap: Json) -> None:
        epoch = self.place[0]
        first, to, count = gap["from"], gap["to"], gap["count"]
        assert first <= to
        matching, high = self.expected(epoch, first - 1, to), self.high.get(epoch, 0)
        some_replaced = self._may_be_replaced(epoch, first, to)
        if gap.get("exact", True):
            assert 0 < count <= len(self._possible(epoch, first - 1, to)), (gap, matching, self)
            assert some_replaced or len(matching) <= count, (gap, matching, self)
        elif first > high:
            assert some_replaced or len(matching) <= count
            assert count <= to - first + 1
        self._look_for_held(gap, matching)
        if first <= high < to and (some_replaced or not gap.get("exact", True)):
            self.unsure = True
        elif to > high:
            self.lost += count if first > high else len(self.expected(epoch, high, to))
        self._move(epoch, to)

    def _look_for_held(self, gap: Json, matching: list[int]) -> None:
        """What a policy gave up and the client was not told yet is replayed, as far as the history holds it."""
        replay = self.replay
        if replay is None or not replay.strict or self.place[0] != replay.epoch:
            return
        if any(replay.first <= seq <= replay.last for seq in matching):
            assert gap["reason"] == "buffer_overflow", (gap, self)
            self.cut = True

    def _move(self, epoch: str, seq: int) -> None:
        self.place, self.broken = (epoch, seq), None
        self.high[epoch] = max(self.high.get(epoch, 0), seq)

    # Coming back

    def claim(self, position: Place) -> None:
        """The client says that it is here."""
        if self.truth.order(position) > self.truth.order(self.place):
            self.honest = self.place
        self.place = position

    def withdraw(self) -> None:
        """Its connection is gone, with what it claimed, what that was to bring, and half of what it was told."""
        if self.broken is not None:
            (self.place, self.astray), self.broken = self.broken, None
        if self.honest is not None:
            self.place, self.honest = self.honest, None
        self.replay, self.cut = None, False

    def begin_replay(self, epoch: str, flushed: int, history: int) -> None:
        """What the client says was heard.

        Args:
            epoch: The current one then.
            flushed: The channel's last event then.
            history: How many are held.
        """
        of, seq = self.place
        asked_in, asked_behind = self.joined if len(self.asks) == 1 else self.asks[-1].behind
        first = max(1, flushed - history + 1, asked_behind + 1 if asked_in == epoch else 0)
        strict = of == epoch and seq <= flushed and not self.asks[-1].latest
        self.replay, self.cut = Replay(epoch, first, flushed, strict), False
        self.again = self.asks[-1]
        # What was replaced may come after all, for the first time; the ledger has done with it, and calls it resent.
        self.unsure = self.unsure or any(ask.latest for ask in self.asks)

    def end_replay(self) -> bool:
        """`resumed` has come: all of the past has. Returns whether events that the history held were left out."""
        replay, cut = self.replay, self.cut
        assert replay is not None
        assert self.place[0] == replay.epoch
        self.nothing_missing(replay.last)
        self._move(replay.epoch, max(replay.last, self.place[1]))
        self.replay, self.cut = None, False
        return cut

    def welcome(self, mark: Place, *, in_doubt: bool) -> None:
        """The server knows it on a new connection, where it would go on from this mark.

        Args:
            mark: As `connected` has it.
            in_doubt: Of what counts as sent before the mark, a part may not have come.
        """
        self.withdraw()
        epoch, seq = mark
        if self.astray and in_doubt and mark != self.place:  # that it was did not come
            self.place, self.astray = mark, False
        high = self.high.get(epoch, 0)
        if in_doubt:
            self.unsure = True
        elif epoch == self.place[0] and not self.astray:
            # All before was handed to the kernel, and the client has read that; or it was replaced.
            self.nothing_missing(seq, behind=high)
        if not self.astray:
            self.high[epoch] = max(seq, high)

    def go_on_from(self, epoch: str, seq: int) -> None:
        """The server goes on from its mark."""
        if self.astray:
            return  # that is the client's own word, and is to be contradicted
        if epoch == self.place[0]:
            seq = max(seq, self.place[1])
        self._move(epoch, seq)
