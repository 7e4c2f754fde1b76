"""`GET channels` and `GET channels/{channel}`."""

from typing import Any

import pytest
from trio.testing import MockClock

from router.config import ChannelSettings
from tests.rest.calls import WITH_KEY, api

NAMES = ["actions", "connections", "logs", "metrics", "signals", "status"]
ORDERS = {"channels": {"orders.*": ChannelSettings(description="Orders by country")}}


async def test_all_channels_are_described(autojump_clock: MockClock) -> None:
    async with api() as rest:
        epoch = rest.world.state.epoch
        await rest.world.subscriber("signals")
        for _ in range(2):
            await rest.post("broadcast", {"channel": "signals", "event_type": "x"})
        listed = (await rest.get("channels")).ok()
        assert listed["channels"] == NAMES
        assert listed["patterns"] == []
        assert listed["descriptions"]["signals"] == "Signals as the system takes them in"
        assert list(listed["details"]) == list(listed["descriptions"]) == NAMES
        assert listed["details"]["signals"] == {
            "description": "Signals as the system takes them in",
            "pattern": False,
            "may_subscribe": True,
            "may_publish": True,
            "subscribers": 1,
            "position": {"epoch": epoch, "seq": 2},
        }
        assert listed["details"]["logs"]["position"] == {"epoch": epoch, "seq": 0}
        assert not listed["details"]["connections"]["may_publish"]
        assert "next" not in listed


@pytest.mark.parametrize(
    ("claims", "subscribe", "publish"),
    [
        ({"role": "viewer"}, {"metrics", "status"}, set()),
        ({"role": "bot"}, {"metrics", "status", "signals"}, set()),
        ({"role": "viewer", "subscribe": ["logs"], "publish": ["*s"]}, {"logs"}, set(NAMES)),
        (None, {"metrics", "status"}, set()),
    ],
)
async def test_each_caller_sees_what_it_may_do(
    claims: dict[str, Any] | None, subscribe: set[str], publish: set[str], autojump_clock: MockClock
) -> None:
    async with api(**WITH_KEY) as rest:
        headers = {} if claims is None else {"Authorization": rest.bearer(**claims)}
        details = (await rest.get("channels", **headers)).ok()["details"]
        assert {name for name in details if details[name]["may_subscribe"]} == subscribe
        assert {name for name in details if details[name]["may_publish"]} == publish
        one = (await rest.get("channels/signals", **headers)).ok()
        assert (one["may_subscribe"], one["may_publish"]) == ("signals" in subscribe, "signals" in publish)


async def test_channels_come_in_pages(autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        first = (await rest.get("channels?limit=4")).ok()
        assert first["channels"] == NAMES[:4]
        assert list(first["details"]) == NAMES[:4]
        assert first["next"] == "metrics"
        second = (await rest.get("channels?limit=4&after=metrics")).ok()
        assert (second["channels"], second["patterns"]) == (["signals", "status"], ["orders.*"])
        assert "next" not in second
        assert "limit" in (await rest.get("channels?limit=1001")).problem(400, "invalid_message")


async def test_a_family_is_a_pattern_and_its_channels_are_there_once_used(autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        listed = (await rest.get("channels")).ok()
        assert (listed["channels"], listed["patterns"]) == (NAMES, ["orders.*"])
        assert listed["details"]["orders.*"] == {
            "description": "Orders by country",
            "pattern": True,
            "may_subscribe": False,
            "may_publish": False,
            "subscribers": 0,
        }
        await rest.post("broadcast", {"channel": "orders.fr", "event_type": "x"})
        listed = (await rest.get("channels")).ok()
        assert listed["channels"] == sorted([*NAMES, "orders.fr"])
        assert listed["details"]["orders.fr"]["description"] == "Orders by country"
        assert listed["details"]["orders.fr"]["position"]["seq"] == 1


async def test_a_channel_has_the_ids_of_its_subscribers_in_pages(autojump_clock: MockClock) -> None:
    async with api() as rest:
        ids = sorted([(await rest.world.subscriber("signals")).client_id for _ in range(3)])
        away = await rest.world.subscriber("signals")
        away.vanish()
        await away.ended()
        ids = sorted([*ids, away.client_id])
        await rest.world.subscriber("logs")
        channel = (await rest.get("channels/signals")).ok()
        assert channel == {
            "channel": "signals",
            "description": "Signals as the system takes them in",
            "pattern": False,
            "may_subscribe": True,
            "may_publish": True,
            "subscribers": 4,
            "position": {"epoch": rest.world.state.epoch, "seq": 0},
            "ledger": account(),
            "subscriber_ids": ids,
        }
        page = (await rest.get("channels/signals?limit=3")).ok()
        assert (page["subscriber_ids"], page["next"]) == (ids[:3], ids[2])
        page = (await rest.get(f"channels/signals?limit=3&after={ids[2]}")).ok()
        assert page["subscriber_ids"] == ids[3:]


def account(**figures: Any) -> dict[str, Any]:
    """A ledger whose other figures are 0."""
    names = ("offered", "filtered", "matched", "delivered", "queued", "replaced", "resent")
    return {**dict.fromkeys(names, 0), "dropped": {}, **figures}


async def test_a_channels_account_is_the_sum_of_its_subscriptions(autojump_clock: MockClock) -> None:
    async with api(outbox_events=3) as rest:
        await rest.world.subscriber("signals")
        picky, gone = await rest.world.connect(), await rest.world.connect()
        for client, wanted in ((picky, {"event_type": "y"}), (gone, {})):
            client.send("subscribe", channels=["signals"], filter=wanted)
            await client.expect("subscribed")
        for event_type in ("x", "x", "y"):
            (await rest.post("broadcast", {"channel": "signals", "event_type": event_type})).ok()
        gone.close()
        await gone.ended()
        await rest.world.settle()
        (await rest.post("broadcast", {"channel": "signals", "event_type": "x"})).ok()
        await rest.world.settle()
        assert (await rest.get("channels/signals")).ok()["ledger"] == account(
            offered=4 + 4 + 3, filtered=3, matched=4 + 1 + 3, delivered=8
        )
        assert (await rest.get("channels/logs")).ok()["ledger"] == account()


@pytest.mark.parametrize(("role", "sees"), [("admin", True), ("developer", True), ("viewer", False), ("bot", False)])
async def test_who_sees_a_channels_account(role: str, sees: bool, autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY, **ORDERS) as rest:
        authorization = rest.bearer(role=role)
        assert ("ledger" in (await rest.get("channels/signals", Authorization=authorization)).ok()) == sees
        assert "ledger" not in (await rest.get("channels/orders.*", Authorization=authorization)).ok()


@pytest.mark.parametrize("role", ["developer", "viewer"])
async def test_only_administrators_see_who_listens(role: str, autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        channel = (await rest.get("channels/signals", Authorization=rest.bearer(role=role))).ok()
        assert not {"subscriber_ids", "next"} & set(channel)
        channel = (await rest.get("channels/signals", Authorization=rest.bearer(role="admin"))).ok()
        assert channel["subscriber_ids"] == []


async def test_a_family_and_a_channel_of_it_that_nobody_has_used(autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        channel = (await rest.get("channels/orders.de")).ok()
        assert (channel["channel"], channel["pattern"], channel["position"]["seq"]) == ("orders.de", False, 0)
        pattern = (await rest.get("channels/orders.*")).ok()
        assert (pattern["channel"], pattern["pattern"]) == ("orders.*", True)
        assert "position" not in pattern


async def test_a_channel_that_was_dropped_stands_where_it_goes_on(autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        order = {"channel": "orders.fr", "event_type": "x"}
        for _ in range(3):
            (await rest.post("broadcast", order)).ok()
        await rest.world.settle()
        assert rest.world.state.streams.drop_idle(10**15, lambda _: False) == ["orders.fr"]
        assert (await rest.get("channels/orders.fr")).ok()["position"]["seq"] == 3
        assert (await rest.post("broadcast", order)).ok()["seq"] == 4


@pytest.mark.parametrize("name", ["nope", "Signals", "orders", "orders.", "nope.*", "x" * 200, "%00"])
async def test_an_unknown_channel(name: str, autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        detail = (await rest.get(f"channels/{name}")).problem(404, "unknown_channel")
        assert detail == f"Unknown channel: {name[:64]}"


async def test_a_channel_has_one_segment(autojump_clock: MockClock) -> None:
    async with api() as rest:
        (await rest.get("channels/a/b")).problem(404, "not_found")
        (await rest.get("channels/")).problem(404, "not_found")
