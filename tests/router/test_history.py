"""A channel's past: the ring that holds it, and what `history` answers."""

import json
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from router.batches import Batch
from router.clock import Clock
from router.config import ChannelSettings, Config
from router.engine.memory import Stream
from router.history import Ring
from router.letters import Emit
from tests.router.harness import WITH_KEY, Json, World, running
from tests.router.lanes.streams import event_batch
from tests.router.telling import TRIMMED, at, away, publish, told

# The ring


def timed(first_seq: int, *events: tuple[int, int]) -> Batch:
    """A batch of events, each published at a time, in Unix milliseconds, and so much longer than it has to be."""
    stream, clock = Stream("a", first_seq - 1), Clock()
    for unix_ms, size in events:
        stream.stamp(unix_ms, clock)
        stream.append([Emit("a", "x", b'{"x":"%b"}' % (b"x" * size))])
    batch = stream.flush("e")
    assert batch is not None
    return batch


def seqs_in(ring: Ring, after: int = 0) -> list[int]:
    found: list[int] = []
    for part in ring.after(after):
        assert part.batch.seqs is not None
        found += part.batch.seqs[part.start : part.stop]
    return found


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are joined already where there are three of few events."""
    monkeypatch.setattr("router.history._JOIN", 3)


#: Of one batch: how long after the one before each event came, and how much longer it is than it has to be.
BATCHES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1, max_size=5)


@pytest.mark.usefixtures("joins")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(BATCHES, max_size=12),
    max_events=st.integers(0, 8),
    max_bytes=st.integers(1, 1200),
    max_age_ms=st.none() | st.integers(1, 12),
)
def test_it_holds_the_newest_events_that_the_bounds_allow(
    batches: list[list[tuple[int, int]]], max_events: int, max_bytes: int, max_age_ms: int | None
) -> None:
    ring = Ring(max_events, max_bytes, max_age_ms)
    frames: list[tuple[int, int, int]] = []  # seq, bytes, time
    now = 0
    for steps in batches:
        events = []
        for step, size in steps:
            now += step
            events.append((now, size))
        batch = timed(ring.last + 1, *events)
        for n, (time, _) in enumerate(events):
            frames.append((ring.last + 1 + n, batch.ends[n] - batch.offset(n), time))
        ring.append(batch)
        ring.expire(now)
        expected: list[int] = []
        total = 0
        for seq, size, time in reversed(frames):
            total += size
            young = max_age_ms is None or time > now - max_age_ms
            if len(expected) == max_events or total > max_bytes or not young:
                break
            expected.insert(0, seq)
        assert seqs_in(ring) == expected
        assert ring.last == frames[-1][0]
        assert ring.first == (expected[0] if expected else ring.last + 1)
        assert ring.size == sum(size for seq, size, _ in frames if seq in expected)
        gone = [time for seq, _, time in frames if seq not in expected]
        assert ring.newest_gone == (Clock().timestamp(gone[-1]).encode() if gone else b"")
        assert ring.is_sound()
        for after in range(ring.last + 1):
            assert seqs_in(ring, after) == [seq for seq in expected if seq > after]


@given(
    steps=st.lists(
        st.lists(st.integers(0, 50), min_size=1, max_size=5)
        | st.tuples(st.integers(0, 8), st.integers(1, 1200), st.none() | st.integers(1, 4)),
        max_size=12,
    )
)
def test_it_takes_other_bounds_at_once(steps: list[list[int] | tuple[int, int, int | None]]) -> None:
    """What a smaller bound has let go of does not come back under a larger one."""
    max_events, max_bytes, max_age_ms = 5, 600, None
    ring = Ring(max_events, max_bytes, max_age_ms)
    held: list[tuple[int, int, int]] = []  # seq, bytes, time
    for now, step in enumerate(steps):
        if isinstance(step, list):
            batch = timed(ring.last + 1, *((now, size) for size in step))
            held += [(ring.last + 1 + n, batch.ends[n] - batch.offset(n), now) for n in range(len(batch))]
            ring.append(batch)
            ring.expire(now)
        else:
            max_events, max_bytes, max_age_ms = step
            ring.set_bounds(*step, now)
        while held and (
            len(held) > max_events
            or sum(size for _, size, _ in held) > max_bytes
            or (max_age_ms is not None and held[0][2] <= now - max_age_ms)
        ):
            del held[0]
        assert seqs_in(ring) == [seq for seq, _, _ in held]
        assert ring.first == (held[0][0] if held else ring.last + 1)
        assert ring.size == sum(size for _, size, _ in held)
        assert ring.is_sound()


def test_events_that_came_singly_are_joined(joins: None) -> None:
    ring = Ring(100, 10_000)
    singly = [event_batch("a", seq, [seq]) for seq in range(1, 8)]
    for batch in singly:
        ring.append(batch)
    assert [len(part) for part in ring.after(0)] == [3, 3, 1]
    assert [len(part) for part in ring.after(1)] == [2, 3, 1]
    frames = b"".join(bytes(part.buffer) for part in ring.after(0))
    assert frames == b"".join(batch.buffer for batch in singly)
    assert {part.epoch for part in ring.after(0)} == {singly[0].epoch}


def test_large_batches_are_not_joined(joins: None) -> None:
    ring = Ring(100, 1 << 20)
    for first, sizes in ((1, [0]), (2, [0]), (3, [0, 0, 0]), (6, [0]), (7, [3000]), (8, [0])):
        ring.append(event_batch("a", first, sizes))
    assert [len(part) for part in ring.after(0)] == [1, 1, 3, 1, 1, 1]


@pytest.mark.parametrize("before", [None, 86_400_000])
@pytest.mark.parametrize("events", [31, 32, 33, 64])
def test_each_event_goes_by_its_own_age_though_it_was_joined_with_others(events: int, before: int | None) -> None:
    """Also where the age that counts is set, or made less, when they were joined long ago."""
    ring, minute = Ring(100, 1 << 20, before), 60_000
    for seq in range(1, events + 1):
        ring.append(timed(seq, (seq * minute, 0)))
    ring.set_bounds(100, 1 << 20, 10 * minute, events * minute)
    assert seqs_in(ring) == [*range(events - 9, events + 1)]
    ring.expire(events * minute + 59_999)
    assert ring.events == 10
    ring.expire(events * minute + 60_000)
    assert seqs_in(ring) == [*range(events - 8, events + 1)]
    assert ring.is_sound()


def test_an_age_beyond_all_times_lets_nothing_go() -> None:
    ring = Ring(10, 1000, 10**18)
    ring.append(timed(1, (1, 0)))
    ring.expire(1000)
    assert seqs_in(ring) == [1]


def test_what_is_too_old_goes_without_a_new_event_too() -> None:
    ring = Ring(10, 1000, 60)
    ring.append(timed(1, (0, 0), (0, 0)))
    ring.append(timed(3, (30, 0)))
    ring.expire(59)
    assert seqs_in(ring) == [1, 2, 3]
    ring.expire(60)
    assert seqs_in(ring) == [3]
    ring.expire(1000)
    assert (seqs_in(ring), ring.first, ring.last, ring.size) == ([], 4, 3, 0)


def test_it_hands_out_references() -> None:
    ring, batch = Ring(10, 1000, 10), timed(1, (0, 0), (1, 0), (2, 0))
    ring.append(batch)
    (part,) = ring.after(1)
    assert part.batch is batch
    part.start = part.stop
    assert seqs_in(ring) == [1, 2, 3]
    ring.expire(10)
    assert [each.batch is batch for each in ring.after(0)] == [True]
    assert seqs_in(ring) == [2, 3]


@pytest.mark.parametrize("tamper", ["events", "size"])
def test_parts_that_do_not_agree_are_found(tamper: str) -> None:
    ring = Ring(10, 1000)
    ring.append(event_batch("a", 1, [0, 0]))
    assert ring.is_sound()
    setattr(ring, tamper, 1)
    assert not ring.is_sound()


def test_a_new_epoch_forgets_all() -> None:
    ring = Ring(1, 1000, last=7, newest_gone=b"some time", doubtful=5)
    ring.append(timed(8, (0, 0), (0, 0)))
    ring.restart()
    assert (seqs_in(ring), ring.first, ring.last, ring.is_sound()) == ([], 1, 0, True)
    assert (ring.newest_gone, ring.doubtful) == (b"", 0)


@given(
    times=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=6),
    held=st.integers(1, 20),
    name=st.sampled_from(["a", "metrics", "n" * 64]),
    wanted=st.integers(0, 20),
)
def test_the_events_of_a_time_are_found(times: list[list[int]], held: int, name: str, wanted: int) -> None:
    clock = Clock()
    stream = Stream(name, ring=Ring(held, 1 << 20))
    now, known = 0, {}
    for steps in times:
        for step in steps:
            now += step
            stream.stamp(now, clock)
            stream.append([Emit(name, "t" * 128, json.dumps({"timestamp": "x" * step}).encode())])
            known[stream.seq] = now
        stream.flush("e")
    later = [seq for seq, time in known.items() if time >= wanted and seq >= stream.ring.first]
    found = stream.ring.before(clock.timestamp(wanted))
    assert found == (later[0] - 1 if later else stream.ring.last)


# What a batch knows of its events


def test_a_batch_shows_its_events_one_by_one() -> None:
    stream = Stream("signals", ring=Ring(10, 1 << 20))
    stream.stamp(0, Clock())
    for data in (b"{}", b'{"text":"%b"}' % (b"x" * 200), b'{"text":"%b"}' % (b"x" * 70_000)):
        stream.append([Emit("signals", "x", data)])
    batch = stream.flush("e")
    assert batch is not None
    for index in range(3):
        assert json.loads(bytes(batch.payload(index)))["seq"] == index + 1
        assert batch.timestamp(index) == b"1970-01-01T00:00:00.000Z"
        assert batch.candidate(index).seq == index + 1
        assert batch.before(index) == index


def test_events_without_positions_are_before_nothing() -> None:
    batch = Batch(b"xy", (1, 2), None, "e")
    assert (batch.before(0), batch.before(1)) == (None, None)


def test_some_of_a_batch_remember_what_was_before_them() -> None:
    batch = event_batch("a", 5, [0, 1, 2, 3])
    some, every, none = batch.select([1, 3], 2), batch.select(range(4), 2), batch.select([], 2)
    assert some is not None
    assert every is not None
    assert none is None
    assert (some.seqs, some.before(0), some.before(1)) == ([6, 8], 2, 6)
    assert bytes(some.buffer) == batch.buffer[batch.ends[0] : batch.ends[1]] + batch.buffer[batch.ends[2] :]
    assert every.buffer is batch.buffer
    assert every.before(0) == 2


# `history`


async def asked(world: World, **fields: Any) -> Json:
    client = await world.connect()
    client.send("history", channel="signals", id="h", **fields)
    answer = await client.reply("history", id="h", channel="signals", epoch=world.state.epoch)
    answer["seqs"] = [event["seq"] for event in answer["events"]]
    return answer


@pytest.mark.parametrize(
    ("fields", "seqs", "complete", "more"),
    [
        ({}, range(6, 16), False, False),
        ({"limit": 20}, range(6, 16), False, False),
        ({"limit": 3}, range(13, 16), True, False),
        ({"last": 3}, range(13, 16), True, False),
        ({"last": 10}, range(6, 16), True, False),
        ({"last": 11}, range(6, 16), False, False),
        ({"last": 5, "limit": 2}, range(11, 13), True, True),
        ({"after": 5}, range(6, 16), True, False),
        ({"after": 5, "limit": 2}, range(6, 8), True, True),
        ({"after": 13, "limit": 2}, range(14, 16), True, False),
        ({"after": 15}, range(0), True, False),
        ({"after": 3}, range(6, 16), False, False),
        ({"after": 0, "limit": 1}, range(6, 7), False, True),
    ],
)
async def test_history_answers_with_what_is_held(
    fields: dict[str, Any], seqs: range, complete: bool, more: bool, autojump_clock: MockClock
) -> None:
    async with running(Config(history_events=10)) as world:
        await publish(world, 15)
        if "after" in fields:
            fields = fields | {"after": at(world, fields["after"])}
        answer = await asked(world, **fields)
        assert (answer["seqs"], answer["complete"], answer["more"]) == ([*seqs], complete, more)


async def test_an_event_of_the_past_is_as_it_was(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        await publish(world, 3)
        live = client.take()
        assert (await asked(world))["events"] == live


async def test_history_since_a_time(autojump_clock: MockClock) -> None:
    async with running(Config(history_events=4)) as world:
        for _ in range(3):
            await trio.sleep(60)
            await publish(world, 2)
        assert (await asked(world, since="2024-12-29T12:03:00Z"))["seqs"] == [5, 6]
        answer = await asked(world, since="2024-12-29T12:02:00.001Z")
        assert (answer["seqs"], answer["complete"]) == ([5, 6], True)
        answer = await asked(world, since="2024-12-29T12:01:00.001Z")
        assert (answer["seqs"], answer["complete"]) == ([3, 4, 5, 6], True)
        answer = await asked(world, since="2024-12-29T12:01:00Z")
        assert (answer["seqs"], answer["complete"]) == ([3, 4, 5, 6], False)
        answer = await asked(world, since="2024-12-29T13:00:00Z")
        assert (answer["seqs"], answer["complete"]) == ([], True)
        answer = await asked(world, since="9999-12-31T23:59:59-05:00")
        assert (answer["seqs"], answer["complete"]) == ([], True)
        answer = await asked(world, since="0001-01-01T00:00:00+05:00")
        assert (answer["seqs"], answer["complete"]) == ([3, 4, 5, 6], False)


async def test_an_answer_is_no_larger_than_a_message_may_be(autojump_clock: MockClock) -> None:
    async with running(Config(max_message_bytes=2000)) as world:
        for _ in range(20):
            world.router.tell(Emit("signals", "x", json.dumps({"text": "x" * 200}).encode()))
        await world.settle()
        position, got = 0, []
        more = True
        while more:
            answer = await asked(world, after=at(world, position), limit=1000)
            assert len(json.dumps(answer, separators=(",", ":"))) < 2100
            got += answer["seqs"]
            position, more = got[-1], answer["more"]
        assert got == [*range(1, 21)]


async def test_one_event_is_answered_with_however_large_it_is(autojump_clock: MockClock) -> None:
    async with running(Config(max_message_bytes=600)) as world:
        world.router.tell(Emit("signals", "x", json.dumps({"text": "x" * 700}).encode()))
        await publish(world, 1)
        answer = await asked(world)
        assert (answer["seqs"], answer["more"]) == ([1], True)


@pytest.mark.parametrize(("seq", "epoch"), [(16, None), (3, "elder"), (99, "x" * 1000)])
async def test_of_another_epoch_and_of_the_future_there_is_no_history(
    seq: int, epoch: str | None, autojump_clock: MockClock
) -> None:
    async with running() as world:
        await publish(world, 15)
        client = await world.connect()
        client.send("history", channel="signals", id=1, after=at(world, seq, epoch))
        error = await client.expect("error", id=1, code="history_unavailable", epoch=world.state.epoch)
        assert len(error["message"]) < 150


async def test_history_of_a_familys_channel_that_is_new(autojump_clock: MockClock) -> None:
    async with running(Config(channels={"orders.*": ChannelSettings()}, max_channels=7)) as world:
        client = await world.connect()
        client.send("history", channel="orders.1", id=1)
        await client.expect("history", id=1, events=[], complete=True, more=False)
        client.send("history", channel="orders.2", id=2)
        text = "no room for channel orders.2: the limit max_channels = 7 is reached"
        await client.expect("error", id=2, code="unknown_channel", message=text)


async def test_history_needs_permission(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        client = await world.connect()
        client.send("history", channel="signals", id=1)
        await client.expect("error", id=1, code="permission_denied", message="Permission denied for channel: signals")
        client.send("history", channel="nope", id=2)
        await client.expect("error", id=2, code="unknown_channel", message="Unknown channel: nope")
        client.send("history", channel="metrics", id=3)
        await client.expect("history", id=3)


async def test_history_counts_what_was_published_just_before(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        client.send_text(
            '{"type":"publish","channel":"signals","event_type":"x"}', '{"type":"history","channel":"signals"}'
        )
        assert len((await client.reply("history"))["events"]) == 1


async def test_what_is_too_old_is_held_no_more(autojump_clock: MockClock) -> None:
    async with running(Config(history_age_s=60), watched=True) as world:
        await publish(world, 2)
        await trio.sleep(40)
        await publish(world, 1)
        await trio.sleep(30)
        answer = await asked(world, last=5)
        assert (answer["seqs"], answer["complete"]) == ([3], False)
        await trio.sleep(60)
        assert world.state.streams["signals"].ring.events == 0


#: Each with whether nothing is missing, where the only event is gone.
WAYS = [({"last": 5}, False), ({"since": "2024-12-29T12:00:00Z"}, False), ({"since": "2024-12-29T12:00:00.001Z"}, True)]


@pytest.mark.parametrize(("fields", "complete"), [*WAYS, ({}, False), ({"after": 0}, False), ({"after": 1}, True)])
async def test_what_is_as_old_as_it_may_be_is_told_no_more(
    fields: dict[str, Any], complete: bool, autojump_clock: MockClock
) -> None:
    """To the millisecond, though nothing else has happened meanwhile."""
    async with running(Config(history_age_s=60)) as world:
        await publish(world, 1)
        if "after" in fields:
            fields = fields | {"after": at(world, fields["after"])}
        client = await world.connect()
        await trio.sleep(59.999)
        client.send("history", channel="signals", last=5)
        assert len((await client.reply("history"))["events"]) == 1
        await trio.sleep(0.001)
        client.send("history", channel="signals", **fields)
        await client.expect("history", events=[], complete=complete, more=False)


@pytest.mark.parametrize(("options", "complete"), [*WAYS, ({"recover": 0}, False), ({"recover": 1}, True)])
async def test_nor_is_it_sent_to_a_new_subscription(
    options: dict[str, Any], complete: bool, autojump_clock: MockClock
) -> None:
    async with running(Config(history_age_s=60)) as world:
        await publish(world, 1)
        if "recover" in options:
            options = {"recover": {"signals": at(world, options["recover"])}}
        client = await world.connect()
        await trio.sleep(60)
        client.subscribe("signals", **options)
        await client.expect("subscribed", recovered={"signals": complete or "last" in options})
        await world.settle()
        start = None if "since" in options else 1
        assert told(client.take()) == ([] if complete or "last" in options else [(start, 1, start, TRIMMED)])


async def test_nor_is_it_sent_by_a_resume(autojump_clock: MockClock) -> None:
    async with running(Config(history_age_s=60, heartbeat_s=1000)) as world:
        client = await world.subscriber("signals")
        await publish(world, 1)
        await trio.sleep(30)
        await publish(world, 1)
        await away(world, client)
        await trio.sleep(29)
        back = await world.connect("resume=1", resume=client.token)
        await trio.sleep(1)
        back.send("resume", positions={"signals": at(world, 0)})
        await world.settle()
        assert told(back.take()) == [(1, 1, 1, TRIMMED), 2]


@pytest.mark.parametrize("held", [0, 1])
async def test_since_a_time_nothing_is_missing_where_what_is_gone_is_older(
    held: int, autojump_clock: MockClock
) -> None:
    async with running(Config(history_events=held)) as world:
        await publish(world, 2)
        await trio.sleep(60)
        answer = await asked(world, since="2024-12-29T12:00:00.001Z")
        assert (answer["seqs"], answer["complete"]) == ([], True)
        answer = await asked(world, since="2024-12-29T12:00:00Z")
        assert (answer["seqs"], answer["complete"]) == ([2] * held, False)
        client = await world.connect()
        client.subscribe("signals", since="2030-01-01T00:00:00Z")
        await client.expect("subscribed", recovered={"signals": True})
        await world.settle()
        assert told(client.take()) == []


async def test_without_history_nothing_is_held(autojump_clock: MockClock) -> None:
    async with running(Config(history_events=0)) as world:
        await publish(world, 2)
        assert (await asked(world))["seqs"] == []
        client = await world.connect()
        client.subscribe("signals", last=5)
        await client.expect("subscribed", positions={"signals": at(world, 2)})
        await publish(world, 1)
        assert told(client.take()) == [3]
