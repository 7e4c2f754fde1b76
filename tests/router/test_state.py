"""What the router owns: positions, soundness, and what a new epoch makes of it."""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from msgspec import Raw

from router import filters
from router.auth.identity import Identity
from router.batches import Batch, Slice
from router.clock import Clock
from router.config import Config
from router.errors import GapReason
from router.fanning import FanOut
from router.hub.crash import begin_epoch, is_sound
from router.hub.state import RouterState
from router.lanes import Lane
from router.letters import Emit
from router.outbox import Outbox
from router.policies import Policy
from router.protocol import Position
from router.queues import Gap, Queue
from router.recovery import EpochBreak
from router.sessions import Session
from router.subscriptions import Subscription
from tests.router.granting import grants
from tests.router.lanes.streams import event_batch


class FakeLane:
    """A lane that writes nothing; it counts how often it was woken."""

    def __init__(self) -> None:
        self.outbox: Outbox | None = None
        self.woken = 0

    def attach(self, outbox: Outbox) -> None:
        self.outbox = outbox

    def entries_of(self, queue: Queue) -> Iterator[Slice | Gap]:
        return iter(queue.entries)

    def claim_frame(self) -> None:
        """None is ever partly out."""

    def release(self) -> None:
        self.outbox = None

    def wake(self) -> None:
        self.woken += 1

    def offer(self, queue: Queue, batch: Batch) -> None:
        assert self.outbox is not None
        self.outbox.put(queue, batch)

    def waiting_for(self, queue: Queue) -> tuple[int, int]:
        assert self.outbox is not None
        return self.outbox.waiting_for(queue)


@pytest.fixture
def state() -> RouterState:
    return RouterState(Config(), Clock(now=lambda: 0.0), epoch="first")


def listener(state: RouterState, *channels: str, lane: FakeLane | None = None) -> Session:
    session = state.sessions.open(Identity(None), grants("nobody"), 0.0)
    if lane is not None:
        state.sessions.attach(session, cast(Lane, lane), 0.0)
    for name in channels:
        state.subscribe(session, Subscription(name, session.outlet, state.streams[name].flushed_seq))
    return session


def publish(state: RouterState, count: int, channel: str = "signals") -> None:
    for _ in range(count):
        state.emit(Emit(channel, "x", b"{}"))


def flush(state: RouterState, channel: str = "signals") -> Batch:
    batch = state.streams[channel].flush(state.epoch)
    assert batch is not None
    return batch


def begin_fan_out(state: RouterState, channel: str = "signals") -> Iterator[Subscription]:
    """As the hub does it; whoever is taken from what it returns has been given the batch, or is being given it."""
    fan_out = state.fan_out = FanOut(state.streams[channel])
    batch = flush(state, channel)
    for group in state.subscriptions.groups(channel):
        fan_out.add(group, batch)
    fan_out.begin()
    for part, left in fan_out.walk():
        for reader in left:
            yield reader
            reader.outlet.offer(reader.queue, part)


def fan_out(state: RouterState, channel: str = "signals") -> None:
    for _ in begin_fan_out(state, channel):
        pass
    state.fan_out = None


def texts(frames: bytes) -> Iterator[Any]:
    """The messages in a run of unmasked frames."""
    while frames:
        size, head = frames[1], 2
        if size == 126:
            size, head = int.from_bytes(frames[2:4], "big"), 4
        yield json.loads(frames[head : head + size])
        frames = frames[head + size :]


def gap_of(session: Session, channel: str = "signals") -> tuple[str, int | None]:
    gap = session.subscriptions[channel].queue.entries[-1]
    assert isinstance(gap, EpochBreak)
    assert (gap.last, gap.count, gap.reason) == (None, None, GapReason.EPOCH_CHANGED)
    return gap.epoch, gap.first


def test_events_of_the_server_itself_take_their_turn_in_the_stream(state: RouterState) -> None:
    publish(state, 2)
    assert state.streams["signals"].seq == 2
    assert state.counters.events == 2
    assert state.touched == {"signals": state.streams["signals"]}
    event = list(texts(flush(state).buffer))[1]
    assert event == {
        "channel": "signals",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "event_type": "x",
        "data": {},
        "seq": 2,
    }


def test_an_announcement_says_who_it_is_about(state: RouterState) -> None:
    session = listener(state)
    state.announce("client.resumed", session, channels=["signals"])
    (event,) = texts(flush(state, "connections").buffer)
    assert event["event_type"] == "client.resumed"
    assert event["data"] == {
        "client_id": session.client_id,
        "user_id": None,
        "total_connections": 0,
        "channels": ["signals"],
    }


def test_unsubscribing_forgets_what_waits_and_tells_what_there_was(state: RouterState) -> None:
    session = listener(state, "signals", "metrics", lane=FakeLane())
    state.counters.matched = 3
    publish(state, 3)
    fan_out(state)
    queue = session.subscriptions["signals"].queue
    assert state.unsubscribe(session, ["signals", "nope", "metrics", "signals", "logs"]) == ["metrics", "signals"]
    assert session.subscriptions == {}
    assert state.subscriptions.total == 0
    assert state.buffered_events() == 0
    assert queue.discarded
    assert state.counters.matched == 0  # they were neither delivered nor lost


def test_ending_a_session_ends_its_subscriptions(state: RouterState) -> None:
    session, other = listener(state, "signals", "logs"), listener(state, "signals")
    state.end(session)
    assert state.subscriptions.total == 1
    assert list(state.subscriptions.readers("signals")) == [other.subscriptions["signals"]]
    assert list(state.sessions) == [other]


def test_a_channel_goes_on_where_nothing_waits_behind_the_last_event(state: RouterState) -> None:
    session = listener(state, "signals", "logs", lane=FakeLane())
    publish(state, 3)
    flush(state)
    publish(state, 1)  # not fanned out yet: it is still to come
    assert state.positions(session, ["signals", "logs"]) == {
        "signals": Position("first", 3),
        "logs": Position("first", 0),
    }


def test_a_channel_goes_on_before_the_first_event_that_waits(state: RouterState) -> None:
    session = listener(state, "signals", lane=FakeLane())
    publish(state, 5)
    fan_out(state)
    session.outbox.take(1)
    assert state.positions(session, ["signals"]) == {"signals": Position("first", 5)}
    publish(state, 5)
    fan_out(state)
    assert state.positions(session, ["signals"]) == {"signals": Position("first", 5)}


def test_a_channel_goes_on_amid_a_batch_of_which_a_part_is_out(state: RouterState) -> None:
    session = listener(state, "signals", lane=FakeLane())
    publish(state, 5)
    fan_out(state)
    pieces = session.outbox.take(1 << 20)
    batch = session.subscriptions["signals"].queue
    entry = pieces[0].entry
    assert isinstance(entry, Slice)
    pieces[0].sent = entry.batch.ends[1] + 3
    session.outbox.give_back(pieces)
    assert batch.events == 3
    assert state.positions(session, ["signals"]) == {"signals": Position("first", 2)}


def test_a_channel_goes_on_before_a_gap(state: RouterState) -> None:
    session = listener(state, "signals", lane=FakeLane())
    publish(state, 5)
    fan_out(state)
    session.outbox.limit(2, 1 << 20, GapReason.SLOW_CONSUMER)
    assert isinstance(session.subscriptions["signals"].queue.entries[0], Gap)
    assert state.positions(session, ["signals"]) == {"signals": Position("first", 0)}


def test_where_an_epoch_has_ended_the_channel_goes_on_in_the_old_one(state: RouterState) -> None:
    session = listener(state, "signals", lane=FakeLane())
    publish(state, 5)
    flush(state)
    begin_epoch(state)
    publish(state, 2)
    fan_out(state)
    assert state.positions(session, ["signals"]) == {"signals": Position("first", 5)}


def test_what_waits_and_what_was_lost_is_counted_over_all_sessions(state: RouterState) -> None:
    first, second = (listener(state, "signals", lane=FakeLane()) for _ in range(2))
    publish(state, 5)
    fan_out(state)
    second.outbox.limit(2, 1 << 20, GapReason.SLOW_CONSUMER)
    assert (state.buffered_events(), state.dropped_events()) == (7, 3)
    state.end(first)
    assert (state.buffered_events(), state.dropped_events()) == (2, 8)


# Soundness


def test_a_state_is_sound_at_first_and_while_it_is_used(state: RouterState) -> None:
    assert is_sound(state)
    session = listener(state, "signals", lane=FakeLane())
    publish(state, 3)
    assert is_sound(state)
    fan_out(state)
    state.sessions.detach(session, 1.0)
    assert is_sound(state)
    state.end(session)
    assert is_sound(state)


def test_a_subscription_that_is_not_in_the_table_is_unsound(state: RouterState) -> None:
    session = listener(state)
    session.subscriptions["signals"] = Subscription("signals", session.outlet)
    assert not is_sound(state)


def test_a_table_that_counts_wrong_is_unsound(state: RouterState) -> None:
    state.subscriptions.total += 1
    assert not is_sound(state)


def test_a_subscription_whose_events_go_elsewhere_is_unsound(state: RouterState) -> None:
    session, other = listener(state, "signals"), listener(state)
    session.subscriptions["signals"].outlet = other
    assert not is_sound(state)


def test_a_stream_that_counts_wrong_is_unsound(state: RouterState) -> None:
    state.streams["logs"].seq += 1
    assert not is_sound(state)


def test_events_that_some_readers_have_not_got_are_unsound(state: RouterState) -> None:
    state.fan_out = FanOut(state.streams["signals"])
    assert not is_sound(state)


# A new epoch


def test_a_new_epoch_numbers_all_channels_from_one(state: RouterState) -> None:
    publish(state, 3)
    flush(state)
    publish(state, 2, "logs")
    begin_epoch(state)
    assert state.epoch != "first"
    assert state.touched == {}
    publish(state, 1)
    publish(state, 1, "logs")
    assert state.streams["signals"].seq == state.streams["logs"].seq == 1
    assert flush(state).epoch == state.epoch
    assert is_sound(state)


def test_a_new_epoch_is_announced_once_to_every_subscription_connected_or_not(state: RouterState) -> None:
    lane = FakeLane()
    near, far = listener(state, "signals", "logs", lane=lane), listener(state, "signals")
    publish(state, 3)
    fan_out(state)
    begin_epoch(state)
    assert gap_of(near) == gap_of(far) == ("first", 4)
    assert gap_of(near, "logs") == ("first", 1)
    assert lane.woken == 1
    assert [len(session.subscriptions["signals"].queue.entries) for session in (near, far)] == [2, 2]


def test_events_that_were_not_fanned_out_when_the_epoch_ended_are_in_the_gap(state: RouterState) -> None:
    session = listener(state, "signals")
    publish(state, 3)
    fan_out(state)
    publish(state, 3)
    begin_epoch(state)
    assert gap_of(session) == ("first", 4)


def test_the_gap_of_a_new_epoch_says_where_the_channel_goes_on(state: RouterState) -> None:
    session = listener(state, "signals")
    begin_epoch(state)
    (piece,) = session.outbox.take(1)
    assert list(texts(bytes(piece.buffer))) == [
        {"type": "gap", "of": "signals", "epoch": "first", "from": 1, "to": None, "count": None,
         "reason": "epoch_changed"},
        {"type": "position", "positions": {"signals": {"epoch": state.epoch, "seq": 0}}},
    ]  # fmt: skip


def test_losses_before_and_after_a_new_epoch_are_gaps_of_their_own(state: RouterState) -> None:
    session = listener(state, "signals")
    publish(state, 3)
    fan_out(state)
    begin_epoch(state)
    publish(state, 3)
    fan_out(state)
    session.outbox.limit(1, 1 << 20, GapReason.BUFFER_OVERFLOW)
    gaps = [entry for entry in session.subscriptions["signals"].queue.entries if isinstance(entry, Gap)]
    lost = [(gap.epoch, gap.first, gap.last) for gap in gaps]
    assert lost == [("first", 1, 3), ("first", 4, None), (state.epoch, 1, 2)]


@pytest.mark.parametrize("reached", range(5))
def test_who_was_not_reached_by_a_batch_gets_it_in_the_gap_and_the_others_do_not(
    state: RouterState, reached: int
) -> None:
    """The fan-out breaks off with the last one reached, which has not got the batch."""
    sessions = [listener(state, "signals") for _ in range(4)]
    publish(state, 2)
    fan_out(state)
    publish(state, 3)
    broken = begin_fan_out(state)
    for _ in range(reached):
        next(broken)
    if not reached:
        state.fan_out = FanOut(state.streams["signals"])
        flush(state)
    begin_epoch(state)
    assert [gap_of(session) for session in sessions] == [("first", 6)] * max(0, reached - 1) + [("first", 3)] * (
        4 - max(0, reached - 1)
    )
    assert state.fan_out is None


def test_who_has_the_batch_already_where_the_fan_out_breaks_off_does_not_get_it_in_the_gap(state: RouterState) -> None:
    first, second = (listener(state, "signals") for _ in range(2))
    publish(state, 3)
    reader = next(begin_fan_out(state))
    reader.outlet.offer(reader.queue, event_batch("signals", 1, [0, 0, 0]))
    begin_epoch(state)
    assert (gap_of(first), gap_of(second)) == (("first", 4), ("first", 1))


def test_a_batch_that_broke_off_on_one_channel_is_in_no_gap_of_another(state: RouterState) -> None:
    session = listener(state, "signals", "logs")
    publish(state, 3, "logs")
    fan_out(state, "logs")
    publish(state, 3)
    next(begin_fan_out(state))
    begin_epoch(state)
    assert gap_of(session) == ("first", 1)
    assert gap_of(session, "logs") == ("first", 4)


def test_a_new_epoch_tells_positions_anew(state: RouterState) -> None:
    session = listener(state)
    subscription = Subscription("signals", session.outlet)
    subscription.set_options(filters.compile(Raw(b'{"event_type":"y"}')), Policy.DROP_OLDEST, None, state.epoch, 0)
    state.subscribe(session, subscription)
    for _ in range(2):
        publish(state, 2)
        flush(state)
        assert state.untold_positions(session) == {"signals": Position(state.epoch, 2)}
        assert state.untold_positions(session) == {}
        begin_epoch(state)
        session.outbox.take(1)


def test_a_new_epoch_mends_the_table_and_the_ways_of_events(state: RouterState) -> None:
    session, other = listener(state, "signals"), listener(state, "logs")
    stray = Subscription("signals", other)
    state.subscriptions.add(stray)
    session.subscriptions["signals"].outlet = other
    begin_epoch(state)
    assert is_sound(state)
    assert list(state.subscriptions.readers("signals")) == [session.subscriptions["signals"]]
    assert state.subscriptions.total == 2
