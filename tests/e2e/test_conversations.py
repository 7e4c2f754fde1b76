"""Whole conversations with clients that nobody here wrote: websockets, trio-websocket and wscat."""

import json
import re
import signal
from typing import Any
from uuid import UUID

import trio
import trio_websocket

from router import __version__
from tests.e2e.clients import connected, status
from tests.e2e.program import running
from tests.e2e.wscat import wscat

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z").fullmatch


async def test_the_systems_own_events_are_seen() -> None:
    async with running(metrics_interval_s=0.1) as program, connected(program.port) as client:
        hello = await client.hear()
        assert (hello["type"], hello["role"], hello["reconnected"]) == ("connected", "admin", False)
        assert UUID(hello["client_id"]).version == 4
        subscribed = await client.subscribe("metrics", "logs", "status", "connections")
        assert set(subscribed["positions"]) == {"metrics", "logs", "status", "connections"}
        metrics = await client.hear(channel="metrics")
        assert metrics["event_type"] == "system_metrics"
        assert metrics["data"]["memory_mb"] > 1
        assert metrics["data"]["total_connections"] == 1
        async with connected(program.port, "?token=secret") as other:  # in development mode a token is ignored
            log = await client.hear(channel="logs", event_type="log.warning")
            assert "token" in log["data"]["message"]
            assert "secret" not in str(log)
            await other.subscribe("metrics")
            came = await client.hear(channel="connections", event_type="client.subscribed")
            while came["data"]["channels"] != ["metrics"]:  # it sees itself, too
                came = await client.hear(channel="connections", event_type="client.subscribed")
        gone = await client.hear(channel="connections", event_type="client.disconnected")
        assert (gone["data"]["code"], gone["data"]["client_id"]) == (1000, came["data"]["client_id"])
        program.signal(signal.SIGTERM)
        draining = await client.hear(channel="status")
        assert draining["event_type"] == "status.draining"
        assert draining["data"]["version"] == __version__
        await client.hear(type="goodbye", reason="shutdown")
        assert await client.close_of() == (1001, "the server is going down")


async def test_one_event_reaches_every_kind_of_client() -> None:
    """Each library publishes in turn, and all three hear it, the same bytes in the same place."""
    async with running() as program, trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream("127.0.0.1", program.port)
        lowlevel = await trio_websocket.wrap_client_stream(nursery, stream, f"127.0.0.1:{program.port}", "/ws")
        async with connected(program.port) as client, wscat(program.port) as shell:
            await shell.hear(type="connected")
            await shell.say(type="subscribe", channels=["signals"])
            await shell.hear(type="subscribed", channels=["signals"])
            await client.subscribe("signals")
            await lowlevel.send_message('{"type":"subscribe","channels":["signals"]}')
            await heard_by(lowlevel, type="subscribed")

            publish: dict[str, Any] = {"type": "publish", "channel": "signals", "event_type": "signal.x"}
            await client.say(**publish, data={"by": "websockets"})
            await lowlevel.send_message(json.dumps(publish | {"data": {"by": "trio-websocket"}}))
            await shell.say(**publish, data={"by": "wscat"})

            heard = []
            for _ in range(3):
                event = await client.hear(channel="signals")
                heard.append(event)
                assert await shell.hear(channel="signals") == event
                assert await heard_by(lowlevel, channel="signals") == event
            assert [event["seq"] for event in heard] == [1, 2, 3]
            assert {event["data"]["by"] for event in heard} == {"websockets", "trio-websocket", "wscat"}
        await lowlevel.aclose()
        await stream.aclose()


async def heard_by(lowlevel: trio_websocket.WebSocketConnection, **wanted: object) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await lowlevel.get_message())
        if wanted.items() <= message.items():
            return message


async def test_a_whole_conversation_at_a_shell() -> None:
    async with running() as program, wscat(program.port, "-s", "neurograph.v1") as shell:
        await shell.hear(type="connected", user_id=None)
        await shell.say(type="ping", id="a")
        await shell.hear(type="pong", id="a")
        await shell.say(type="subscribe", channels=["signals", "nope", "signals"], id=1)
        subscribed = await shell.hear(type="subscribed", id=1)
        assert (subscribed["channels"], subscribed["denied"]) == (["signals"], ["nope"])
        assert subscribed["reasons"] == {"nope": "unknown_channel"}
        await shell.say(
            type="publish", channel="signals", events=[{"event_type": "signal.a"}, {"event_type": "signal.b"}], id=2
        )
        published = await shell.hear(type="published", id=2)
        assert (published["seq"], published["subscribers"]) == ([1, 2], 1)
        await shell.say(type="get_subscriptions", id=3)
        assert (await shell.hear(type="subscriptions", id=3))["channels"] == ["signals"]
        await shell.say(type="unsubscribe", channels=["signals"], id=4)
        assert (await shell.hear(type="unsubscribed", id=4))["channels"] == ["signals"]
        await shell.say(type="dance", id=5)
        assert (await shell.hear(type="error", id=5))["code"] == "unknown_type"
        program.signal(signal.SIGTERM)
        await shell.hear(type="goodbye")
        assert await shell.end() == 0


async def test_one_command_from_a_shell() -> None:
    """`-x` sends one message, waits a second for what comes, and closes."""
    async with running() as program, connected(program.port) as witness:
        await witness.subscribe("connections")
        message = json.dumps({"type": "get_subscriptions", "id": 7})
        async with wscat(program.port, "-x", message, "-w", "1") as shell:
            hello = await shell.hear(type="connected")
            assert (await shell.hear(id=7))["channels"] == []
            assert await shell.end() == 0
        gone = await witness.hear(event_type="client.disconnected")
        assert gone["data"]["client_id"] == hello["client_id"]
        assert gone["data"]["code"] in (1000, 1005)


async def test_a_conversation_as_of_v0_60() -> None:
    """A client of that version knows these messages and fields, and takes all with `channel` for an event."""
    async with running(metrics_interval_s=0.1) as program, connected(program.port) as client:
        hello = await client.hear()
        assert hello["type"] == "connected"
        assert {"client_id", "user_id", "timestamp"} <= set(hello)
        assert TIMESTAMP(hello["timestamp"])
        await client.say(type="subscribe", channels=["metrics", "signals"])
        subscribed = await client.hear()
        assert (subscribed["type"], subscribed["channels"]) == ("subscribed", ["metrics", "signals"])
        assert TIMESTAMP(subscribed["timestamp"])
        event = await client.hear()
        assert "type" not in event
        assert {"channel", "timestamp", "event_type", "data"} <= set(event)
        assert event["channel"] == "metrics"
        assert {"cpu_percent", "memory_mb", "events_per_sec", "total_tokens"} <= set(event["data"])
        await client.say(type="ping")
        assert TIMESTAMP((await client.hear(type="pong"))["timestamp"])
        await client.say(type="unsubscribe", channels=["metrics"])
        assert (await client.hear(type="unsubscribed"))["channels"] == ["metrics"]
        await client.say(type="get_subscriptions")
        assert (await client.hear())["channels"] == ["signals"]
        await client.say(type="subscribe", channels="metrics")
        assert (await client.hear(type="error"))["message"] == "channels must be an array"
        await client.connection.send("no json")
        assert (await client.hear(type="error"))["message"] == "Invalid JSON format"
        assert (await status(program.port))["total_connections"] == 1
