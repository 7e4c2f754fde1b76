"""`POST filters/explain`."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.config import ChannelSettings
from tests.rest.calls import API, WITH_KEY, Answer, Api, api

URGENT = {"data.priority": {"$gte": 200}}
ORDERS = {"channels": {"orders.*": ChannelSettings(description="Orders by country")}}


async def publish(rest: Api, *data: dict[str, Any]) -> None:
    items = [{"channel": "signals", "event_type": "x", "data": each} for each in data]
    assert (await rest.post("events", items)).ok()["accepted"] == len(data)
    await rest.world.settle()


async def explain(rest: Api, wanted: object, channel: str = "signals", **more: Any) -> Answer:
    return await rest.post("filters/explain", {"channel": channel, "filter": wanted}, **more)


async def test_each_event_has_its_reasons(autojump_clock: MockClock) -> None:
    async with api() as rest:
        await publish(rest, {"priority": 250}, {"priority": 7}, {})
        event = {"channel": "signals", "timestamp": "2024-12-29T12:00:00.000Z", "event_type": "x"}
        line = {"path": "data.priority", "operator": "$gte", "operand": 200}
        assert (await explain(rest, URGENT)).ok() == {
            "channel": "signals",
            "matched": 1,
            "asked": 3,
            "events": [
                {
                    "event": {**event, "data": {"priority": 250}, "seq": 1},
                    "matches": True,
                    "lines": [{**line, "value": 250, "holds": True}],
                },
                {
                    "event": {**event, "data": {"priority": 7}, "seq": 2},
                    "matches": False,
                    "lines": [{**line, "value": 7, "holds": False}],
                },
                {
                    "event": {**event, "data": {}, "seq": 3},
                    "matches": False,
                    "lines": [{**line, "holds": False}],
                },
            ],
        }


async def test_none_is_older_than_it_may_be(autojump_clock: MockClock) -> None:
    async with api(history_age_s=60) as rest:
        await publish(rest, {})
        await trio.sleep(59.999)
        assert (await explain(rest, URGENT)).ok()["asked"] == 1
        await trio.sleep(0.001)
        assert (await explain(rest, URGENT)).ok()["asked"] == 0


@pytest.mark.parametrize(("limit", "asked"), [({}, 10), ({"limit": 3}, 3), ({"limit": 100}, 100)])
async def test_the_newest_events_are_asked_about(limit: dict[str, int], asked: int, autojump_clock: MockClock) -> None:
    async with api() as rest:
        await publish(rest, *[{"priority": 250 if number % 2 else 0} for number in range(120)])
        body = {"channel": "signals", "filter": URGENT, **limit}
        done = (await rest.post("filters/explain", body)).ok()
        assert [each["event"]["seq"] for each in done["events"]] == list(range(121 - asked, 121))
        matches = [each["matches"] for each in done["events"]]
        assert matches == [each["event"]["seq"] % 2 == 0 for each in done["events"]]
        assert (done["matched"], done["asked"]) == (sum(matches), asked)


async def test_as_many_as_fit_into_an_answer(autojump_clock: MockClock) -> None:
    async with api(max_body_bytes=4096) as rest:
        for size in (1500, 1500, 1500):
            await publish(rest, {"event_id": "x" * size})
        done = (await explain(rest, {})).ok()
        assert [each["event"]["seq"] for each in done["events"]] == [2, 3]
    async with api(max_body_bytes=200) as rest:
        for _ in range(2):
            (await rest.post("broadcast?channel=signals", {"event_type": "x" * 120, "data": {}})).ok()
        await rest.world.settle()
        done = (await explain(rest, {})).ok()
        assert [each["event"]["seq"] for each in done["events"]] == [2]


async def test_there_may_be_no_events(autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        for channel in ("signals", "orders.fr"):
            empty: dict[str, Any] = {"channel": channel, "matched": 0, "asked": 0, "events": []}
            assert (await explain(rest, URGENT, channel)).ok() == empty
        assert "orders.fr" not in rest.world.state.streams


@pytest.mark.parametrize("wanted", [1, None, [], {"data.x": {"$near": 1}}, {"$or": []}, {"data.x": {"$regex": "("}}])
async def test_a_bad_filter(wanted: object, autojump_clock: MockClock) -> None:
    async with api() as rest:
        assert (await explain(rest, wanted)).problem(422, "invalid_filter").startswith("filter")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"channel": "signals"}, "filter is missing"),
        ({"filter": {}}, "channel is missing"),
        ({"channel": 1, "filter": {}}, "channel: expected `str`"),
        ({"channel": "signals", "filter": {}, "limit": 0}, "limit: expected `int` >= 1"),
        ({"channel": "signals", "filter": {}, "limit": 101}, "limit: expected `int` <= 100"),
    ],
)
async def test_wrong_bodies(body: object, said: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        detail = (await rest.post("filters/explain", body)).problem(422, "invalid_message")
        assert detail.startswith(said)


async def test_no_json(autojump_clock: MockClock) -> None:
    async with api() as rest:
        path = f"{API}/filters/explain"
        (await rest.call(path, "POST", body=b"{", content_type="application/json")).problem(400, "invalid_json")
        (await rest.call(path, "POST", body=b"{}")).problem(415, "unsupported_media_type")


async def test_who_may_subscribe_may_ask(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        (await explain(rest, URGENT, Authorization=rest.bearer(role="bot"))).ok()
        refused = await explain(rest, URGENT, Authorization=rest.bearer(role="viewer"))
        assert refused.problem(403, "permission_denied") == "Permission denied for channel: signals"
        (await explain(rest, URGENT)).problem(403, "permission_denied")


@pytest.mark.parametrize("name", ["nope", "orders.*", ""])
async def test_an_unknown_channel(name: str, autojump_clock: MockClock) -> None:
    async with api(**ORDERS) as rest:
        assert (await explain(rest, {}, name)).problem(404, "unknown_channel") == f"Unknown channel: {name}"
