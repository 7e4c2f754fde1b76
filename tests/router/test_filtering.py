"""Filters at work: who gets what, in which groups, and what a client is told of where it stands."""

import pytest
import trio
from trio.testing import MockClock

from router.config import Config
from router.events import MAX_DEPTH
from router.filters import Filter
from router.hub.distributing import Distributor
from tests.router.harness import running
from tests.router.telling import BREAK, SLOW, at, away, gap, publish, short, told

ODD = {"data.odd": 1}


async def test_a_filter_leaves_holes_and_no_gap(autojump_clock: MockClock) -> None:
    async with running() as world:
        some, every = await world.connect(), await world.subscriber("signals")
        some.subscribe("signals", filter=ODD)
        await some.expect("subscribed")
        await publish(world, 5)
        await publish(world, 1)
        assert told(some.take()) == [1, 3, 5]
        assert told(every.take()) == [*range(1, 7)]


async def test_a_gap_counts_what_matched(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=2)) as world:
        client = await world.connect()
        client.subscribe("signals", filter=ODD)
        await client.expect("subscribed")
        await publish(world, 2)
        client.take()
        client.stall()
        await publish(world, 10)  # of these one is in flight
        await publish(world, 10)
        client.flow()
        await world.settle()
        assert told(client.take()) == [3, 5, 7, 9, 11, (13, 17, 3, SLOW), 19, 21]


async def test_others_get_their_turn_while_a_filter_is_asked(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pattern may take long over a long text."""
    asked = 0
    turns: list[int] = []

    def matches(self: Filter, event: object) -> bool:
        nonlocal asked
        asked += 1
        return asked % 2 == 0

    async def turn(_: Distributor) -> None:
        turns.append(asked)
        await trio.lowlevel.checkpoint()

    async with running() as world:
        client = await world.connect()
        client.subscribe("signals", filter=ODD)
        await client.expect("subscribed")
        monkeypatch.setattr(Filter, "matches", matches)
        monkeypatch.setattr(Distributor, "_yield_if_due", turn)
        await publish(world, 40)
        assert told(client.take()) == list(range(2, 41, 2))
    assert turns == [16, 32, 40]


async def test_equal_filters_are_asked_once(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async with running() as world:
        clients = [await world.connect() for _ in range(5)]
        for client, wanted in zip(clients, [ODD, {"data.odd": {"$eq": 1}}, ODD, {"data.odd": 0}, None], strict=True):
            client.subscribe("signals", **({} if wanted is None else {"filter": wanted}))
            await client.expect("subscribed")
        groups = list(world.state.subscriptions.groups("signals"))
        assert [len(group.readers) for group in groups] == [3, 1, 1]
        for group in groups:
            if isinstance(group.filter, Filter):
                matches = group.filter.matches

                def counted(event: object, matches: object = matches) -> bool:
                    nonlocal asked
                    asked += 1
                    return bool(matches(event))  # type: ignore[operator]

                group.filter.matches = counted
        await publish(world, 4)
        assert asked == 8
        assert [told(client.take()) for client in clients] == [[1, 3]] * 3 + [[2, 4], [1, 2, 3, 4]]


async def test_a_filter_changes_with_the_next_event(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        await publish(world, 2)
        client.subscribe("signals", filter=ODD)
        await client.reply("subscribed")
        await publish(world, 3)
        client.subscribe("signals")
        await client.reply("subscribed")
        await publish(world, 2)
        client.send("unsubscribe", channels=["signals"])
        await client.reply("unsubscribed")
        assert not world.state.subscriptions.is_read("signals")


async def test_a_filter_that_cannot_be_compiled_changes_nothing(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        client.subscribe("signals", "actions", filter={"data.a": {"$near": 1}}, id=7)
        await client.expect("error", code="invalid_filter", id=7)
        client.send("get_subscriptions")
        await client.expect("subscriptions", channels=["signals"])


async def test_a_filtered_session_without_a_connection_collects_what_matches(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=2)) as world:
        client = await world.connect()
        client.subscribe("signals", filter=ODD)
        await client.expect("subscribed")
        await away(world, client)
        await publish(world, 8)
        back = await world.connect(resume=client.token)
        await world.settle()
        assert told(back.take()) == [(1, 3, 2, "buffer_overflow"), 5, 7]


# Where a filtered subscription stands


async def test_a_position_comes_with_the_heartbeat_where_no_event_told_it(autojump_clock: MockClock) -> None:
    async with running(watched=True) as world:
        client = await world.connect("heartbeat=message")
        client.subscribe("signals", "actions", filter=ODD)
        client.subscribe("logs")
        await client.reply("subscribed")
        await client.reply("subscribed")
        await publish(world, 4)
        await publish(world, 5, "actions")
        await publish(world, 2, "logs")
        await trio.sleep(31)
        client.send("pong")
        messages = [message for message in client.take() if "type" in message]
        assert [message["type"] for message in messages] == ["ping", "position"]
        assert messages[1] == {"type": "position", "positions": {"signals": at(world, 4)}}
        await trio.sleep(30)
        client.send("pong")
        assert [message["type"] for message in client.take()] == ["ping"], "it is told once"
        await publish(world, 1, "actions")
        await trio.sleep(30)
        position = client.take()[-1]
        assert position == {"type": "position", "positions": {"actions": at(world, 6)}}


async def test_no_position_is_told_while_something_waits_before_it(autojump_clock: MockClock) -> None:
    async with running(watched=True) as world:
        client = await world.connect()
        client.subscribe("signals", filter=ODD)
        await client.expect("subscribed")
        client.stall(10)
        await publish(world, 1)
        await publish(world, 3)
        await publish(world, 1)
        for _ in range(2):
            await trio.sleep(31)
            client.send("pong")
        await publish(world, 1)
        client.flow()
        await world.settle()
        assert told(client.take(), None) == [1, 3, 5]
        await trio.sleep(31)
        assert told(client.take(), None) == ["position"]


async def test_a_client_that_is_still_to_say_where_it_goes_on_is_told_no_position(autojump_clock: MockClock) -> None:
    async with running(Config(heartbeat_s=1), watched=True) as world:
        client = await world.connect()
        client.subscribe("signals", filter={"data.n": 0})
        await client.expect("subscribed")
        await away(world, client)
        await publish(world, 2)
        back = await world.connect("resume=1", resume=client.token)
        await trio.sleep(3.5)
        assert told(back.take(), None) == []
        await trio.sleep(3)
        assert told(back.take(), None) == ["position"]


async def test_after_a_new_epoch_positions_are_of_it(autojump_clock: MockClock) -> None:
    async with running(watched=True) as world:
        client = await world.connect()
        client.subscribe("signals", filter={"data.n": 0})
        await client.expect("subscribed")
        await publish(world, 5)
        world.state.streams["signals"].seq += 1
        await world.crash()
        await publish(world, 2)
        await trio.sleep(31)
        assert client.take()[-1] == {"type": "position", "positions": {"signals": at(world, 2)}}


async def test_no_position_is_told_amid_a_fan_out_that_broke_off(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    async with running(Config(heartbeat_s=1), watched=True) as world:
        client = await world.connect()
        client.subscribe("signals", filter=ODD)
        await client.expect("subscribed")
        await trio.sleep(0.95)  # the router is not back when the heartbeat comes
        with monkeypatch.context() as patch:
            patch.setattr("router.lanes.Lane.offer", fail)
            await publish(world, 2)
        await trio.sleep(1)
        [lost, _] = client.take()
        assert short(lost) == gap(1, None, BREAK)


async def test_data_of_no_depth_harm_those_who_look_into_them(autojump_clock: MockClock) -> None:
    """How much room decoders have on the stack depends on who calls them: what one took, another had to give up on."""
    async with running() as world:
        publisher, late = await world.connect(), await world.connect()
        filtered, keyed = await world.connect(), await world.connect()
        filtered.subscribe("actions", filter={"data.a": {"$exists": True}})
        await filtered.expect("subscribed")
        keyed.subscribe("actions", policy="latest", key="data.a")
        await keyed.expect("subscribed")
        for depth in [*range(200, 900, 50), MAX_DEPTH, MAX_DEPTH + 1, *range(900, 1010)]:
            event = '"event_type":"x","data":' + '{"a":' * depth + "1" + "}" * depth
            for events in (event, f'"events":[{{{event}}}]'):
                publisher.send_text(f'{{"type":"publish","channel":"actions","id":1,{events}}}')
                await world.settle()
                (answer,) = publisher.take()
                assert answer["type"] == ("published" if depth <= MAX_DEPTH else "error")
        late.subscribe("actions", last=100, filter={"data.a": {"$exists": True}})
        await world.settle()
        seqs = [*range(1, 17)]
        assert [told(client.take(), "actions") for client in (filtered, keyed, late)] == [seqs, seqs, seqs]
        assert world.restarts == 0
