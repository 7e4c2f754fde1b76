"""`GET ledger`: the server's sums, and those of each channel."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.config import ChannelSettings
from router.ledger import Ledger
from router.rest import ledger
from tests.rest.calls import WITH_KEY, Api, api
from tests.rest.test_channels import NAMES, account
from tests.router.harness import Client

ORDERS: dict[str, Any] = {"channels": {"orders.*": ChannelSettings()}, "channel_idle_s": 5}


async def publish(rest: Api, channel: str, *event_types: str) -> None:
    for event_type in event_types or ("x",):
        (await rest.post("broadcast", {"channel": channel, "event_type": event_type})).ok()
    await rest.world.settle()


async def leave(rest: Api, client: Client) -> None:
    client.close()
    await client.ended()
    await rest.world.settle()


async def drop_idle(rest: Api) -> None:
    """Let go of the channels that nobody uses."""
    await trio.sleep(10)
    rest.world.router.tell("tick")
    await rest.world.settle()


async def test_nothing_is_all_zeros(autojump_clock: MockClock) -> None:
    async with api() as rest:
        assert (await rest.get("ledger")).ok() == {
            "epoch": rest.world.state.epoch,
            "server": account(),
            "channels": {name: account() for name in NAMES},
        }


async def test_the_server_is_the_sum_of_its_channels_and_of_those_that_went(autojump_clock: MockClock) -> None:
    async with api(outbox_events=3, **ORDERS) as rest:
        gone, picky = await rest.world.subscriber("orders.1", "signals"), await rest.world.connect()
        picky.subscribe("signals", "logs", filter={"event_type": "y"})
        await picky.expect("subscribed")
        await publish(rest, "orders.1", "x", "x")
        await publish(rest, "signals", "x", "y")
        await leave(rest, gone)
        await drop_idle(rest)
        picky.stall()
        await publish(rest, "logs", "y")
        got = (await rest.get("ledger")).ok()
        assert got["server"] == account(offered=7, filtered=1, matched=6, delivered=5, queued=1)
        assert got["channels"] == {name: account() for name in NAMES} | {
            "signals": account(offered=4, filtered=1, matched=3, delivered=3),
            "logs": account(offered=1, matched=1, queued=1),
        }
        assert got["channels"]["signals"] == (await rest.get("channels/signals")).ok()["ledger"]


async def test_channels_come_in_pages_and_the_server_with_each(autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        await rest.world.subscriber("status", "actions")
        for channel in ("status", "actions", "orders.1"):
            await publish(rest, channel)
        first = (await rest.get("ledger?limit=4")).ok()
        assert (list(first["channels"]), first["next"]) == (NAMES[:4], "metrics")
        second = (await rest.get("ledger?limit=4&after=metrics")).ok()
        assert list(second["channels"]) == ["orders.1", *NAMES[4:]]
        assert "next" not in second
        assert first["server"] == second["server"] == account(offered=2, matched=2, delivered=2)
        assert "limit" in (await rest.get("ledger?limit=1001")).problem(400, "invalid_message")


@pytest.mark.parametrize(("role", "sees"), [("admin", True), ("developer", True), ("viewer", False), ("bot", False)])
async def test_who_sees_the_ledger(role: str, sees: bool, autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        answer = await rest.get("ledger", Authorization=rest.bearer(role=role))
        if sees:
            assert answer.ok()["server"] == account()
        else:
            detail = f"the ledger is for the roles admin and developer, and the caller is {role!r}"
            assert answer.problem(403, "permission_denied") == detail


async def test_without_a_token_there_is_no_ledger(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        (await rest.get("ledger")).problem(403, "permission_denied")
    async with api(allow_anonymous=False, **WITH_KEY) as rest:
        (await rest.get("ledger")).problem(401, "invalid_token")


async def test_what_goes_while_the_sums_are_made_counts_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between one channel and the next subscriptions end, and channels are dropped and made again."""
    async with api(**ORDERS) as rest:
        state = rest.world.state
        stays = await rest.world.subscriber("orders.1", "orders.2", "signals")
        goes = await rest.world.subscriber("orders.1", "orders.2", "orders.3", "signals")
        for channel in ("orders.1", "orders.2", "orders.3", "signals"):
            await publish(rest, channel, "x", "x")
        whole = account(offered=14, matched=14, delivered=14)
        assert (await rest.get("ledger")).ok()["server"] == whole
        names = [stream.name for stream in state.streams]
        assert names[-3:] == ["orders.1", "orders.2", "orders.3"]
        read: list[str] = []
        read_one = state.ledger_of_channel

        def ledger_of_channel(name: str) -> Ledger:
            read.append(name)
            return read_one(name)

        async def checkpoint() -> None:
            if read[-1] == "orders.2":  # and `orders.3` is still to be read
                await leave(rest, goes)
                stays.send("unsubscribe", channels=["orders.1", "orders.2"])
                await drop_idle(rest)
                assert [stream.name for stream in state.streams] == names[:-3]
                await rest.world.subscriber("orders.1", "orders.3")
                await publish(rest, "orders.1")

        monkeypatch.setattr(state, "ledger_of_channel", ledger_of_channel)
        monkeypatch.setattr(ledger, "YIELD_AFTER_S", 0)
        fake = SimpleNamespace(current_time=trio.current_time, lowlevel=SimpleNamespace(checkpoint=checkpoint))
        monkeypatch.setattr(ledger, "trio", fake)
        got = (await rest.get("ledger")).ok()
        assert read == names
        assert got["server"] == whole
        assert set(got["channels"]) == set(NAMES)
        monkeypatch.undo()
        assert (await rest.get("ledger")).ok()["server"] == account(offered=15, matched=15, delivered=15)


async def test_the_status_makes_no_sums(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monitors poll it."""
    async with api() as rest:
        await rest.world.subscriber("signals")
        monkeypatch.setattr(rest.world.state, "ledger_of_channel", None)
        (await rest.get("status")).ok()
