"""`connections`: the list, one, and an end to it."""

import trio
from trio.testing import MockClock

from tests.rest.calls import API, WITH_KEY, api, http
from tests.router.serving import close_of, connect, hear, serving


async def test_a_connection_is_described(autojump_clock: MockClock) -> None:
    async with api(**WITH_KEY) as rest:
        admin = rest.bearer(role="admin")
        token = rest.world.jwt("ada", role="developer")
        await trio.sleep(1)
        client = await rest.world.subscriber("signals", "logs", token=token)
        await trio.sleep(2.5)
        described = {
            "client_id": client.client_id,
            "user_id": "ada",
            "role": "developer",
            "detached": False,
            "address": "here",
            "connected_at": "2024-12-29T12:00:01.000Z",
            "age_s": 2.5,
            "last_heartbeat": "2024-12-29T12:00:01.000Z",
            "channels": ["logs", "signals"],
            "queue": {"events": 0, "bytes": 0},
            "dropped": 0,
        }
        assert (await rest.get("connections", Authorization=admin)).ok() == {"connections": [described]}
        empty = {"events": 0, "bytes": 0}
        nothing = {"offered": 0, "filtered": 0, "matched": 0, "delivered": 0, "queued": 0, "replaced": 0, "dropped": {}}
        nothing["resent"] = 0
        assert (await rest.get(f"connections/{client.client_id}", Authorization=admin)).ok() == {
            **described,
            "subscriptions": [
                {"channel": "logs", "queue": empty, "ledger": nothing},
                {"channel": "signals", "queue": empty, "ledger": nothing},
            ],
        }


async def test_what_waits_and_what_was_lost_is_told(autojump_clock: MockClock) -> None:
    async with api(outbox_events=3) as rest:
        client = await rest.world.subscriber("signals", "logs")
        client.stall()
        await rest.post("broadcast", {"channel": "signals", "event_type": "x"})
        await rest.world.settle()  # until its writer has that one in hand
        items = [{"channel": channel, "event_type": "x"} for channel in ("logs", *["signals"] * 4)]
        (await rest.post("events", items)).ok()
        await rest.world.settle()
        one = (await rest.get(f"connections/{client.client_id}")).ok()
        assert (one["queue"]["events"], one["dropped"]) == (3, 2)
        logs, signals = one["subscriptions"]
        assert (logs["queue"]["events"], signals["queue"]["events"]) == (1, 2)
        for subscription in (logs, signals):
            ledger = subscription["ledger"]
            assert ledger["queued"] >= subscription["queue"]["events"], "some may be in flight"
            lost = sum(ledger["dropped"].values()) + ledger["replaced"]
            assert ledger["matched"] == ledger["delivered"] + ledger["queued"] + lost
        assert min(logs["queue"]["bytes"], signals["queue"]["bytes"]) > 0
        assert logs["queue"]["bytes"] + signals["queue"]["bytes"] == one["queue"]["bytes"]


async def test_a_session_without_a_connection_is_listed_and_marked(autojump_clock: MockClock) -> None:
    async with api() as rest:
        client = await rest.world.subscriber("signals")
        await trio.sleep(1)
        client.vanish()
        await client.ended()
        (listed,) = (await rest.get("connections")).ok()["connections"]
        assert listed["client_id"] == client.client_id
        assert listed["detached"]
        assert listed["last_heartbeat"] is None
        assert listed["address"] == "here"
        assert listed["connected_at"] == "2024-12-29T12:00:00.000Z"
        assert listed["channels"] == ["signals"]
        (await rest.post("broadcast", {"channel": "signals", "event_type": "x"})).ok()
        one = (await rest.get(f"connections/{client.client_id}")).ok()
        assert one["detached"]
        assert one["queue"]["events"] == 1


async def test_connections_come_in_pages(autojump_clock: MockClock) -> None:
    async with api() as rest:
        ids = sorted([(await rest.world.connect()).client_id for _ in range(3)])
        first = (await rest.get("connections?limit=2")).ok()
        assert ([each["client_id"] for each in first["connections"]], first["next"]) == (ids[:2], ids[1])
        second = (await rest.get(f"connections?limit=2&after={ids[1]}")).ok()
        assert [each["client_id"] for each in second["connections"]] == ids[2:]
        assert "next" not in second
        assert "limit" in (await rest.get("connections?limit=0")).problem(400, "invalid_message")


async def test_one_is_disconnected_for_good(autojump_clock: MockClock) -> None:
    async with api() as rest:
        client, other = await rest.world.connect(), await rest.world.connect()
        path = f"{API}/connections/{client.client_id}"
        done = (await rest.call(path, "DELETE")).ok()
        assert done == {"status": "ok", "client_id": client.client_id, "code": 4500}
        assert (await client.ended())[0] == 4500
        (await rest.call(path)).problem(404, "not_found")
        (await rest.call(path, "DELETE")).problem(404, "not_found")
        (listed,) = (await rest.get("connections")).ok()["connections"]
        assert listed["client_id"] == other.client_id


async def test_a_session_without_a_connection_can_be_ended(autojump_clock: MockClock) -> None:
    async with api() as rest:
        client = await rest.world.connect()
        client.vanish()
        await client.ended()
        (await rest.call(f"{API}/connections/{client.client_id}", "DELETE")).ok()
        assert (await rest.get("connections")).ok() == {"connections": []}


async def test_over_sockets() -> None:
    async with serving() as port, connect(port) as client:
        client_id = (await hear(client, type="connected"))["client_id"]
        one = (await http(port, f"{API}/connections/{client_id}")).ok()
        assert one["address"] == "127.0.0.1"
        (await http(port, f"{API}/connections/{client_id}", "DELETE")).ok()
        assert await close_of(client) == (4500, "disconnected by an administrator")
