"""`GET channels/{channel}/history`."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.config import ChannelSettings
from tests.rest.calls import WITH_KEY, Api, api

ORDERS = {"channels": {"orders.*": ChannelSettings(description="Orders by country")}}


async def publish(rest: Api, events: int, channel: str = "signals", **data: Any) -> None:
    """Publish so many events, a second apart from those before."""
    await trio.sleep(1)
    items = [{"channel": channel, "event_type": "x", "data": data} for _ in range(events)]
    assert (await rest.post("events", items)).ok()["accepted"] == events
    await rest.world.settle()


def seqs(part: dict[str, Any]) -> list[int]:
    return [event["seq"] for event in part["events"]]


async def test_it_says_what_the_socket_says(autojump_clock: MockClock) -> None:
    async with api() as rest:
        await publish(rest, 3, priority=7)
        part = (await rest.get("channels/signals/history?last=2")).ok()
        event = {"channel": "signals", "event_type": "x", "data": {"priority": 7}}
        assert part == {
            "channel": "signals",
            "epoch": rest.world.state.epoch,
            "complete": True,
            "more": False,
            "events": [{**event, "timestamp": "2024-12-29T12:00:01.000Z", "seq": seq} for seq in (2, 3)],
        }
        client = await rest.world.connect()
        client.send("history", channel="signals", last=2)
        said = await client.expect("history")
        del said["type"]
        assert said == part


@pytest.mark.parametrize(
    ("query", "expected", "complete", "more"),
    [
        ("", [5, 6, 7, 8], False, False),
        ("limit=2", [7, 8], True, False),
        ("last=3", [6, 7, 8], True, False),
        ("last=3&limit=2", [6, 7], True, True),
        ("last=9", [5, 6, 7, 8], False, False),
        ("after_seq=6", [7, 8], True, False),
        ("after_seq=8", [], True, False),
        ("after_seq=4&limit=1", [5], True, True),
        ("after_seq=3", [5, 6, 7, 8], False, False),
        ("since=2024-12-29T12:00:02Z", [5, 6, 7, 8], False, False),
        ("since=2024-12-29T13:00:03.000%2B01:00", [7, 8], True, False),
        ("since=2024-12-29T12:00:04Z", [], True, False),
        ("since=9999-12-31T23:00:00-05:00", [], True, False),
        ("since=0001-01-01T00:00:00%2B05:00", [5, 6, 7, 8], False, False),
    ],
)
async def test_what_is_held_and_asked_for(
    query: str, expected: list[int], complete: bool, more: bool, autojump_clock: MockClock
) -> None:
    async with api(history_events=4) as rest:
        for events in (3, 3, 2):
            await publish(rest, events)
        part = (await rest.get(f"channels/signals/history?{query}")).ok()
        assert (seqs(part), part["complete"], part["more"]) == (expected, complete, more)


async def test_page_by_page(autojump_clock: MockClock) -> None:
    async with api() as rest:
        await publish(rest, 25)
        found, more, after = [], True, 0
        while more:
            query = f"after_seq={after}&epoch={rest.world.state.epoch}&limit=10"
            part = (await rest.get(f"channels/signals/history?{query}")).ok()
            found.append(len(part["events"]))
            more, after = part["more"], seqs(part)[-1]
        assert (found, after) == ([10, 10, 5], 25)


async def test_an_answer_is_no_larger_than_a_body(autojump_clock: MockClock) -> None:
    async with api(max_body_bytes=4096) as rest:
        for _ in range(4):
            await publish(rest, 1, event_id="x" * 1500)
        answer = await rest.get("channels/signals/history?after_seq=0")
        part = answer.ok()
        assert (seqs(part), part["more"], part["complete"]) == ([1, 2], True, True)
        assert len(answer.body) <= 4096
        part = (await rest.get("channels/signals/history?after_seq=2")).ok()
        assert (seqs(part), part["more"]) == ([3, 4], False)


@pytest.mark.parametrize("query", ["after_seq=3", "after_seq=1&epoch=another", "after_seq=0&epoch="])
async def test_of_a_position_that_is_not_known(query: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        await publish(rest, 2)
        answer = await rest.get(f"channels/signals/history?{query}")
        assert "No history after seq" in answer.problem(409, "history_unavailable")
        assert answer.json()["epoch"] == rest.world.state.epoch


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("after_seq=1&last=2", "after_seq and last: only one of them may be given"),
        ("last=1&since=2024-12-29T12:00:00Z", "last and since: only one"),
        ("epoch=e", "epoch: it belongs to after_seq, which is missing"),
        ("epoch=e&last=1", "epoch: it belongs to after_seq"),
        ("after_seq=-1", "after_seq: expected `int` >= 0 (got '-1')"),
        ("after_seq=9223372036854775808", "after_seq: "),
        ("after_seq=x", "after_seq: expected `int`"),
        ("last=0", "last: expected `int` >= 1"),
        ("limit=0", "limit: "),
        ("limit=1001", "limit: expected `int` <= 1000"),
        ("since=yesterday", "since: invalid RFC3339 encoded datetime (got 'yesterday')"),
        ("since=1735473600", "since: "),
        ("since=2024-12-29T12:00:00", "since: expected `datetime` with a timezone component"),
    ],
)
async def test_wrong_queries(query: str, said: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        detail = (await rest.get(f"channels/signals/history?{query}")).problem(400, "invalid_message")
        assert detail.startswith(said)


async def test_who_may_subscribe_may_read(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        path = "channels/signals/history"
        (await rest.get(path, Authorization=rest.bearer(role="bot"))).ok()
        (await rest.get(path, Authorization=rest.bearer(role="viewer", subscribe=["signals"]))).ok()
        detail = (await rest.get(path, Authorization=rest.bearer(role="viewer"))).problem(403, "permission_denied")
        assert detail == "Permission denied for channel: signals"
        (await rest.get(path)).problem(403, "permission_denied")
        (await rest.get(path, Authorization="Bearer x")).problem(401, "invalid_token")


@pytest.mark.parametrize("name", ["nope", "orders.*", "orders.", "x" * 200])
async def test_an_unknown_channel(name: str, autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        detail = (await rest.get(f"channels/{name}/history")).problem(404, "unknown_channel")
        assert detail == f"Unknown channel: {name[:64]}"


async def test_a_channel_that_nobody_uses_is_not_made_by_asking(autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        part = (await rest.get("channels/orders.fr/history")).ok()
        assert (part["events"], part["complete"], part["more"]) == ([], True, False)
        assert "orders.fr" not in rest.world.state.streams
        await publish(rest, 3, "orders.fr")
        assert seqs((await rest.get("channels/orders.fr/history")).ok()) == [1, 2, 3]
        assert rest.world.state.streams.drop_idle(10**15, lambda _: False) == ["orders.fr"]
        part = (await rest.get("channels/orders.fr/history?after_seq=1")).ok()
        assert (part["events"], part["complete"]) == ([], False)
        part = (await rest.get("channels/orders.fr/history?since=2024-12-29T12:00:01Z")).ok()
        assert (part["events"], part["complete"]) == ([], False)
        part = (await rest.get("channels/orders.fr/history?since=2024-12-29T12:00:01.001Z")).ok()
        assert (part["events"], part["complete"]) == ([], True)


@pytest.mark.parametrize(
    ("query", "complete"),
    [("", False), ("after_seq=0", False), ("after_seq=1", True), ("since=2024-12-29T12:00:01.001Z", True)],
)
async def test_what_is_as_old_as_it_may_be_is_told_no_more(
    query: str, complete: bool, autojump_clock: MockClock
) -> None:
    """To the millisecond, though nothing else has happened meanwhile."""
    async with api(history_age_s=60) as rest:
        await publish(rest, 1)
        await trio.sleep(59.999)
        assert seqs((await rest.get("channels/signals/history")).ok()) == [1]
        await trio.sleep(0.001)
        part = (await rest.get(f"channels/signals/history?{query}")).ok()
        assert (part["events"], part["complete"]) == ([], complete)
