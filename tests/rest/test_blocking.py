"""Publishing over HTTP on a channel that blocks: the call waits for room with all who listen."""

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.config import ChannelSettings
from router.letters import Drain
from tests.rest.calls import API, NDJSON, Answer, Api, Upload, api
from tests.router.harness import Client, events, seqs

GOOD: dict[str, Any] = {"channel": "signals", "event_type": "x"}
LINE = json.dumps(GOOD).encode() + b"\n"
BOUND = 10
#: Of so many frames.
BOUND_BYTES = BOUND * 130


def blocking(timeout_ms: int = 1000, **more: Any) -> Any:
    """A server whose channel `signals` blocks."""
    channels = {"signals": ChannelSettings(block=True, block_timeout_ms=timeout_ms)}
    return api(**{"outbox_events": BOUND, "channels": channels, **more})


async def stuck(rest: Api) -> Client:
    """A subscriber with a full outbox: `BOUND` events, and one in its lane."""
    slow = await rest.world.subscriber("signals")
    slow.stall()
    for n in range(BOUND + 1):
        assert (await rest.post("broadcast", GOOD)).ok()["seq"] == n + 1
    return slow


async def test_a_broadcast_waits_for_room(autojump_clock: MockClock) -> None:
    async with blocking() as rest, trio.open_nursery() as nursery:
        slow = await stuck(rest)
        assert trio.current_time() == 0
        nursery.start_soon(flow_at, slow, 0.5)
        assert (await rest.post("broadcast", GOOD)).ok()["seq"] == BOUND + 2
        assert trio.current_time() == 0.5
        await rest.world.settle()
        assert seqs(slow.take()) == list(range(1, BOUND + 3))


async def flow_at(slow: Client, at: float) -> None:
    await trio.sleep_until(at)
    slow.flow()


async def test_a_broadcast_waits_no_longer_than_the_timeout(autojump_clock: MockClock) -> None:
    async with blocking(700) as rest:
        slow = await stuck(rest)
        assert (await rest.post("broadcast", GOOD)).ok()["seq"] == BOUND + 2
        assert trio.current_time() == 0.7
        slow.flow()
        await rest.world.settle()
        assert [(m["from"], m["count"]) for m in slow.take() if m.get("type") == "gap"] == [(2, 1)]


async def test_calls_and_connections_take_turns(autojump_clock: MockClock) -> None:
    async with blocking(60_000) as rest, trio.open_nursery() as nursery:
        slow, writer = await stuck(rest), await rest.world.connect()
        nursery.start_soon(rest.post, "broadcast", GOOD)
        await rest.world.settle()
        writer.publish(id=1)
        await rest.world.settle()
        assert rest.world.state.streams["signals"].seq == BOUND + 1
        slow.flow(3 * BOUND_BYTES)
        await writer.expect("published", seq=[BOUND + 3, BOUND + 3])


async def test_many_events_are_divided_by_the_room_there_is(autojump_clock: MockClock) -> None:
    async with blocking() as rest, trio.open_nursery() as nursery:
        slow = await rest.world.subscriber("signals")
        slow.stall()
        answers: list[Answer] = []

        async def post() -> None:
            items = [{**GOOD, "data": {"n": n}} for n in range(95)]
            answers.append(await rest.post("events", [*items[:50], {}, {**GOOD, "channel": "logs"}, *items[50:]]))

        nursery.start_soon(post)
        for _ in range(12):
            await trio.sleep(0.9)
            slow.flow(BOUND_BYTES)
        slow.flow()
        await trio.sleep(1)
        [answer] = answers
        assert (answer.ok()["accepted"], [each["line"] for each in answer.ok()["rejected"]]) == (96, [50])
        got = slow.take()
        assert [event["data"]["n"] for event in events(got)] == list(range(95))
        assert len(got) == 95, "and no gap"


async def test_while_an_upload_waits_no_more_of_it_is_read(autojump_clock: MockClock) -> None:
    async with blocking(60_000) as rest, trio.open_nursery() as nursery:
        slow = await stuck(rest)
        upload = Upload([LINE] * 30)
        nursery.start_soon(lambda: rest.call(f"{API}/events", "POST", body=upload, **NDJSON))
        await trio.sleep(50)
        assert upload.asked == 1
        slow.flow()
        await rest.world.settle()
        assert upload.asked == 30
        await rest.world.settle()
        assert seqs(slow.take()) == list(range(1, BOUND + 32))


@pytest.mark.parametrize("form", ["broadcast", "events"])
async def test_a_call_that_waits_when_the_server_goes_down_is_told(form: str, autojump_clock: MockClock) -> None:
    async with blocking(60_000) as rest, trio.open_nursery() as nursery:
        slow = await stuck(rest)
        answers: list[Answer] = []

        async def post() -> None:
            answers.append(await rest.post(form, GOOD if form == "broadcast" else [GOOD] * 3))

        nursery.start_soon(post)
        await rest.world.settle()
        assert await rest.world.router.ask(Drain) == 1
        await rest.world.settle()
        slow.flow()
        assert (await slow.ended())[0] == 1001
        await rest.world.settle()
        [answer] = answers
        assert "the server is going down" in answer.problem(503, "engine_unavailable")
        assert seqs(slow.take()) == list(range(1, BOUND + 2))
        assert trio.current_time() < 60


async def test_a_call_that_reaches_the_router_behind_the_goodbye_keeps_nobody_waiting(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with blocking(60_000) as rest, trio.open_nursery() as nursery:
        world = rest.world
        slow = await world.subscriber("signals")
        slow.stall()
        gate = await world.hold(monkeypatch)
        nursery.start_soon(world.router.ask, Drain)
        await world.settle()
        answers: list[Answer] = []

        async def post() -> None:
            answers.append(await rest.post("broadcast", GOOD))

        for _ in range(2):
            nursery.start_soon(post)
            await world.settle()
        gate.set()
        await world.settle()
        assert [answer.status for answer in answers] == [503, 503]
        assert trio.current_time() == 0


async def test_a_crash_amid_a_call_keeps_nobody_waiting(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with blocking(60_000) as rest:
        reader = await rest.world.subscriber("signals")
        monkeypatch.setattr("router.hub.actor.append", lambda *_: 1 / 0)
        assert (await rest.post("broadcast", GOOD)).status == 503
        monkeypatch.undo()
        assert (await rest.post("broadcast", GOOD)).ok()["seq"] == 1
        assert seqs([await reader.receive()]) == [1]
        assert trio.current_time() < 5


async def test_where_nobody_listens_nobody_waits(autojump_clock: MockClock) -> None:
    async with blocking() as rest:
        assert (await rest.post("events", [GOOD] * 3 * BOUND)).ok()["accepted"] == 3 * BOUND
        assert trio.current_time() == 0
