"""`GET status`."""

from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import pytest
import trio
from trio.testing import MockClock

from tests.rest.calls import API, WITH_KEY, Api, api, http
from tests.router.serving import connect, hear, serving


async def status(rest: Api, query: str = "", **headers: str) -> dict[str, Any]:
    websocket: dict[str, Any] = (await rest.get(f"status{query}", **headers)).ok()["websocket"]
    return websocket


async def test_the_status_has_all_sums(autojump_clock: MockClock) -> None:
    async with api() as rest:
        assert (await rest.get("status")).ok() == {
            "status": "ok",
            "websocket": {
                "endpoint": "/ws",
                "protocol": "ws",
                "total_connections": 0,
                "total_channels": 6,
                "total_subscriptions": 0,
                "buffered_events": 0,
                "clients": [],
            },
        }


async def test_what_waits_is_counted(autojump_clock: MockClock) -> None:
    async with api() as rest:
        client = await rest.world.subscriber("signals", "logs")
        client.stall()
        await rest.post("broadcast", {"channel": "signals", "event_type": "x"})
        await rest.world.settle()  # until its writer has that one in hand
        await rest.post("events", [{"channel": "signals", "event_type": "x"}] * 3)
        figures = await status(rest)
        assert (figures["total_connections"], figures["total_subscriptions"]) == (1, 2)
        assert figures["buffered_events"] == 3


@pytest.mark.parametrize("role", ["developer", "viewer", "bot", "nobody"])
async def test_only_administrators_see_who_is_there(role: str, autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        assert not {"clients", "next"} & set(await status(rest, Authorization=rest.bearer(role=role)))
        assert (await status(rest, Authorization=rest.bearer(role="admin")))["clients"] == []


async def test_clients_are_described(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        client = await rest.world.subscriber("status", "metrics", token=rest.world.jwt("ada"))
        client.send("ping")
        await client.reply("pong")
        await trio.sleep(2)
        (described,) = (await status(rest, Authorization=rest.bearer(role="admin")))["clients"]
        assert described == {
            "client_id": client.client_id,
            "user_id": "ada",
            "connected_at": "2024-12-29T12:00:00.000Z",
            "channels": ["metrics", "status"],
            "last_heartbeat": "2024-12-29T12:00:00.000Z",
        }


async def test_a_client_that_is_away_is_not_there(autojump_clock: MockClock) -> None:
    async with api() as rest:
        gone, there = await rest.world.connect(), await rest.world.connect()
        gone.vanish()
        await gone.ended()
        figures = await status(rest)
        assert figures["total_connections"] == 1
        assert [each["client_id"] for each in figures["clients"]] == [there.client_id]


async def test_clients_come_in_pages(autojump_clock: MockClock) -> None:
    async with api() as rest:
        ids = {(await rest.world.connect()).client_id for _ in range(5)}
        pages, after = [], ""
        while True:
            figures = await status(rest, f"?limit=2&after={after}")
            pages.append([client["client_id"] for client in figures["clients"]])
            if "next" not in figures:
                break
            after = figures["next"]
        assert [len(page) for page in pages] == [2, 2, 1]
        assert [client_id for page in pages for client_id in page] == sorted(ids)
        assert "next" not in await status(rest, "?limit=5")


async def test_a_page_has_100_unless_another_number_is_asked_for(autojump_clock: MockClock) -> None:
    async with api() as rest:
        for _ in range(101):
            await rest.world.connect()
        figures = await status(rest)
        assert len(figures["clients"]) == 100
        assert figures["next"] == figures["clients"][-1]["client_id"]
        assert len((await status(rest, "?limit=1000"))["clients"]) == 101


@pytest.mark.parametrize(
    "limit", ["0", "1001", "-1", "1.5", "", "x", quote("٣"), "9" * 5000], ids=lambda limit: limit[:10]
)
async def test_a_limit_that_is_none_is_refused(limit: str, autojump_clock: MockClock) -> None:
    async with api() as rest:
        detail = (await rest.get(f"status?limit={limit}")).problem(400, "invalid_message")
        assert detail.startswith("limit: ")
        assert "(got '" in detail
        assert len(detail) < 200


async def test_of_a_parameter_that_comes_twice_the_first_counts(autojump_clock: MockClock) -> None:
    async with api() as rest:
        assert (await rest.get("status?limit=1&limit=x&other=1")).status == 200


async def test_a_server_answers_over_its_socket() -> None:
    async with serving() as port, AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(port))
        connected = await hear(client, type="connected")
        (described,) = (await http(port, f"{API}/status")).ok()["websocket"]["clients"]
        assert described["client_id"] == connected["client_id"]
