"""Channels of the configuration, over the wire: made at first use, dropped when idle, taken away by another one."""

import pytest
import trio
from trio.testing import MockClock

from router.config import ChannelSettings, Config
from router.letters import Reconfigure
from router.permissions import ROLES, RolePermissions
from tests.router.harness import WITH_KEY, Client, World, running, seqs
from tests.router.telling import TRIMMED, at, told

FAMILY = {"orders.*": ChannelSettings(subscribe=("admin", "viewer"), publish=("admin",))}
SETTINGS = Config(channels=FAMILY, channel_idle_s=100)


async def reconfigure(
    world: World, channels: dict[str, ChannelSettings], roles: dict[str, RolePermissions] | None = None
) -> int:
    table = dict(ROLES) if roles is None else roles
    return await world.router.ask(lambda reply: Reconfigure(reply, table, channels))


async def publish(client: Client, channel: str) -> int:
    """Publish one event. Returns its seq."""
    client.publish(channel, id=1)
    published = await client.reply("published", channel=channel)
    return int(published["seq"][0])


async def test_a_familys_channel_is_there_as_soon_as_it_is_used(autojump_clock: MockClock) -> None:
    async with running(SETTINGS) as world:
        reader = await world.subscriber("orders.1", "orders.2")
        writer = await world.connect()
        assert await publish(writer, "orders.2") == 1
        assert await publish(writer, "orders.3") == 1
        await world.settle()
        assert seqs(reader.take(), "orders.2") == [1]
        writer.subscribe("orders.3", "orders", "order.1", id=2)
        subscribed = await writer.reply("subscribed", channels=["orders.3"], denied=["orders", "order.1"])
        assert subscribed["positions"]["orders.3"]["seq"] == 1
        assert subscribed["reasons"] == {"orders": "unknown_channel", "order.1": "unknown_channel"}


async def test_data_of_a_configured_channel_are_any_object(autojump_clock: MockClock) -> None:
    async with running(SETTINGS) as world:
        client = await world.subscriber("orders.1")
        client.publish("orders.1", data=[1], id=1)
        await client.expect("error", code="invalid_message", message="data must be an object")
        client.publish("orders.1", data={"a": [1]})
        await client.expect(channel="orders.1", data={"a": [1]}, seq=1)


async def test_an_idle_channel_goes_and_comes_back_where_it_was(autojump_clock: MockClock) -> None:
    async with running(SETTINGS, watched=True) as world:
        client = await world.connect()
        assert await publish(client, "orders.1") == 1
        assert await publish(client, "orders.1") == 2
        await trio.sleep(98)
        assert "orders.1" in world.state.streams
        await trio.sleep(4)
        assert "orders.1" not in world.state.streams
        client.subscribe("orders.1")
        subscribed = await client.reply("subscribed")
        assert subscribed["positions"]["orders.1"]["seq"] == 2
        await trio.sleep(500)
        assert await publish(client, "orders.1") == 3


async def go_and_be_forgotten(world: World) -> None:
    """`orders.1` has 3 events and `orders.2` 5, by 12:00:00; then so many others that both are forgotten."""
    client = await world.connect()
    for name, events in (("orders.1", 3), ("orders.2", 5), *((f"orders.more.{number}", 1) for number in range(10))):
        for _ in range(events):
            await publish(client, name)
        await trio.sleep(102)
        assert name not in world.state.streams


@pytest.mark.parametrize(
    ("seq", "came"),
    [
        (2, [(3, 5, 3, TRIMMED, "inexact"), 6]),
        (3, [(4, 5, 2, TRIMMED, "inexact"), 6]),
        (5, [6]),
        (6, []),
    ],
)
async def test_of_a_channel_that_was_forgotten_no_gap_is_exact(
    seq: int, came: list[object], autojump_clock: MockClock
) -> None:
    """Nobody knows how many events it had."""
    async with running(Config(channels=FAMILY, channel_idle_s=100, max_channels=10), watched=True) as world:
        await go_and_be_forgotten(world)
        client = await world.connect()
        assert await publish(client, "orders.1") == 6
        client.subscribe("orders.1", recover={"orders.1": at(world, seq)})
        await client.reply("subscribed", recovered={"orders.1": len(came) < 2})
        await world.settle()
        assert told(client.take(), "orders.1") == came


async def test_of_a_channel_that_is_remembered_a_gap_is_exact(autojump_clock: MockClock) -> None:
    async with running(SETTINGS, watched=True) as world:
        client = await world.connect()
        for _ in range(3):
            await publish(client, "orders.1")
        await trio.sleep(102)
        client.subscribe("orders.1", recover={"orders.1": at(world, 1)})
        await world.settle()
        assert told(client.take(), "orders.1") == [(2, 3, 2, TRIMMED)]


async def test_since_a_time_after_it_went_nothing_of_a_channel_is_missing(autojump_clock: MockClock) -> None:
    """Its events are gone with it, but it is known when the last one came."""
    async with running(SETTINGS, watched=True) as world:
        client = await world.connect()
        await publish(client, "orders.1")
        await trio.sleep(102)
        client.subscribe("orders.1", since="2024-12-29T12:00:00.001Z")
        await client.reply("subscribed", recovered={"orders.1": True})
        client.send("unsubscribe", channels=["orders.1"])
        await client.reply("unsubscribed")
        client.subscribe("orders.1", since="2024-12-29T12:00:00Z")
        await client.reply("subscribed", recovered={"orders.1": False})
        await world.settle()
        assert told(client.take(), "orders.1") == [(None, 1, None, TRIMMED)]


async def test_what_is_kept_of_channels_that_went_does_not_grow(autojump_clock: MockClock) -> None:
    async with running(SETTINGS, watched=True) as world:
        client = await world.connect()
        for number in range(20):
            client.subscribe(f"orders.{number}")
            await client.reply("subscribed")
            client.send("unsubscribe", channels=[f"orders.{number}"])
            await client.reply("unsubscribed")
        await trio.sleep(200)
        assert not [name for name in world.state.accounts._ended if name.startswith("orders.")]


async def test_where_there_is_no_room_for_another_channel_that_is_said(autojump_clock: MockClock) -> None:
    async with running(Config(channels=FAMILY, max_channels=7)) as world:
        client = await world.subscriber("orders.1")
        client.subscribe("orders.2", "orders.1", "nope", id=1)
        await client.expect(
            "subscribed",
            channels=["orders.1"],
            denied=["nope", "orders.2"],
            reasons={"nope": "unknown_channel", "orders.2": "unknown_channel"},
            message="Unknown channels: nope; no room for channel orders.2: the limit max_channels = 7 is reached",
        )
        client.subscribe("orders.3", "orders.2")
        text = "No room for channels orders.3, orders.2: the limit max_channels = 7 is reached"
        await client.expect("subscribed", channels=[], denied=["orders.3", "orders.2"], message=text)
        client.publish("orders.2", id=2)
        message = "no room for channel orders.2: the limit max_channels = 7 is reached"
        await client.expect("error", id=2, code="unknown_channel", message=message)
        client.publish("orders.2")
        await client.expect("error", code="unknown_channel", message=message)
        client.publish("orders.1", id=3)
        await client.reply("published", id=3)


async def test_permissions_of_a_family_hold_for_each_of_its_channels(autojump_clock: MockClock) -> None:
    async with running(Config(jwt_keys=WITH_KEY.jwt_keys, channels=FAMILY)) as world:
        viewer = await world.connect(token=world.jwt(role="viewer"))
        viewer.subscribe("orders.1")
        await viewer.expect("subscribed", channels=["orders.1"])
        viewer.publish("orders.1", id=1)
        await viewer.expect("error", code="permission_denied")
        bot = await world.connect(token=world.jwt(role="bot"))
        bot.subscribe("orders.1")
        await bot.expect("subscribed", channels=[], reasons={"orders.1": "permission_denied"})


# Configured anew


async def test_who_may_not_any_more_is_told_and_gets_no_more(autojump_clock: MockClock) -> None:
    async with running(Config(jwt_keys=WITH_KEY.jwt_keys, channels=FAMILY)) as world:
        viewer = await world.subscriber("orders.1", "orders.2", "metrics", token=world.jwt(role="viewer"))
        admin = await world.subscriber("orders.1", "connections", token=world.jwt("bob", role="admin"))
        await admin.expect(event_type="client.subscribed")
        assert await reconfigure(world, {"orders.*": ChannelSettings(subscribe=("admin",))}) == 1
        await viewer.expect("unsubscribed", channels=["orders.1", "orders.2"], reason="permission_denied")
        event = await admin.expect(event_type="client.unsubscribed")
        assert (event["data"]["channels"], event["data"]["reason"]) == (["orders.1", "orders.2"], "permission_denied")
        viewer.send("get_subscriptions", id=1)
        await viewer.expect("subscriptions", channels=["metrics"])
        viewer.subscribe("orders.1")
        await viewer.expect("subscribed", reasons={"orders.1": "permission_denied"})
        await publish(admin, "orders.1")
        await world.settle()
        assert viewer.take() == []


async def test_a_channel_that_is_no_more_ends_for_all(autojump_clock: MockClock) -> None:
    async with running(SETTINGS, watched=True) as world:
        client = await world.subscriber("orders.1", "signals")
        assert await reconfigure(world, {"jobs": ChannelSettings()}) == 1
        await client.expect("unsubscribed", channels=["orders.1"], reason="unknown_channel")
        client.publish("orders.1", id=1)
        await client.expect("error", code="unknown_channel")
        client.subscribe("jobs")
        await client.expect("subscribed", channels=["jobs"])
        await trio.sleep(2)
        assert "orders.1" not in world.state.streams


async def test_both_reasons_are_told(autojump_clock: MockClock) -> None:
    async with running(SETTINGS) as world:
        client = await world.subscriber("orders.1", "logs")
        await reconfigure(world, {}, {"admin": RolePermissions(subscribe=("metrics",))})
        await client.expect("unsubscribed", channels=["logs"], reason="permission_denied")
        await client.expect("unsubscribed", channels=["orders.1"], reason="unknown_channel")


async def test_who_is_away_is_told_when_it_comes_back(autojump_clock: MockClock) -> None:
    async with running(SETTINGS, watched=True) as world:
        client = await world.subscriber("orders.1", "logs", "signals")
        client.vanish()
        await client.ended()
        assert await reconfigure(world, {}, {"admin": RolePermissions(subscribe=("signals",))}) == 0
        await trio.sleep(10)
        assert "orders.1" in world.state.streams, "somebody may come back to it"
        back = world.open(resume=client.token)
        connected = await back.expect("connected", reconnected=True, channels=["signals"], denied=["logs", "orders.1"])
        assert connected["reasons"] == {"logs": "permission_denied", "orders.1": "unknown_channel"}
        await trio.sleep(2)
        assert "orders.1" not in world.state.streams


async def test_a_subscription_that_was_judged_before_is_judged_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its letter waits in the mailbox while the configuration changes."""
    async with running(SETTINGS) as world:
        client = await world.connect()
        gate = await world.hold(monkeypatch)
        client.subscribe("logs", "orders.1", "signals")
        client.publish("orders.1", id=7)
        await world.settle()
        world.state.channels.configure({})
        world.state.access.configure({"admin": RolePermissions(subscribe=("signals",))})
        gate.set()
        subscribed = await client.expect("subscribed", channels=["signals"])
        assert subscribed["reasons"] == {"logs": "permission_denied", "orders.1": "unknown_channel"}
        await client.expect("error", id=7, code="unknown_channel", message="Unknown channel: orders.1")
