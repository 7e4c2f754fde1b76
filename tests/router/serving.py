"""A server in the test's own process, on a free port."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import websockets.trio.client
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection

from router.config import Config
from router.server import Server

#: Passes only where something hangs.
DEADLINE_S = 30


@asynccontextmanager
async def serving(
    server: Server | None = None, *, deadline_s: float = DEADLINE_S, **settings: Any
) -> AsyncIterator[int]:
    """Run a server with these settings; gives its port. It has gone down in order when the context ends."""
    server = server or Server(Config(port=0, **settings))
    with trio.fail_after(deadline_s):
        async with trio.open_nursery() as nursery:
            ((_, port),) = await nursery.start(server.run)
            try:
                yield port
            finally:
                server.stop()


def connect(port: int, target: str = "/ws", **options: Any) -> websockets.trio.client.connect:
    """A client's connection to that server, as an async context."""
    return websockets.trio.client.connect(f"ws://127.0.0.1:{port}{target}", proxy=None, **options)


async def hear(client: ClientConnection, **wanted: object) -> dict[str, Any]:
    """The next message that has these fields; those before it are skipped."""
    while True:
        message: dict[str, Any] = json.loads(await client.recv())
        if wanted.items() <= message.items():
            return message


async def close_of(client: ClientConnection) -> tuple[int, str]:
    """Read to the end; code and reason of the server's close frame."""
    received = None
    try:
        while True:
            await client.recv()
    except ConnectionClosed as closed:
        received = closed.rcvd
    assert received is not None, "the connection ended without a close frame"
    return received.code, received.reason
