"""A server that says what a test has written down for it, one script for each connection."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request
from websockets.trio.server import ServerConnection, serve

#: For a whole test; it only ever passes where something hangs.
DEADLINE_S = 30

HELLO: dict[str, Any] = {
    "type": "connected",
    "client_id": "c",
    "user_id": None,
    "timestamp": "2024-12-29T12:00:00.123Z",
    "role": "admin",
    "reconnected": False,
    "protocol": 1,
    "epoch": "e1",
    "heartbeat_s": 30,
    "max_message_bytes": 65536,
    "reconnection_token": "first",
    "expires_in": 300,
}


class Wire:
    """The server's end of one connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection

    async def say(self, **fields: object) -> None:
        await self.connection.send(json.dumps(fields))

    async def greet(self, **more: object) -> None:
        await self.say(**(HELLO | more))

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.connection.recv())
        return message

    async def reply(self, kind: str, **more: object) -> dict[str, Any]:
        """Answer the next message; which it was."""
        message = await self.hear()
        await self.say(type=kind, id=message["id"], **more)
        return message

    async def close(self, code: int, reason: str = "") -> None:
        await self.connection.aclose(code, reason)

    async def drop(self) -> None:
        """End the connection without a word."""
        await trio.aclose_forcefully(self.connection.stream)

    async def close_of(self) -> int | None:
        """Read to the end; the code of the client's close frame, None where there was none."""
        try:
            while True:
                await self.connection.recv()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code


Script = Callable[[Wire], Awaitable[None]]


class Peer:
    """The server, and the requests it was sent."""

    def __init__(self, port: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/ws"
        self.requests: list[Request] = []


@asynccontextmanager
async def peer(*scripts: Script) -> AsyncIterator[Peer]:
    """Serve the scripts, each to one connection, and no more; what goes wrong in one of them fails the test."""
    left = list(scripts)
    failures: list[Exception] = []
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    served = Peer(listener.socket.getsockname()[1])

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        served.requests.append(connection.request)
        try:
            await left.pop(0)(Wire(connection))
        except Exception as error:
            failures.append(error)

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                lambda *, task_status: serve(
                    handle, listeners=[listener], compression=None, ping_interval=None, task_status=task_status
                )
            )
            async with server:
                yield served
    assert failures == []
    assert left == [], "some were never called on"
