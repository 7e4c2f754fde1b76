"""The whole router over memory streams, with WebSocket clients at the other ends.

Nothing here touches a socket or a real clock: the tests use Trio's autojump clock, and the wall clock follows it.
What a client sends is in the server's hands at once, and in one read if nothing waits in between; what the server
may write before its socket is full, the client says (`stall`, `flow`).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MemoryReceiveStream, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.connection import ConnectionState

from actors import ActorError, ActorRef, ChildSpec, Restart, Supervisor
from router import handshake
from router.auth.tokens import Authenticator, JwtSettings
from router.clock import Clock
from router.config import Config
from router.connection import WAKE, Connection, Services, Wake
from router.hub.actor import Hub
from router.hub.crash import is_sound
from router.hub.distributing import Distributor
from router.hub.state import RouterState
from router.lanes import Lane
from router.letters import Emit, Message
from router.liveness import Liveness

#: 2024-12-29T12:00:00Z, when every test begins.
WALL_START_S = 1_735_473_600.0
HS_KEY = "a-secret-that-is-long-enough-for-HS256"
#: No message is waited for longer, in virtual seconds.
PATIENCE_S = 600.0

Json = dict[str, Any]

#: The settings of a server with a key.
WITH_KEY = Config(jwt_keys=(HS_KEY,))
#: One that lets nobody in without a token.
SIGNED_IN_ONLY = Config(jwt_keys=(HS_KEY,), allow_anonymous=False)


class Wire(trio.abc.HalfCloseableStream):
    """The server's end of a connection, and what a socket's buffer would do to it.

    Attributes:
        room: Bytes that can be written before the client reads on; None: any number.
        per_write: Bytes that one write takes at most.
        unread: Bytes that the client has sent and the server has not read.
    """

    def __init__(self, room: int | None = None, per_write: int | None = None) -> None:
        self.to_server = MemoryReceiveStream()
        self.to_client = MemoryReceiveStream()
        self.room = room
        self.per_write = per_write
        self.unread = 0
        self.broken = False
        self.ended = False
        self._changed = trio.Event()

    def try_write(self, buffer: bytes | memoryview) -> int:
        if self.broken or self.ended:
            raise BrokenPipeError
        size = len(buffer)
        if self.room is not None:
            size = min(size, self.room)
            self.room -= size
        if self.per_write is not None:
            size = min(size, self.per_write)
        if size:
            self.to_client.put_data(bytes(buffer[:size]))
        return size

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while self.room == 0 and not self.broken:
            await self._changed.wait()

    def change(self) -> None:
        """Wake whoever waits to write."""
        self._changed.set()
        self._changed = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        left = memoryview(data)
        while left:
            await self.wait_writable()
            try:
                left = left[self.try_write(left) :]
            except BrokenPipeError:
                raise trio.BrokenResourceError from None

    async def wait_send_all_might_not_block(self) -> None:
        await self.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self.to_server.receive_some(max_bytes)
        self.unread -= len(data)
        return data

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.to_client.put_eof()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self.end()

    async def aclose(self) -> None:
        self.end()
        self.to_server.close()
        await trio.lowlevel.checkpoint()


class Client:
    """A client that answers pings and closes as RFC 6455 asks, and keeps what it is sent.

    Attributes:
        connected: The `connected` message, where it was waited for.
        closed: Code and reason, once the server has closed.
        name: Of its connection's actor.
        lane: The server's lane for it.
        plain: The server can only `send_all` to it.
        deaf: It answers neither pings nor closes.
        gone: It has ended its side of the stream.
    """

    def __init__(self, wire: Wire, target: str, headers: Sequence[tuple[str, str]], protocols: Sequence[str]) -> None:
        self.wire = wire
        self.connected: Json = {}
        self.closed: tuple[int, str] | None = None
        self.name = ""
        self.lane: Lane
        self.plain = False
        self.deaf = False
        self.gone = False
        self.pings = 0
        self.subprotocol: str | None = None
        self._received: deque[Json] = deque()
        self._changed = trio.Event()
        self._text = ""
        self._ws = WSConnection(ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in headers]
        request = ws.Request(host="localhost", target=target, extra_headers=extra, subprotocols=list(protocols))
        self.head = self._ws.send(request)

    async def run(self) -> None:
        """Read until the server has ended the stream."""
        while data := bytes(await self.wire.to_client.receive_some()):
            self._ws.receive_data(data)
            for event in self._ws.events():
                self._take(event)
            self._changed.set()
            self._changed = trio.Event()
        if self.closed is None:
            self.closed = (1006, "")
        self._changed.set()
        self._hang_up()

    def _take(self, event: ws.Event) -> None:
        match event:
            case ws.RejectConnection() | ws.RejectData():
                pass
            case ws.AcceptConnection():
                self.subprotocol = event.subprotocol
            case ws.TextMessage():
                self._text += event.data
                if event.message_finished:
                    self._received.append(json.loads(self._text))
                    self._text = ""
            case ws.Ping():
                self.pings += 1
                if not self.deaf and self._ws.state is ConnectionState.OPEN:
                    self._put(self._ws.send(event.response()))
            case ws.CloseConnection():
                if self.closed is None:
                    self.closed = (event.code, event.reason or "")
                if not self.deaf and self._ws.state is ConnectionState.REMOTE_CLOSING:
                    self._put(self._ws.send(event.response()))
            case _:
                raise AssertionError(f"the server sent {event}")

    # What it sends

    def _put(self, data: bytes) -> None:
        if not self.gone:
            try:
                self.wire.to_server.put_data(data)
                self.wire.unread += len(data)
            except trio.ClosedResourceError:
                pass  # the server has closed the socket

    def _hang_up(self) -> None:
        if not self.gone:
            self.gone = True
            self.wire.to_server.put_eof()

    def send(self, kind: str, **fields: object) -> None:
        self.send_text(json.dumps({"type": kind, **fields}))

    def send_text(self, *texts: str) -> None:
        """Send messages, all in one read."""
        self._put(b"".join(self._ws.send(ws.TextMessage(text)) for text in texts))

    def send_fragments(self, *fragments: str) -> None:
        """Send one message in several frames."""
        last = len(fragments) - 1
        for index, text in enumerate(fragments):
            self._put(self._ws.send(ws.TextMessage(text, message_finished=index == last)))

    def send_binary(self, data: bytes) -> None:
        self._put(self._ws.send(ws.BytesMessage(data)))

    def send_raw(self, data: bytes) -> None:
        self._put(data)

    def subscribe(self, *channels: str, **fields: object) -> None:
        self.send("subscribe", channels=channels, **fields)

    def publish(self, channel: str = "signals", event_type: str = "x", **fields: object) -> None:
        self.send("publish", channel=channel, event_type=event_type, **fields)

    def close(self, code: int = 1000) -> None:
        """Begin to close, unless the server has."""
        if self.closed is None:
            self._put(self._ws.send(ws.CloseConnection(code)))

    def vanish(self) -> None:
        """Be gone without a word."""
        self.wire.broken = True
        self._hang_up()
        self.wire.change()

    def stall(self, room: int = 0) -> None:
        """Read no more than `room` bytes."""
        self.wire.room = room

    def flow(self, room: int | None = None) -> None:
        """Read on."""
        self.wire.room = room
        self.wire.change()

    # What it gets

    async def receive(self) -> Json:
        """The next message."""
        message = await self.receive_or_end()
        assert message is not None, f"closed: {self.closed}"
        return message

    async def receive_or_end(self) -> Json | None:
        """The next message; None: there is none, as the server has closed."""
        with trio.fail_after(PATIENCE_S):
            while not self._received:
                if self.closed is not None:
                    return None
                await self._changed.wait()
        return self._received.popleft()

    async def reply(self, kind: str, **fields: object) -> Json:
        """The next message that is no event, which must be as `expect` says."""
        while "type" not in (message := await self.receive()):
            pass
        self._received.appendleft(message)
        return await self.expect(kind, **fields)

    async def expect(self, kind: str | None = None, **fields: object) -> Json:
        """The next message, which must be of this type (None: an event) and have these fields."""
        message = await self.receive()
        assert {"type": message.get("type"), **message} == {**message, "type": kind, **fields}, message
        return message

    async def ended(self) -> tuple[int, str]:
        """Wait until the server has closed. Returns code and reason."""
        with trio.fail_after(PATIENCE_S):
            while self.closed is None:
                await self._changed.wait()
        return self.closed

    def take(self) -> list[Json]:
        """All messages that have come."""
        taken = list(self._received)
        self._received.clear()
        return taken

    @property
    def usable(self) -> bool:
        """Whether it can send messages."""
        return not self.gone and self._ws.state is ConnectionState.OPEN

    @property
    def token(self) -> str:
        """Its reconnection token."""
        return str(self.connected["reconnection_token"])

    @property
    def client_id(self) -> str:
        return str(self.connected["client_id"])


class World:
    """A router with its services, and connections over wires."""

    def __init__(self, config: Config, nursery: trio.Nursery, *, watched: bool, feeds: Feeds) -> None:
        self.config = config
        self.state = RouterState(config, Clock(now=lambda: WALL_START_S + trio.current_time()))
        self.authenticator: Authenticator | None = None
        if config.has_key:
            settings = JwtSettings(jwt_keys=config.jwt_keys)
            self.authenticator = Authenticator(
                settings, revocations=self.state.revocations, now=self.state.clock.unix_s
            )
        specs = [ChildSpec("router", lambda: Hub(self.state), mailbox_size=config.router_mailbox)]
        if watched:
            specs.append(ChildSpec("liveness", lambda: Liveness(self.shared)))
        specs += feeds(self)
        self.services = Supervisor("services", specs)
        self.connections = Supervisor("connections")
        self.router: ActorRef[Message] = self.services.ref("router")
        self.shared = Services(self.state, self.router, self.authenticator, set())
        self._nursery = nursery
        self._number = 0

    def jwt(self, user_id: str | None = "ada", *, ttl_s: float | None = None, **claims: object) -> str:
        """A token of this server's key."""
        assert self.authenticator is not None
        now = int(self.state.clock.unix_s())
        if user_id is not None:
            claims["sub"] = user_id
        if ttl_s is not None:
            claims |= {"iat": now, "exp": now + ttl_s}
        return self.authenticator.sign(claims)

    def open(
        self,
        query: str = "",
        *,
        token: str | None = None,
        resume: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        protocols: Sequence[str] = (),
        plain: bool = False,
        unknown_version: bool = False,
        close: tuple[Any, str] | None = None,
        **wire: int | None,
    ) -> Client:
        """Open a connection, and do not wait for anything.

        Args:
            query: Of the target, for example `heartbeat=message`.
            token: A JWT for `Authorization`.
            resume: A reconnection token.
            headers: More of them.
            protocols: Subprotocols offered.
            plain: The server can only `send_all`, as over TLS.
            unknown_version: The handshake asks for another version of WebSocket.
            close: The connection is one too many.
            wire: For `Wire`.
        """
        if resume is not None:
            query = "&".join(filter(None, (query, f"reconnection_token={resume}")))
        if token is not None:
            headers = [*headers, ("authorization", f"Bearer {token}")]
        target = f"/ws?{query}" if query else "/ws"
        end = Wire(**wire)
        client = Client(end, target, headers, protocols)
        client.plain = plain
        if unknown_version:
            client.head = client.head.replace(b"Version: 13", b"Version: 12")
        asked = handshake.read(target, headers, protocols)
        self._number += 1
        name = client.name = f"connection-{self._number}"

        def make() -> Connection:
            client.lane = Lane(
                end,
                client.head,
                wake=partial(_wake, self.connections.ref(name)),
                max_message_bytes=self.config.max_message_bytes,
                try_write=None if plain else end.try_write,
                wait_writable=None if plain else end.wait_writable,
                max_control_messages=self.config.control_messages,
                max_control_bytes=self.config.control_bytes,
            )
            if close is not None:
                client.lane.close(*close)
            return Connection(client.lane, asked, self.shared, "here")

        self.connections.spawn(ChildSpec(name, make, Restart.TEMPORARY, mailbox_size=4))
        self._nursery.start_soon(client.run)
        return client

    async def opened(self, query: str = "", **more: Any) -> Client:
        """Open a connection and wait until it can be used; nothing need have come by then."""
        client = self.open(query, **more)
        await self.settle()
        return client

    async def connect(self, query: str = "", **more: Any) -> Client:
        """Open a connection and wait for `connected`."""
        client = self.open(query, **more)
        client.connected = await client.expect("connected")
        return client

    async def subscriber(self, *channels: str, **more: Any) -> Client:
        """A client that is subscribed."""
        client = await self.connect(**more)
        client.subscribe(*channels)
        await client.expect("subscribed")
        return client

    async def settle(self) -> None:
        """Until nothing happens any more without the clock."""
        await wait_all_tasks_blocked()

    async def hold(self, monkeypatch: pytest.MonkeyPatch) -> trio.Event:
        """Hold the router up, as if it had much to do: what comes waits in its mailbox until the event is set."""
        gate, flush = trio.Event(), Distributor.flush

        async def held(distributor: Distributor) -> None:
            await gate.wait()
            await flush(distributor)

        monkeypatch.setattr(Distributor, "flush", held)
        self.router.tell("tick")
        await self.settle()
        return gate

    async def crash(self) -> None:
        """Let the router crash on a message that concerns nobody, and come back."""
        restarts = self.restarts
        await self.router.send(Emit("no such channel", "x", b"{}"))
        await trio.sleep(1)
        assert self.restarts > restarts

    @property
    def restarts(self) -> int:
        return self.services.tree()[0].restarts

    def assert_nothing_left(self) -> None:
        """No session, connection, subscription or event is kept."""
        state = self.state
        assert list(state.sessions) == []
        assert state.sessions.connected == 0
        assert state.subscriptions.total == 0
        assert state.buffered_events() == 0
        assert state.departures == type(state.departures)()
        assert self.shared.connections == set()
        assert len(self.connections) == 0
        assert is_sound(state)


#: More services of a world; their factories may use whatever it has.
Feeds = Callable[[World], Sequence[ChildSpec]]


@asynccontextmanager
async def running(
    config: Config | None = None, *, watched: bool = False, feeds: Feeds = lambda _: ()
) -> AsyncIterator[World]:
    """A router that runs.

    Args:
        config: The settings; None: the defaults, which are development mode.
        watched: The liveness watch runs, too: time does what it does to connections and sessions.
        feeds: More services.
    """
    async with trio.open_nursery() as nursery:
        world = World(config or Config(), nursery, watched=watched, feeds=feeds)
        await nursery.start(world.services.run)
        await nursery.start(world.connections.run)
        yield world
        nursery.cancel_scope.cancel()


def _wake(ref: ActorRef[Wake]) -> None:
    try:
        ref.tell(WAKE)
    except ActorError:
        pass


def events(messages: Sequence[Json], channel: str | None = None) -> list[Json]:
    """The events among messages."""
    return [m for m in messages if "type" not in m and (channel is None or m["channel"] == channel)]


def seqs(messages: Sequence[Json], channel: str = "signals") -> list[int]:
    """The seqs of a channel's events among messages."""
    return [m["seq"] for m in events(messages, channel)]
