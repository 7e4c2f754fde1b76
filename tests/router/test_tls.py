"""TLS on the port: what is spoken, what is refused, and peers that stall, leave or speak something else."""

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import websockets.trio.client
from structlog.typing import EventDict

from router.config import Config, ConfigError
from router.door.tls import Tls, TlsStream, make_tls
from router.server import Server
from tests.certificates import Certificate, certificate
from tests.router.serving import DEADLINE_S, close_of, hear, serving


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as records:
        yield records


@pytest.fixture
def cert(tmp_path: Path) -> Certificate:
    return certificate(tmp_path)


# The files


def test_without_files_there_is_no_tls() -> None:
    assert make_tls(Config()) is None


@pytest.mark.parametrize("name", ["tls_certificate_file", "tls_key_file"])
def test_one_file_alone_is_no_use(name: str) -> None:
    with pytest.raises(ConfigError, match="go together: set both, or neither"):
        make_tls(Config(**{name: "x.pem"}))  # type: ignore[arg-type]


def test_a_file_that_cannot_be_used_is_named_with_the_reason(cert: Certificate, tmp_path: Path) -> None:
    other, locked = certificate(tmp_path, "other"), certificate(tmp_path, "locked", passphrase=b"secret")
    (tmp_path / "text.pem").write_text("hello")
    broken = cert.file.read_text().replace("MII", "MIX")
    (tmp_path / "broken.pem").write_text(broken)
    missing, folder, text = str(tmp_path / "missing.pem"), str(tmp_path), str(tmp_path / "text.pem")
    good, key = str(cert.file), str(cert.key_file)
    said = {
        (missing, key): f"tls_certificate_file '{missing}' cannot be read: No such file or directory",
        (good, folder): f"tls_key_file '{folder}' cannot be read: Is a directory",
        (good, "a\0b"): "tls_key_file 'a\\x00b' cannot be read: embedded null byte",
        (text, key): f"tls_certificate_file '{text}' cannot be used: it holds no PEM certificate, or a broken one",
        (str(tmp_path / "broken.pem"), key): "it holds no PEM certificate, or a broken one",
        (good, text): f"tls_key_file '{text}' cannot be used: it holds no PEM private key, or a broken one",
        (good, good): f"tls_key_file '{good}' cannot be used: it holds no PEM private key, or a broken one",
        (good, str(locked.key_file)): "cannot be used: it has a passphrase; store it without one",
        (good, str(other.key_file)): "cannot be used together: KEY_VALUES_MISMATCH",
    }
    for (certificate_file, key_file), reason in said.items():
        with pytest.raises(ConfigError) as error:
            Tls(certificate_file, key_file)
        assert reason in str(error.value)
        assert "\n" not in str(error.value)


def test_what_was_read_is_said_with_its_end(cert: Certificate, logged: list[EventDict]) -> None:
    tls = make_tls(Config(**cert.settings))
    assert tls is not None
    assert logged == []  # it may come to nothing
    tls.tell()
    (record,) = logged
    assert (record["event"], record["file"]) == ("TLS certificate read", str(cert.file))
    assert record["expires"].endswith("+00:00")


async def test_a_server_says_which_certificate_it_uses(cert: Certificate, logged: list[EventDict]) -> None:
    async with serving(**cert.settings):
        pass
    assert [record["file"] for record in logged if record["event"] == "TLS certificate read"] == [str(cert.file)]


# What is spoken


@asynccontextmanager
async def secured(port: int, cert: Certificate, **changes: Any) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    """A connection under TLS; `changes` of the client's context."""
    context = cert.trusted()
    alpn = changes.pop("alpn", ["http/1.1"])
    context.set_alpn_protocols(alpn)
    for name, value in changes.items():
        setattr(context, name, value)
    async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
        stream = trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)
        await stream.do_handshake()
        yield stream


def connect(port: int, cert: Certificate, **options: Any) -> websockets.trio.client.connect:
    return websockets.trio.client.connect(f"wss://localhost:{port}/ws", ssl=cert.trusted(), proxy=None, **options)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while more := await stream.receive_some():
        data += more
    return data


async def read_until(stream: trio.abc.ReceiveStream, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        more = await stream.receive_some()
        assert more, f"the connection ended behind {data!r}"
        data += more
    return data


def get(target: str, *more: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *more, "", ""]).encode()


STATUS = get("/api/v1/websocket/status")
HANDSHAKE = get(
    "/ws",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["http/1.1"]])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_http_1_is_what_is_spoken(cert: Certificate, offered: list[str], version: ssl.TLSVersion) -> None:
    async with (
        serving(**cert.settings) as port,
        secured(port, cert, alpn=offered, minimum_version=version, maximum_version=version) as stream,
    ):
        assert stream.selected_alpn_protocol() == "http/1.1"
        await stream.send_all(STATUS)
        assert (await read_until(stream, b"}}")).startswith(b"HTTP/1.1 200")


async def test_http_2_is_not_agreed_on(cert: Certificate) -> None:
    async with serving(**cert.settings) as port, secured(port, cert, alpn=["h2"]) as stream:
        assert stream.selected_alpn_protocol() is None


async def test_http_2_is_not_served_to_who_speaks_it_all_the_same(cert: Certificate) -> None:
    async with serving(**cert.settings) as port, secured(port, cert) as stream:
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
        data = await read_all(stream)
    assert data.startswith(b"HTTP/1.1 505 ")
    assert b"HTTP/2.0 is not spoken under TLS" in data


async def test_old_versions_are_refused(cert: Certificate, logged: list[EventDict]) -> None:
    context = cert.trusted()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(**cert.settings) as port, await trio.open_tcp_stream("127.0.0.1", port) as plain:
        stream = trio.SSLStream(plain, context, server_hostname="localhost")
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
    (failed,) = [record for record in logged if record["event"] == "a TLS handshake failed"]
    assert "UNSUPPORTED_PROTOCOL" in failed["reason"]


async def test_requests_and_then_a_websocket_on_one_connection(cert: Certificate) -> None:
    async with serving(**cert.settings) as port, secured(port, cert) as stream:
        for _ in range(2):
            await stream.send_all(STATUS)
            assert (await read_until(stream, b"}}")).startswith(b"HTTP/1.1 200")
        await stream.send_all(HANDSHAKE)
        await read_until(stream, b'"type":"connected"')


async def test_a_websocket_is_served_to_its_end(cert: Certificate) -> None:
    """Events by the thousand, then a close that nobody has to wait for."""
    async with serving(**cert.settings, close_s=DEADLINE_S) as port, connect(port, cert, close_timeout=None) as client:
        await hear(client, type="connected")
        await client.send('{"type":"subscribe","channels":["signals"]}')
        await hear(client, type="subscribed")
        events = [{"event_type": "x", "data": {"n": n}} for n in range(100)]
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                text = json.dumps({"type": "publish", "channel": "signals", "events": events})
                nursery.start_soon(client.send, text)
            for seq in range(1, 2001):
                assert (await hear(client, channel="signals"))["seq"] == seq


async def test_the_servers_close_ends_it_too(cert: Certificate) -> None:
    async with serving(**cert.settings, close_s=DEADLINE_S) as port, connect(port, cert, close_timeout=None) as client:
        await hear(client, type="connected")
        await client.send(b"binary")
        assert (await close_of(client))[0] == 1003


async def test_one_too_many_is_told_so(cert: Certificate) -> None:
    async with serving(**cert.settings, max_connections=1) as port, connect(port, cert) as first:
        await hear(first, type="connected")
        async with connect(port, cert) as second:
            assert await close_of(second) == (1013, "the limit of 1 connections is reached")


@pytest.mark.parametrize(("origin", "status"), [("https://example.com", 200), ("http://example.com", 403)])
async def test_the_own_origin_is_https(cert: Certificate, origin: str, status: int) -> None:
    async with serving(**cert.settings, insecure=True) as port:
        for asked in (STATUS.replace(b"Host", b"Connection: close\r\nHost"), HANDSHAKE):
            async with secured(port, cert) as stream:
                await stream.send_all(asked.replace(b"localhost", f"example.com\r\nOrigin: {origin}".encode()))
                answer = await read_until(stream, b"\r\n\r\n")
            served = answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101"))
            assert served is (status == 200), answer


async def test_an_answer_arrives_though_input_is_unread(cert: Certificate) -> None:
    """The server has answered long before all is sent, and closes without a reset."""
    size = 10_000_000
    post = get("/nope", f"Content-Length: {size}").replace(b"GET", b"POST")
    async with serving(**cert.settings, close_s=DEADLINE_S) as port, secured(port, cert) as stream:
        await stream.send_all(post + bytes(size - 1))
        assert (await read_all(stream)).startswith(b"HTTP/1.1 404")


# What is not


async def test_plain_http_is_answered_plainly(cert: Certificate) -> None:
    async with serving(**cert.settings) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(STATUS)
        answer = await read_all(stream)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"this port speaks TLS: use https:// or wss://" in answer


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x00\x05hello", b"\x00" * 6, b"\x16" + bytes(100_000)])
async def test_what_is_neither_is_closed(cert: Certificate, sent: bytes, logged: list[EventDict]) -> None:
    async with serving(**cert.settings) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(sent)
        try:
            await read_all(stream)  # an alert, maybe
        except trio.BrokenResourceError:
            pass
    assert [record for record in logged if record["log_level"] in ("error", "warning")][1:] == []


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_a_peer_that_stalls_in_the_handshake_is_closed(cert: Certificate, sent: bytes) -> None:
    async with (
        serving(**cert.settings, handshake_s=0.1) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(sent)
        assert await read_all(stream) == b""


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"])
async def test_a_handshake_that_is_not_done_holds_nothing_up(cert: Certificate, sent: bytes) -> None:
    server = Server(Config(port=0, **cert.settings, handshake_s=DEADLINE_S, drain_s=DEADLINE_S))
    async with serving(server) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(sent)
        async with secured(port, cert):  # whoever came before is in by now
            pass
        server.stop()
        assert await read_all(stream) == b""


@pytest.mark.parametrize("asked", [b"", STATUS, STATUS[:-1], HANDSHAKE])
async def test_a_peer_that_leaves_without_a_word_is_nothing_to_log(
    cert: Certificate, asked: bytes, logged: list[EventDict]
) -> None:
    async with serving(**cert.settings) as port, secured(port, cert) as stream:
        await stream.send_all(asked + b" " * (not asked))
        if asked.endswith(b"\r\n\r\n"):
            await read_until(stream, b"}")
        # A context's end closes the socket, and no more.
    assert {record["log_level"] for record in logged} <= {"debug", "info", "warning"}
    assert [record["event"] for record in logged if record["log_level"] == "warning"] == [
        "DEVELOPMENT MODE: no key is configured, so everybody on this machine is an administrator; "
        "set NEUROGRAPH_JWT_KEYS to end it"
    ]


# Its stream


async def test_an_end_is_told_though_input_is_unread(cert: Certificate) -> None:
    tls = Tls(str(cert.file), str(cert.key_file))

    async def end_early(stream: TlsStream) -> None:
        await stream.receive_some(10)
        await stream.send_eof()
        while await stream.receive_some():
            pass

    async with trio.open_nursery() as nursery, client_of(tls, cert, nursery, end_early) as client:
        await client.send_all(bytes(40_000))
        assert await client.receive_some() == b""


# Another certificate


async def test_another_certificate_is_for_handshakes_to_come(
    cert: Certificate, tmp_path: Path, logged: list[EventDict]
) -> None:
    tls = Tls(str(cert.file), str(cert.key_file))
    async with trio.open_nursery() as nursery, client_of(tls, cert, nursery, echo) as before:
        renewed = certificate(tmp_path, "renewed")
        tls.adopt(Tls(str(renewed.file), str(renewed.key_file)))
        assert [record["file"] for record in logged if "file" in record] == [str(renewed.file)]
        async with client_of(tls, renewed, nursery, echo) as after:
            await after.send_all(b"new")
            assert await after.receive_some() == b"new"
        await before.send_all(b"old")
        assert await before.receive_some() == b"old"


async def echo(stream: TlsStream) -> None:
    while data := await stream.receive_some():
        await stream.wait_send_all_might_not_block()
        await stream.send_all(data)


@asynccontextmanager
async def client_of(
    tls: Tls, cert: Certificate, nursery: trio.Nursery, handle: Callable[[TlsStream], Awaitable[None]]
) -> AsyncIterator[trio.abc.Stream]:
    """A client that trusts this certificate, of a server that handles the connection so."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async with await listener.accept() as stream:
            await handle(await tls.shake_hands(stream, DEADLINE_S))

    with trio.fail_after(DEADLINE_S):
        async with listener:
            await nursery.start(serve)
            async with secured(listener.socket.getsockname()[1], cert) as stream:
                yield stream
