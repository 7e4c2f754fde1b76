"""The key of a publish: a second one with it changes nothing, for two minutes."""

import trio
from trio.testing import MockClock

from router.config import Config
from router.hub.crash import begin_epoch
from tests.router.harness import Client, Json, running, seqs


async def published(client: Client, key: str, channel: str = "signals", **fields: object) -> Json:
    client.send("publish", channel=channel, id="p", key=key, **(fields or {"event_type": "x"}))
    return await client.reply("published", id="p", channel=channel)


async def test_a_second_publish_with_the_same_key_gets_the_first_ones_answer(autojump_clock: MockClock) -> None:
    async with running() as world:
        client, other = await world.subscriber("signals"), await world.connect()
        first = await published(client, "k", events=[{"event_type": "a"}, {"event_type": "b"}])
        second = await published(other, "k")
        assert (first["seq"], first["subscribers"]) == (second["seq"], second["subscribers"]) == ([1, 2], 1)
        await published(other, "l")
        await world.settle()
        assert seqs(client.take()) == [1, 2, 3]


async def test_a_key_is_the_channels(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        for channel in ("signals", "actions"):
            assert (await published(client, "k", channel))["seq"] == [1, 1]


async def test_a_key_without_an_id_is_remembered_too(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        texts = ['{"type":"publish","channel":"signals","event_type":"x","key":"k"}'] * 3
        client.send_text(*texts, '{"type":"publish","channel":"signals","event_type":"y"}')
        await world.settle()
        assert [event["event_type"] for event in client.take()] == ["x", "y"]


async def test_events_of_a_run_are_not_joined_by_one_with_a_key(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        plain = '{"type":"publish","channel":"signals","event_type":"x"}'
        keyed = '{"type":"publish","channel":"signals","event_type":"x","key":"k"}'
        client.send_text(plain, keyed, plain, keyed, plain)
        await world.settle()
        assert seqs(client.take()) == [1, 2, 3, 4]


async def test_a_key_is_forgotten_after_two_minutes(autojump_clock: MockClock) -> None:
    async with running(Config(heartbeat_s=10, silence_s=1000), watched=True) as world:
        client = await world.connect()
        await published(client, "k")
        await trio.sleep(119.9)
        assert (await published(client, "k"))["seq"] == [1, 1]
        await trio.sleep(0.2)
        assert (await published(client, "k"))["seq"] == [2, 2], "the second one did not renew it"
        await trio.sleep(119)
        assert (await published(client, "k"))["seq"] == [2, 2]
        await trio.sleep(3)
        assert len(world.state.publish_keys) == 0


async def test_time_is_kept_when_nothing_happens(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        await published(client, "k")
        await trio.sleep(120)
        assert (await published(client, "k"))["seq"] == [2, 2]


async def test_so_many_keys_are_remembered(autojump_clock: MockClock) -> None:
    async with running(Config(max_publish_keys=2)) as world:
        client = await world.connect()
        for key in "abc":
            await published(client, key)
        assert [world.state.publish_keys.get("signals", key) is not None for key in "abc"] == [False, True, True]
        assert len(world.state.publish_keys) == 2
        assert (await published(client, "b"))["seq"] == [2, 2]
        assert (await published(client, "a"))["seq"] == [4, 4]


async def test_a_new_epoch_forgets_them(autojump_clock: MockClock) -> None:
    """The event that a key names may not have been sent yet, and is lost with the epoch."""
    async with running() as world:
        client = await world.subscriber("signals")
        assert (await published(client, "k"))["seq"] == [1, 1]
        begin_epoch(world.state)
        await world.settle()
        client.take()
        assert (await published(client, "k"))["seq"] == [1, 1]
        await world.settle()
        assert seqs(client.take()) == [1]
