"""A server on a real socket that does what a test's script says, and both event loops to run a client on."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from neurograph_ws_client.backend import current
from ws_line import CONNECTED, NOW, event

#: For a whole scenario; it only ever passes where something hangs.
DEADLINE_S: Final = 60.0


class Peer:
    """One connection, from the server's side."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        assert connection.request is not None
        self.path = connection.request.path
        self.headers = connection.request.headers

    def hello(self, **fields: Any) -> None:
        self.send({**CONNECTED["message"], "epoch": "e1", **fields})

    def send(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            self.connection.send(json.dumps(message))

    def hear(self, kind: str) -> dict[str, Any]:
        """The next message, which must be of this kind."""
        message: dict[str, Any] = json.loads(self.connection.recv(timeout=DEADLINE_S))
        assert message["type"] == kind, message
        return message

    def grant(self, seq: int = 0) -> dict[str, Any]:
        """Hear `subscribe`, and grant it."""
        ask = self.hear("subscribe")
        positions = {channel: {"epoch": "e1", "seq": seq} for channel in ask["channels"]}
        self.send({"type": "subscribed", "id": ask["id"], "channels": ask["channels"], "positions": positions,
                   "timestamp": NOW})  # fmt: skip
        return ask

    def events(self, first: int, last: int) -> None:
        self.send(*(event("signals", seq) for seq in range(first, last + 1)))

    def cut(self) -> None:
        """End it without a word."""
        self.connection.socket.shutdown(2)

    def until_closed(self) -> int:
        """Read on to the end. Returns the client's close code."""
        try:
            while True:
                self.connection.recv(timeout=DEADLINE_S)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006


Script = Callable[[Peer], None]


@contextmanager
def peers(*scripts: Script | HTTPStatus, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve one connection after another by these scripts, or refuse it. Gives the URL; what a script raises fails."""
    left = list(scripts)
    errors: list[Exception] = []

    def handle(connection: ServerConnection) -> None:
        try:
            script = left.pop(0)
            assert not isinstance(script, HTTPStatus)
            script(Peer(connection))
        except Exception as error:
            errors.append(error)

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        if left and isinstance(left[0], HTTPStatus):
            status = left.pop(0)
            assert isinstance(status, HTTPStatus)
            return connection.respond(status, "no\n")
        return None

    def subprotocol(connection: ServerConnection, offered: Any) -> Any:
        assert list(offered) == ["neurograph.v1"]
        return offered[0]

    with serve(
        handle, "127.0.0.1", 0, process_request=refuse, select_subprotocol=subprotocol, compression=None, ssl=tls
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'ws' if tls is None else 'wss'}://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()
    for error in errors:
        raise error
    assert left == [], "connections that were not made"


Scenario = Callable[[], Awaitable[None]]


def on_asyncio(scenario: Scenario) -> None:
    async def main() -> None:
        await asyncio.wait_for(scenario(), DEADLINE_S)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks were left running"

    asyncio.run(main())


def on_trio(scenario: Scenario) -> None:
    async def main() -> None:
        with trio.fail_after(DEADLINE_S):
            await scenario()
        system = trio.lowlevel.current_root_task()
        assert system is not None
        mine = [task for nursery in system.child_nurseries for task in nursery.child_tasks]
        assert len(mine) <= 2, "system tasks were left running"  # this one, and the one that owns them

    trio.run(main)


both_loops = pytest.mark.parametrize("run", [on_asyncio, on_trio], ids=["asyncio", "trio"])
Run = Callable[[Scenario], None]


class Collected:
    """What a handler got, and a way to wait for it."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = current().event()

    def __call__(self, item: Any) -> None:
        self.items.append(item)
        self._changed.set()
        self._changed = current().event()

    async def until(self, count: int) -> list[Any]:
        """Wait for so many. Returns them all."""
        while len(self.items) < count:
            await self._changed.wait()
        return self.items

    @property
    def seqs(self) -> list[int]:
        return [item["seq"] for item in self.items]
