"""A fast publisher and a slow reader, as settings come, on a channel that blocks and on one that does not."""

import json
from pathlib import Path

import pytest
import trio

from tests.e2e.clients import Message, RawClient, get, raw, text
from tests.e2e.program import running

EVENTS, SIZE = 20_000, 500
#: The reader takes so many, then lets some time pass.
SLICE = 100

BLOCK = """
[channels.signals]
block = true
block_timeout_ms = 60000
"""


async def publish_all(writer: RawClient, done: trio.Event) -> None:
    """Publish as fast as the server takes it."""
    data = {"text": "x" * SIZE}
    frames = [
        text(json.dumps({"type": "publish", "channel": "signals", "event_type": "x", "data": data | {"n": n}}))
        for n in range(1, EVENTS + 1)
    ]
    await writer.send(*frames, text('{"type":"ping","id":1}'))
    await writer.hear(type="pong", id=1)
    done.set()


async def read_slowly(slow: RawClient) -> list[Message]:
    """Read up to the last event."""
    got: list[Message] = []
    while not got or got[-1].get("seq") != EVENTS:
        got.append(await slow.next_message())
        if len(got) % SLICE == 0:
            await trio.sleep(0.002)
    return got


@pytest.mark.parametrize("block", [True, False])
async def test_a_slow_reader_misses_nothing_where_publishers_wait(block: bool, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(BLOCK if block else "")
    async with (
        running("--config", str(path)) as program,
        raw(program.port) as writer,
        raw(program.port, receive_buffer=16384) as slow,
    ):
        hello = await slow.hear(type="connected")
        await slow.send(text('{"type":"subscribe","channels":["signals"]}'))
        await slow.hear(type="subscribed")
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_all, writer, done)
            if not block:
                await done.wait()  # nothing holds it up
            got = await read_slowly(slow)
            await done.wait()
        gaps = [message for message in got if message.get("type") == "gap"]
        code, body = await get(program.port, f"/api/v1/websocket/connections/{hello['client_id']}")
        assert code == 200
        ledger = body["subscriptions"][0]["ledger"]
        assert ledger["matched"] == EVENTS
        if block:
            assert [message["data"]["n"] for message in got] == list(range(1, EVENTS + 1))
            assert (ledger["delivered"], ledger["dropped"]) == (EVENTS, {})
        else:
            assert gaps
            assert ledger["dropped"] == {"slow_consumer": sum(gap["count"] for gap in gaps)}
