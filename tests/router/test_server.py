"""The server's life: starting, the phases of going down, each with its deadline, and giving up aloud."""

import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jwt
import msgspec
import pytest
import structlog
import trio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.typing import EventDict
from websockets.trio.client import ClientConnection

from actors import RestartLimitError
from router.auth.tokens import KeyConfigError
from router.config import Config, ConfigError
from router.door.listening import Addresses
from router.feeds.logs import LogHandler
from router.feeds.metrics import MetricsFeed
from router.hub.actor import Hub
from router.server import Server
from tests.router.serving import DEADLINE_S, close_of, connect, hear, serving

KEY = "k" * 32


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as records:
        yield records


def events_of(logged: list[EventDict]) -> list[str]:
    return [record["event"] for record in logged]


@dataclass
class Running:
    """A server in the test's process whose end the test looks at."""

    server: Server
    port: int
    ended: trio.Event


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Running]:
    """Run a server that the test has to stop."""
    server, ended = Server(Config(port=0, **settings)), trio.Event()

    async def run(*, task_status: trio.TaskStatus[Addresses]) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started(await nursery.start(server.run))
        ended.set()

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            ((_, port),) = await nursery.start(run)
            yield Running(server, port, ended)


async def say(client: ClientConnection, **message: object) -> None:
    await client.send(json.dumps(message))


async def subscribe(client: ClientConnection, *channels: str) -> None:
    await say(client, type="subscribe", channels=channels)
    await hear(client, type="subscribed")


# Starting


async def test_it_tells_where_it_listens_and_warns_of_development_mode(logged: list[EventDict]) -> None:
    async with serving() as port:
        pass
    listening = next(record for record in logged if record["event"] == "listening")
    assert listening["port"] == port
    assert listening["websocket"] == f"ws://127.0.0.1:{port}/ws"
    assert any(event.startswith("DEVELOPMENT MODE") for event in events_of(logged))
    assert events_of(logged)[-1] == "stopped"


async def test_an_ipv6_address_stands_in_brackets(logged: list[EventDict]) -> None:
    async with serving(host="::1") as port:
        pass
    listening = next(record for record in logged if record["event"] == "listening")
    assert listening["websocket"] == f"ws://[::1]:{port}/ws"


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def settings_for(kind: str, key: ec.EllipticCurvePrivateKey, folder: Path) -> dict[str, Any]:
    file = folder / "keys"
    if kind == "PEM":
        file.write_text(pem_of(key))
        return {"jwt_public_key_file": str(file)}
    file.write_bytes(msgspec.json.encode({"keys": [jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)]}))
    return {"jwks": str(file)}


@pytest.mark.parametrize("kind", ["PEM", "JWKS"])
async def test_keys_come_from_files(kind: str, tmp_path: Path, logged: list[EventDict]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode({"sub": "alice", "role": "bot"}, key, algorithm="ES256")
    async with serving(**settings_for(kind, key, tmp_path)) as port, connect(port, f"/ws?token={token}") as client:
        connected = await hear(client, type="connected")
        assert (connected["user_id"], connected["role"]) == ("alice", "bot")
    assert not any(event.startswith("DEVELOPMENT MODE") for event in events_of(logged))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"jwt_public_key_file": "/nowhere/key.pem"}, ConfigError, "'/nowhere/key.pem' cannot be read: .*No such file"),
        ({"jwt_public_key_file": "/"}, ConfigError, "'/' cannot be read: .*Is a directory"),
        ({"jwks": "/nowhere/keys.json"}, KeyConfigError, "/nowhere/keys.json"),
        ({"jwt_keys": ("short",)}, KeyConfigError, "too short"),
    ],
)
async def test_a_key_that_cannot_be_used_is_named(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await Server(Config(port=0, **settings)).run()


async def test_a_key_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "key.der"
    file.write_bytes(b"\x30\x82\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        await Server(Config(port=0, jwt_public_key_file=str(file))).run()


async def test_a_port_in_use_is_named() -> None:
    async with serving() as port:
        with pytest.raises(ConfigError, match=f"port {port}: Address already in use"):
            await Server(Config(port=port)).run()


async def test_told_to_stop_before_it_runs_it_goes_down_at_once() -> None:
    server = Server(Config(port=0))
    server.stop()
    with trio.fail_after(DEADLINE_S):
        await server.run()


async def test_log_records_become_events() -> None:
    handler = LogHandler()
    logger = logging.getLogger("tests.server")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        async with serving(Server(Config(port=0), handler)) as port, connect(port) as client:
            await subscribe(client, "logs")
            logger.warning("mind the gap")
            event = await hear(client, channel="logs")
            assert (event["event_type"], event["data"]["message"]) == ("log.warning", "mind the gap")
    finally:
        logger.removeHandler(handler)


# Going down


async def test_everybody_is_told_and_gets_a_slot_to_come_back_in() -> None:
    async with running(reconnect_spread_s=3) as run, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(run.port)) for _ in range(3)]
        for client in clients:
            await hear(client, type="connected")
        await subscribe(clients[0], "status")
        run.server.stop()
        assert (await hear(clients[0], channel="status"))["event_type"] == "status.draining"
        slots = set()
        for client in clients:
            goodbye = json.loads(await client.recv())
            assert (goodbye["type"], goodbye["reason"]) == ("goodbye", "shutdown")
            slots.add(goodbye["reconnect_after_ms"])
            assert await close_of(client) == (1001, "the server is going down")
        assert slots == {250, 1250, 2250}
        await run.ended.wait()
        await until_refused(run.port)


async def test_what_waits_is_drained_before_the_goodbye() -> None:
    """A client that begins to read when the server goes down gets all that it was owed, then the goodbye."""
    async with running(send_buffer_bytes=4096) as run, connect(run.port) as publisher:
        async with await connect_slowly(run.port) as stream:
            await talk_raw(stream, type="subscribe", channels=["signals"])
            await until_it_waits(publisher, run.port)
            run.server.stop()
            await hear(publisher, type="goodbye")
            data = await read_all(stream)
        seqs = [event["seq"] for event in messages_in(data) if event.get("channel") == "signals"]
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) > 1
        assert messages_in(data)[-1]["type"] == "goodbye"
        await run.ended.wait()


async def test_a_client_that_never_reads_holds_nothing_up(logged: list[EventDict]) -> None:
    async with (
        running(send_buffer_bytes=4096, drain_s=0.2, close_s=0.1) as run,
        connect(run.port) as publisher,
        await connect_slowly(run.port) as stream,
    ):
        await talk_raw(stream, type="subscribe", channels=["signals"])
        await until_it_waits(publisher, run.port)
        run.server.stop()
        await hear(publisher, type="goodbye")
        await run.ended.wait()
    closing = next(record for record in logged if record["event"] == "closing those who did not drain")
    assert closing["connections"] == 1


async def test_who_has_not_signed_in_yet_holds_nothing_up() -> None:
    async with running(jwt_keys=(KEY,), allow_anonymous=False, drain_s=DEADLINE_S) as run, connect(run.port) as client:
        run.server.stop()
        assert await close_of(client) == (1001, "the server is going down")
        await run.ended.wait()


async def test_half_a_handshake_holds_nothing_up() -> None:
    async with running(handshake_s=DEADLINE_S, drain_s=DEADLINE_S) as run:
        async with await trio.open_tcp_stream("127.0.0.1", run.port) as stream:
            await stream.send_all(b"GET /ws HTTP/1.1\r\n")
            await until_open(run.port)
            run.server.stop()
            assert await read_all(stream) == b""
        await run.ended.wait()


class App:
    """Answers when it is told to."""

    def __init__(self, body: bytes = b"") -> None:
        self.body = body
        self.asked = trio.Event()
        self.release = trio.Event()

    async def __call__(self, scope: object, receive: object, send: Callable[[object], Awaitable[None]]) -> None:
        self.asked.set()
        await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> App:
    """Stands in for the app of the servers that the test runs."""
    app = App()
    monkeypatch.setattr("router.server.make_app", lambda *_: app)
    return app


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_a_request_that_is_being_answered_is_answered(app: App) -> None:
    async with running(drain_s=DEADLINE_S) as run, await trio.open_tcp_stream("127.0.0.1", run.port) as stream:
        await stream.send_all(GET)
        await app.asked.wait()
        run.server.stop()
        await until_refused(run.port)
        app.release.set()
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200")
        await run.ended.wait()


async def test_a_request_that_is_never_answered_holds_nothing_up(app: App) -> None:
    async with (
        running(drain_s=0.1, close_s=0.1) as run,
        await trio.open_tcp_stream("127.0.0.1", run.port) as stream,
    ):
        await stream.send_all(GET)
        await app.asked.wait()
        run.server.stop()
        assert await read_all(stream) == b""
        await run.ended.wait()


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
async def test_an_answer_that_nobody_reads_holds_nothing_up(app: App, how: str) -> None:
    app.body = bytes(10_000_000)
    app.release.set()
    began_at = trio.current_time()
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            server = Server(Config(port=0, drain_s=0.1, close_s=0.1, http_send_s=2 * DEADLINE_S))
            ((_, port),) = await nursery.start(server.run)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(GET)
            await app.asked.wait()
            await stream.receive_some(1)
            if how == "stopped":
                server.stop()
            else:
                nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)  # which was open till the end
    assert trio.current_time() - began_at < DEADLINE_S


async def test_a_router_that_cannot_say_goodbye_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    def fail(self: Hub) -> NoReturn:
        raise ValueError("no words")

    monkeypatch.setattr(Hub, "_say_goodbye", fail)
    async with running(drain_s=DEADLINE_S) as run, connect(run.port) as client:
        await hear(client, type="connected")
        run.server.stop()
        assert await close_of(client) == (1001, "the server is going down")
        await run.ended.wait()
    assert "clients could not be told of the shutdown" in events_of(logged)


# Giving up, and being cancelled


async def test_a_service_that_fails_too_often_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: MetricsFeed, mailbox: object, *, task_status: trio.TaskStatus[None]) -> NoReturn:
        task_status.started()
        await trio.lowlevel.checkpoint()
        raise ValueError("no metrics today")

    monkeypatch.setattr(MetricsFeed, "run", fail)
    with trio.fail_after(DEADLINE_S), pytest.RaisesGroup(RestartLimitError, flatten_subgroups=True) as failure:
        await Server(Config(port=0)).run()
    limit = next(iter(leaves(failure.value)))
    assert "child 'metrics'" in str(limit)
    assert str(limit.__cause__) == "no metrics today"


async def test_a_service_that_cannot_start_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: MetricsFeed, *_: object) -> NoReturn:
        raise ValueError("no metrics ever")

    monkeypatch.setattr(MetricsFeed, "__init__", fail)
    port = free_port()
    with trio.fail_after(DEADLINE_S), pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        await Server(Config(port=port)).run()
    (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")  # which is free again
    await listener.aclose()


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_cancelled_it_ends_at_once_without_a_goodbye() -> None:
    server = Server(Config(port=0, drain_s=DEADLINE_S))
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            ((_, port),) = await nursery.start(server.run)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(HANDSHAKE)
            await read_until(stream, b'"type":"connected"')
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert b"goodbye" not in await read_all(stream)
            await trio.aclose_forcefully(stream)
            outer.cancel_scope.cancel()


# A client that reads when it is told to

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def connect_slowly(port: int) -> trio.SocketStream:
    """A WebSocket that takes next to nothing into its own buffers."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await sock.connect(("127.0.0.1", port))
    stream = trio.SocketStream(sock)
    await stream.send_all(HANDSHAKE)
    await read_until(stream, b'"type":"connected"')
    return stream


async def talk_raw(stream: trio.SocketStream, **message: object) -> None:
    payload = msgspec.json.encode(message)
    await stream.send_all(bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload)
    await read_until(stream, b'"type":"subscribed"')


async def read_until(stream: trio.abc.ReceiveStream, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        more = await stream.receive_some(64)
        assert more, f"the connection ended behind {data!r}"
        data += more
    return data


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    try:
        while more := await stream.receive_some():
            data += more
    except trio.BrokenResourceError:
        pass
    return data


def messages_in(data: bytes) -> list[dict[str, Any]]:
    """The text messages in what a server sent; the first frame may have begun before."""
    decoder = json.JSONDecoder()
    text, messages = data.decode("latin-1"), []
    at = text.find('{"')
    while at >= 0:
        message, end = decoder.raw_decode(text, at)
        messages.append(message)
        at = text.find('{"', end)
    return messages


async def until_it_waits(publisher: ClientConnection, port: int) -> None:
    """Publish until somebody's outbox fills."""
    while True:
        await say(publisher, type="publish", channel="signals", event_type="x", data={"x": "x" * 1000}, id=1)
        await hear(publisher, type="published")
        if b'"buffered_events":0,' not in await get_status(port):
            return


async def get_status(port: int) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        head = b"GET /api/v1/websocket/status?limit=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        await stream.send_all(head)
        return await read_all(stream)


async def until_open(port: int) -> None:
    """Until those who connected before are accepted: they are in the order of their coming."""
    await get_status(port)


async def until_refused(port: int) -> None:
    while True:
        try:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        except OSError:
            return
