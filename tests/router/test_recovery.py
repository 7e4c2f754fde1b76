"""The past at a subscription: each case of `recover`, `last` and `since`, with and without a filter."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.config import Config
from tests.router.harness import Client, Json, World, running
from tests.router.telling import BREAK, OVERFLOW, TRIMMED, Short, at, away, gap, publish, short, told

SMALL = Config(history_events=10)
ODD = {"data.odd": 1}


async def with_past(world: World, count: int = 15) -> Client:
    """Events 1 to 15 are published; 6 to 15 are held."""
    await publish(world, 4)
    await publish(world, count - 4)
    return await world.connect()


async def subscribed(
    world: World, client: Client, channel: str = "signals", **options: Any
) -> tuple[Json, list[Short]]:
    """The answer to a subscription, and what came of the past, before an event that is published then."""
    client.subscribe(channel, **options)
    answer = await client.expect("subscribed", channels=[channel])
    seq = world.state.streams[channel].seq
    await world.settle()
    await publish(world, 1, channel)
    *past, live = told(client.take(), channel)
    assert live == seq + 1
    return answer, past


def odd(*seqs: int) -> list[Short]:
    return [seq for seq in range(*seqs) if seq % 2]


@pytest.mark.parametrize(
    ("seq", "start", "recovered", "past"),
    [
        (15, 15, True, []),
        (12, 12, True, [13, 14, 15]),
        (5, 5, True, [*range(6, 16)]),
        (4, 4, False, [gap(5, 5, TRIMMED), *range(6, 16)]),
        (0, 0, False, [gap(1, 5, TRIMMED), *range(6, 16)]),
        (16, 0, False, [gap(17, None, BREAK), gap(1, 5, TRIMMED), *range(6, 16)]),
    ],
)
async def test_what_follows_a_position_is_sent(
    seq: int, start: int, recovered: bool, past: list[Short], autojump_clock: MockClock
) -> None:
    async with running(SMALL) as world:
        client = await with_past(world)
        answer, came = await subscribed(world, client, recover={"signals": at(world, seq)})
        assert answer["positions"] == {"signals": at(world, start)}
        assert answer["recovered"] == {"signals": recovered}
        assert came == past


@pytest.mark.parametrize("seq", [0, 3, 15, 99])
async def test_a_position_of_another_epoch_is_told_and_all_that_is_held_follows(
    seq: int, autojump_clock: MockClock
) -> None:
    async with running(SMALL) as world:
        client = await with_past(world)
        client.subscribe("signals", recover={"signals": at(world, seq, "elder")})
        answer = await client.expect("subscribed", recovered={"signals": False})
        assert answer["positions"] == {"signals": at(world, 0)}
        await world.settle()
        messages = client.take()
        assert messages[0]["epoch"] == "elder"
        assert told(messages) == [gap(seq + 1, None, BREAK), gap(1, 5, TRIMMED), *range(6, 16)]


@pytest.mark.parametrize(
    ("seq", "past"),
    [
        (15, []),
        (14, [15]),
        (7, [9, 11, 13, 15]),
        (5, [7, 9, 11, 13, 15]),
        (2, [(3, 5, 3, TRIMMED, "inexact"), 7, 9, 11, 13, 15]),
    ],
)
async def test_a_filter_is_asked_about_the_past_as_far_as_it_is_there(
    seq: int, past: list[Short], autojump_clock: MockClock
) -> None:
    async with running(SMALL) as world:
        client = await with_past(world)
        client.subscribe("signals", filter=ODD, recover={"signals": at(world, seq)})
        await client.expect("subscribed", positions={"signals": at(world, seq)}, recovered={"signals": seq >= 5})
        await world.settle()
        assert told(client.take()) == past
        await publish(world, 4)
        assert told(client.take()) == [17, 19]


async def test_more_than_is_replayed_at_once_is_one_gap_for_the_oldest(autojump_clock: MockClock) -> None:
    async with running(Config(history_events=10, max_replay=4)) as world:
        client = await with_past(world)
        _, came = await subscribed(world, client, recover={"signals": at(world, 3)})
        assert came == [gap(4, 11, OVERFLOW), *range(12, 16)]


async def test_what_is_replayed_at_once_is_the_newest_of_all_channels(autojump_clock: MockClock) -> None:
    async with running(Config(max_replay=4)) as world:
        await publish(world, 3)
        await trio.sleep(1)
        await publish(world, 3, "actions")
        client = await world.connect()
        client.subscribe("signals", "actions", recover={"signals": at(world, 0), "actions": at(world, 1)})
        await client.expect("subscribed", recovered={"signals": False, "actions": True})
        await world.settle()
        messages = client.take()
        assert told(messages) == [gap(1, 1, OVERFLOW), 2, 3]
        assert told(messages, "actions") == [2, 3]


async def test_a_filter_counts_what_a_bound_costs_exactly(autojump_clock: MockClock) -> None:
    async with running(Config(max_replay=2)) as world:
        client = await with_past(world)
        client.subscribe("signals", filter=ODD, recover={"signals": at(world, 0)})
        await client.expect("subscribed", recovered={"signals": False})
        await world.settle()
        assert told(client.take()) == [(1, 11, 6, OVERFLOW), 13, 15]


@pytest.mark.parametrize(
    ("options", "start", "past"),
    [
        ({"last": 3}, 12, [13, 14, 15]),
        ({"last": 6}, 9, [*range(10, 16)]),
        ({"last": 10}, 5, [*range(6, 16)]),
        ({"last": 50}, 5, [*range(6, 16)]),
        ({"last": 3, "filter": ODD}, 10, [11, 13, 15]),
        ({"last": 50, "filter": ODD}, 6, [7, 9, 11, 13, 15]),
        ({"last": 3, "filter": {"data.n": {"$lt": 13}}}, 9, [10, 11, 12]),
        ({"last": 3, "filter": {"data.n": 0}}, 15, []),
    ],
)
async def test_the_last_ones_are_counted_behind_the_filter(
    options: Json, start: int, past: list[Short], autojump_clock: MockClock
) -> None:
    async with running(SMALL) as world:
        client = await with_past(world)
        client.subscribe("signals", **options)
        answer = await client.expect("subscribed", recovered={"signals": True})
        assert answer["positions"] == {"signals": at(world, start)}
        await world.settle()
        assert told(client.take()) == past


async def test_of_a_channel_without_events_the_last_ones_are_none(autojump_clock: MockClock) -> None:
    async with running(SMALL) as world:
        client = await world.connect()
        answer, came = await subscribed(world, client, last=5)
        assert (answer["positions"], answer["recovered"], came) == ({"signals": at(world, 0)}, {"signals": True}, [])


async def minutes(world: World, count: int = 6) -> None:
    """One batch of two events a minute, from 12:01 on."""
    for _ in range(count):
        await trio.sleep(60)
        await publish(world, 2)


@pytest.mark.parametrize(
    ("since", "start", "past"),
    [
        ("2024-12-29T12:03:00Z", 4, [*range(5, 13)]),
        ("2024-12-29T12:03:00.000Z", 4, [*range(5, 13)]),
        ("2024-12-29T14:03:00+02:00", 4, [*range(5, 13)]),
        ("2024-12-29T12:03:00.001Z", 6, [*range(7, 13)]),
        ("2024-12-29T12:06:00.001Z", 12, []),
        ("2024-12-29T12:01:00Z", 2, [(None, 2, None, TRIMMED), *range(3, 13)]),
        ("2024-12-29T12:01:00.001Z", 2, [*range(3, 13)]),
        ("2024-12-29T12:02:00Z", 2, [*range(3, 13)]),
    ],
)
async def test_what_came_since_a_time_is_sent_that_time_included(
    since: str, start: int, past: list[Short], autojump_clock: MockClock
) -> None:
    async with running(SMALL) as world:
        await minutes(world)
        client = await world.connect()
        answer, came = await subscribed(world, client, since=since)
        assert answer["positions"] == {"signals": at(world, start)}
        assert answer["recovered"] == {"signals": (None, 2, None, TRIMMED) not in past}
        assert came == past


async def test_where_all_is_held_nothing_is_missing_since_any_time(autojump_clock: MockClock) -> None:
    async with running(SMALL) as world:
        await minutes(world, 2)
        client = await world.connect()
        client.subscribe("signals", since="2024-12-29T00:00:00Z", filter=ODD)
        await client.expect("subscribed", positions={"signals": at(world, 0)}, recovered={"signals": True})
        await world.settle()
        assert told(client.take()) == [1, 3]


async def test_the_past_is_for_new_subscriptions_alone(autojump_clock: MockClock) -> None:
    async with running(SMALL) as world:
        await with_past(world)
        client = await world.subscriber("signals")
        client.subscribe("signals", "actions", last=3)
        answer = await client.expect("subscribed", channels=["signals", "actions"], recovered={"actions": True})
        assert answer["positions"]["signals"] == at(world, 15)
        await world.settle()
        assert told(client.take()) == []


async def test_a_position_for_a_channel_that_is_not_asked_for_is_ignored(autojump_clock: MockClock) -> None:
    async with running(SMALL) as world:
        client = await with_past(world)
        client.subscribe("actions", recover={"signals": at(world, 3)})
        answer = await client.expect("subscribed", channels=["actions"])
        assert "recovered" not in answer
        await world.settle()
        assert client.take() == []


async def test_live_events_follow_a_past_that_the_client_is_slow_to_take(autojump_clock: MockClock) -> None:
    """The past counts for no bound of the outbox; what comes meanwhile does."""
    config = Config(outbox_events=3)
    async with running(config) as world:
        client = await with_past(world)
        client.stall(200)
        client.subscribe("signals", last=15)
        await world.settle()
        await publish(world, 5)
        client.flow()
        await client.expect("subscribed")
        await world.settle()
        assert told(client.take()) == [*range(1, 16), gap(16, 17), 18, 19, 20]


async def test_what_the_client_had_not_taken_of_the_past_comes_when_it_is_back(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await with_past(world)
        client.subscribe("signals", last=10)
        await client.expect("subscribed")
        await world.settle()
        assert told(client.take()) == [*range(6, 16)]
        client.send("unsubscribe", channels=["signals"])
        await client.expect("unsubscribed")
        client.stall(1000)
        client.subscribe("signals", last=10)
        await client.expect("subscribed")
        await world.settle()
        had = told(client.take())
        assert 0 < len(had) < 10
        client.vanish()
        await publish(world)
        back = await world.connect(resume=client.token)
        assert back.connected["positions"] == {"signals": at(world, 5 + len(had))}
        await world.settle()
        assert had + told(back.take()) == [*range(6, 17)]


async def test_a_gap_of_unknown_beginning_is_no_obstacle_when_its_client_comes_back(autojump_clock: MockClock) -> None:
    async with running(SMALL) as world:
        await minutes(world)
        client = await world.connect()
        client.stall(0)
        client.subscribe("signals", since="2024-12-29T12:01:00Z")
        await world.settle()
        await away(world, client)
        back = await world.connect(resume=client.token)
        assert back.connected["positions"] == {"signals": at(world, 2)}
        await world.settle()
        assert [short(message) for message in back.take()] == [(None, 2, None, TRIMMED), *range(3, 13)]


async def test_a_subscription_that_ends_takes_its_past_with_it(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await with_past(world)
        client.stall(150)
        client.subscribe("signals", "actions", last=10)
        client.send("unsubscribe", channels=["signals"])
        await world.settle()
        await publish(world, 1, "actions")
        client.flow()
        await world.settle()
        messages = client.take()
        assert [message["type"] for message in messages if "type" in message] == ["subscribed", "unsubscribed"]
        assert told(messages, "actions") == [1]
        assert world.state.buffered_events() == 0


async def test_a_position_of_another_epoch_where_nothing_has_come_yet(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        client.subscribe("signals", recover={"signals": at(world, 3, "elder")})
        await client.expect("subscribed", positions={"signals": at(world, 0)}, recovered={"signals": False})
        await publish(world, 2)
        assert [short(message) for message in client.take()] == [gap(4, None, BREAK), "position", 1, 2]
