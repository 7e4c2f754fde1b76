"""A core and a server's end of its connection, joined in memory, under a clock that the test moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from neurograph_ws_client.backend import current
from neurograph_ws_client.core import Core
from neurograph_ws_client.dispatching import NAMES, Dispatcher
from neurograph_ws_client.errors import NeurographError
from neurograph_ws_client.events import Callback
from neurograph_ws_client.settings import Settings
from neurograph_ws_client.wire import SUBPROTOCOL, Address

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"
NOW: Final = "2024-12-29T12:00:00.123Z"


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


CONNECTED: Final = next(case for case in fixture("server_messages.json") if case["name"] == "connected-development")


class Line:
    """One client's core, and connection after connection to it.

    Attributes:
        sent: What the client sent on the connection that is open, and on earlier ones; `take` empties it.
        pongs: How many of them it sent.
        delivered: The events that handlers got.
        gaps: The gaps that were reported.
        told: What callbacks were told.
    """

    def __init__(self, jitter: float = 0.5, **settings: Any) -> None:
        self.now = 1_000.0
        self.core = Core(Address("ws://router.test/ws"), Settings(**settings), lambda: jitter)
        self.sent: list[dict[str, Any]] = []
        self.pongs = 0
        self.request: Request | None = None
        self.delivered: list[dict[str, Any]] = []
        self.gaps: list[dict[str, Any]] = []
        self.told: list[tuple[str, Any]] = []
        self._server = ServerProtocol()

    # The server's side

    def accept(self, token: str | None = None) -> None:
        """The client begins, and the server completes the handshake."""
        self.core.start()
        self.core.begin(token, self.now)
        self._server = ServerProtocol(subprotocols=[SUBPROTOCOL], max_size=None)
        self.pump()
        assert self.request is not None
        self._server.send_response(self._server.accept(self.request))
        self._reach()

    def open(self, token: str | None = None, **fields: Any) -> None:
        """The handshake, `connected`, and what the client says to that."""
        self.accept(token)
        self.say({**CONNECTED["message"], **fields})
        self.pump()

    def say(self, *messages: dict[str, Any] | str) -> None:
        """Send messages that arrive with one read."""
        for message in messages:
            text = message if isinstance(message, str) else json.dumps(message)
            self._server.send_text(text.encode())
        self._reach()
        self.pump()

    def say_in_parts(self, message: dict[str, Any]) -> None:
        """Send a message in three frames, with a heartbeat among them."""
        text = json.dumps(message).encode()
        self._server.send_text(text[:5], fin=False)
        self._server.send_ping(b"")
        self._server.send_continuation(text[5:9], fin=False)
        self._server.send_continuation(text[9:], fin=True)
        self._reach()
        self.pump()

    def send_raw(self, data: bytes) -> None:
        """Send what need not be a frame."""
        self.core.receive(data, self.now)

    def send_binary(self) -> None:
        self._server.send_binary(b"\0")
        self._reach()

    def close(self, code: int, reason: str = "") -> None:
        """The server closes."""
        self._server.send_close(code, reason)
        self._reach()
        self.lose()

    def cut(self) -> None:
        """The connection is gone without a word."""
        self.core.receive_eof()
        self.lose()

    def lose(self) -> None:
        """The client has noticed, and its socket is closed."""
        assert self.core.over
        self.pump()
        self.core.ended(self.now)

    def _reach(self) -> None:
        data = b"".join(self._server.data_to_send())
        if data:
            self.core.receive(data, self.now)

    def pump(self) -> None:
        """What the client has to send reaches the server."""
        while data := self.core.to_send(self.now):
            self._server.receive_data(data)
            for item in self._server.events_received():
                if isinstance(item, Frame):
                    self.pongs += item.opcode is Opcode.PONG
                    if item.opcode is Opcode.TEXT:
                        self.sent.append(json.loads(bytes(item.data)))
                else:
                    assert isinstance(item, Request)
                    self.request = item

    # The client's side

    def take(self) -> list[dict[str, Any]]:
        """What the client has said since the last time."""
        self.pump()
        sent, self.sent = self.sent, []
        return sent

    def granted(self, *channels: str, epoch: str = "e1", seq: int = 0) -> None:
        """Answer the last message, a `subscribe`."""
        ask = self.take()[-1]
        assert ask["type"] == "subscribe"
        positions = {channel: {"epoch": epoch, "seq": seq} for channel in channels}
        self.say({
            "type": "subscribed", "id": ask["id"], "channels": list(channels), "timestamp": NOW, "positions": positions,
        })  # fmt: skip

    def subscribe(self, channel: str, handler: Callable[[Any], object] | None = None) -> None:
        self.core.subscriptions.add(channel, handler or self.delivered.append, None)

    def pass_time(self, seconds: float) -> None:
        """The clock moves, and stops wherever the core wants to be told."""
        end = self.now + seconds
        while (deadline := self.core.deadline(self.now)) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.core.tick(self.now)
            self.pump()
        self.now = end

    def dispatch(self) -> None:
        """Hand out all that waits, as the client does."""
        callbacks: dict[str, tuple[Callback, ...]] = {name: (partial(self._tell, name),) for name in NAMES}
        callbacks["gap"] += (self.gaps.append,)

        async def work() -> None:
            dispatcher = Dispatcher(self.core, callbacks, current(), lambda: None)
            dispatcher.finish()
            await dispatcher.handle()
            await dispatcher.tell()

        asyncio.run(work())

    def _tell(self, name: str, argument: Any) -> None:
        self.told.append((name, argument))

    def errors(self) -> list[NeurographError]:
        """What `error` was told."""
        self.dispatch()
        return [argument for name, argument in self.told if name == "error"]


def event(channel: str, seq: int | None, **fields: Any) -> dict[str, Any]:
    plain = {"channel": channel, "timestamp": NOW, "event_type": "x", "data": {}, **fields}
    return plain if seq is None else {**plain, "seq": seq}


def plain(value: Any) -> Any:
    """As it would come out of JSON."""
    return msgspec.json.decode(msgspec.json.encode(value))


def contains(actual: Any, expected: Any) -> bool:
    """Whether what is expected is there: a subset of objects, the same lists and values; true is no number."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            name in actual and contains(actual[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(expected)
            and all(contains(one, other) for one, other in zip(actual, expected, strict=True))
        )
    return actual == expected and isinstance(actual, bool) == isinstance(expected, bool)
