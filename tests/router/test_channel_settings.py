"""A channel's own settings, over the wire: its policy, its past, the schema of its data; and other ones at a reload."""

from collections.abc import Mapping
from typing import Any

import pytest
from trio.testing import MockClock

from router.config import ChannelSettings, Config
from router.letters import Reconfigure
from router.permissions import ROLES
from router.policies import Policy
from router.schemas import Schema
from tests.router.harness import Client, World, running
from tests.router.telling import TRIMMED, at, gap, publish, told

CHANNELS = {
    "plain": ChannelSettings(),
    "newest": ChannelSettings(policy=Policy.DROP_NEWEST),
    "sensors.*": ChannelSettings(policy=Policy.LATEST, key="data.odd"),
    "last": ChannelSettings(policy=Policy.LATEST),
    "signals": ChannelSettings(policy=Policy.DISCONNECT),
}


async def reconfigure(
    world: World, channels: Mapping[str, ChannelSettings], schemas: Mapping[str, Schema] | None = None
) -> int:
    return await world.router.ask(lambda reply: Reconfigure(reply, dict(ROLES), channels, schemas or {}))


def queueing(world: World) -> dict[str, tuple[Policy, str | None]]:
    """Policy and key of each subscription of the one client."""
    (session,) = world.state.sessions
    queues = {name: each.queue for name, each in session.subscriptions.items()}
    return {name: (queue.policy, None if queue.key is None else queue.key.text) for name, queue in queues.items()}


async def subscribed(client: Client, *channels: str, **options: Any) -> None:
    client.subscribe(*channels, **options)
    await client.expect("subscribed", channels=list(channels))


# The policy


async def test_without_a_policy_each_channel_has_its_own(autojump_clock: MockClock) -> None:
    async with running(Config(channels=CHANNELS)) as world:
        client = await world.connect()
        await subscribed(client, "logs", "plain", "newest", "sensors.a", "last", "signals")
        assert queueing(world) == {
            "logs": ("drop_oldest", None),
            "plain": ("drop_oldest", None),
            "newest": ("drop_newest", None),
            "sensors.a": ("latest", "data.odd"),
            "last": ("latest", None),
            "signals": ("disconnect", None),
        }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"policy": "drop_oldest"}, ("drop_oldest", None)),
        ({"policy": "drop_newest", "key": "data.n"}, ("drop_newest", None)),
        ({"policy": "latest"}, ("latest", None)),
        ({"policy": "latest", "key": "data.n"}, ("latest", "data.n")),
    ],
)
async def test_a_policy_that_is_asked_for_stands_in_place_of_the_channels(
    options: dict[str, str], expected: tuple[str, str | None], autojump_clock: MockClock
) -> None:
    async with running(Config(channels=CHANNELS)) as world:
        client = await world.connect()
        await subscribed(client, "newest", "sensors.a", "signals", **options)
        assert set(queueing(world).values()) == {expected}


async def test_a_key_without_a_policy_is_not_looked_at(autojump_clock: MockClock) -> None:
    async with running(Config(channels=CHANNELS)) as world:
        client = await world.connect()
        await subscribed(client, "newest", "sensors.a", key="data.n")
        assert queueing(world) == {"newest": ("drop_newest", None), "sensors.a": ("latest", "data.odd")}


async def test_who_subscribes_anew_takes_the_channels_policy_of_now(autojump_clock: MockClock) -> None:
    async with running(Config(channels=CHANNELS)) as world:
        client = await world.connect()
        await subscribed(client, "newest", "last", policy="disconnect")
        await subscribed(client, "newest")
        assert queueing(world) == {"newest": ("drop_newest", None), "last": ("disconnect", None)}
        await reconfigure(world, CHANNELS | {"newest": ChannelSettings(policy=Policy.LATEST, key="seq")})
        assert queueing(world)["newest"] == ("drop_newest", None)
        await subscribed(client, "newest")
        assert queueing(world)["newest"] == ("latest", "seq")


async def test_a_slow_reader_gives_up_what_the_channel_says(autojump_clock: MockClock) -> None:
    async with running(Config(channels=CHANNELS, outbox_events=3)) as world:
        client = await world.subscriber("sensors.a")
        client.stall(0)
        await publish(world, 9, "sensors.a")
        client.flow()
        await world.settle()
        assert told(client.take(), "sensors.a")[-2:] == [8, 9]


# The past


async def test_a_past_that_is_to_be_shorter_is_cut_at_once_and_what_is_gone_is_told(autojump_clock: MockClock) -> None:
    channels = {"jobs": ChannelSettings(), "signals": ChannelSettings(history_events=20)}
    async with running(Config(history_events=10, channels=channels)) as world:
        for name in ("jobs", "signals", "logs"):
            await publish(world, 15, name)
        await reconfigure(world, {"jobs": ChannelSettings(history_events=2), "signals": ChannelSettings()})
        client = await world.connect()
        for name, held in (("jobs", 14), ("signals", 6), ("logs", 6)):
            client.send("history", channel=name, after=at(world, held - 2), id=name)
            answer = await client.expect("history", id=name, complete=False)
            assert [event["seq"] for event in answer["events"]] == [*range(held, 16)]
            client.send("history", channel=name, after=at(world, held - 1), id=name)
            assert (await client.expect("history", id=name))["complete"]
            await subscribed(client, name, recover={name: at(world, 3)})
            await world.settle()
            assert told(client.take(), name) == [gap(4, held - 1, TRIMMED), *range(held, 16)]


async def test_a_past_that_may_be_longer_grows_with_what_comes(autojump_clock: MockClock) -> None:
    async with running(Config(channels={"jobs": ChannelSettings(history_events=0)})) as world:
        await publish(world, 3, "jobs")
        await reconfigure(world, {"jobs": ChannelSettings()})
        await publish(world, 2, "jobs")
        client = await world.connect()
        await subscribed(client, "jobs", recover={"jobs": at(world, 0)})
        await world.settle()
        assert told(client.take(), "jobs") == [gap(1, 3, TRIMMED), 4, 5]


async def test_what_a_reader_is_being_sent_is_not_cut(autojump_clock: MockClock) -> None:
    async with running(Config(channels={"jobs": ChannelSettings()})) as world:
        await publish(world, 9, "jobs")
        client = await world.connect()
        client.stall(0)
        client.subscribe("jobs", last=9)
        await world.settle()
        await reconfigure(world, {"jobs": ChannelSettings(history_events=0)})
        client.flow()
        await client.expect("subscribed", recovered={"jobs": True})
        await world.settle()
        assert told(client.take(), "jobs") == [*range(1, 10)]


# The schema


async def test_an_event_that_does_not_fit_is_refused_with_its_field(autojump_clock: MockClock) -> None:
    channels = {"jobs.*": ChannelSettings(schema_file="job.json")}
    schema = Schema('{"required": ["id"], "properties": {"steps": {"items": {"type": "string"}}}}')
    async with running(Config()) as world:
        await reconfigure(world, channels, {"jobs.*": schema})
        client = await world.subscriber("jobs.1")
        client.publish("jobs.1", data={"id": 1, "steps": ["a", 5]}, id=1)
        client.publish("jobs.1", data={})
        client.publish("jobs.1", data=[], id=3)
        good, bad = {"event_type": "x", "data": {"id": 1}}, {"event_type": "x"}
        client.send("publish", channel="jobs.1", events=[good, good, bad, bad], id=4)
        client.send("publish", channel="jobs.1", events=[bad, {**good, "data": 5}], id=5)
        client.send_text('{"type":"publish","channel":"jobs.1","event_type":"x","data":{"id":1e999},"id":6}')
        client.publish("jobs.1", data={"id": 7}, id=7)
        await world.settle()
        messages = client.take()
        assert [message["seq"] for message in messages if message.get("type") == "published"] == [[1, 1]]
        errors = [message for message in messages if message.get("type") == "error"]
        assert {error.pop("code") for error in errors} == {"invalid_message"}
        assert errors == [
            {"type": "error", "id": 1, "message": 'data.steps[1]: the value is not of type "string"'},
            {"type": "error", "message": "data.id is missing"},
            {"type": "error", "id": 3, "message": "data must be an object"},
            {"type": "error", "id": 4, "index": 2, "message": "events[2].data.id is missing"},
            {"type": "error", "id": 5, "index": 1, "message": "events[1].data must be an object"},
            {"type": "error", "id": 6, "message": "data[...]: number out of range"},
        ]


async def test_each_event_of_a_run_is_looked_at(autojump_clock: MockClock) -> None:
    async with running(Config()) as world:
        await reconfigure(world, {"a": ChannelSettings(schema_file="a")}, {"a": Schema('{"required": ["n"]}')})
        client = await world.subscriber("a")
        for data in ({"n": 1}, {"n": 2}, {}, {"n": 4}, {"m": 5}):
            client.publish("a", data=data)
        await world.settle()
        messages = client.take()
        assert [event["data"]["n"] for event in messages if "seq" in event] == [1, 2, 4]
        assert [error["message"] for error in messages if "code" in error] == ["data.n is missing"] * 2
