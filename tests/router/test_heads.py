"""Request heads: read whole or refused, by a clear answer that arrives."""

import math
import socket
import struct
from collections.abc import Mapping

import msgspec
import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from router.door.heads import (
    Refused,
    begins_http2,
    check_upgrade,
    linger,
    parse_head,
    read_head,
    refuse,
    to_origin_form,
    values,
    wants_websocket,
)

HEAD = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLIENT_HELLO = bytes.fromhex("16030100f1010000ed0303") + bytes(200)


async def head_of(data: bytes, max_bytes: int = 1000) -> bytes:
    """What is read where the peer sends `data` and leaves."""
    client, server = memory_stream_pair()
    await client.send_all(data)
    await client.send_eof()
    return await read_head(server, max_bytes, 10)


# Reading


async def test_a_head_is_given_back_with_what_came_behind_it() -> None:
    client, server = memory_stream_pair()
    await client.send_all(HEAD + b"and more")
    assert await read_head(server, 1000, 10) == HEAD + b"and more"


@pytest.mark.parametrize("size", range(1, 6))
async def test_a_head_in_pieces_is_put_together(size: int) -> None:
    client, server = lockstep_stream_pair()

    async def send() -> None:
        for start in range(0, len(HEAD), size):
            await client.send_all(HEAD[start : start + size])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await read_head(server, 1000, 10) == HEAD


async def test_a_peer_that_leaves_amid_its_head_gets_no_answer() -> None:
    assert await head_of(HEAD[:-1]) == b""
    assert await head_of(b"") == b""


@pytest.mark.parametrize(("spare", "whole"), [(0, True), (-1, False)])
async def test_the_limit_is_exact(spare: int, whole: bool) -> None:
    limit = len(HEAD) - len(b"\r\n\r\n") + spare
    if whole:
        assert await head_of(HEAD, limit) == HEAD
    else:
        with pytest.raises(Refused, match=f"over {limit} bytes") as refused:
            await head_of(HEAD, limit)
        assert refused.value.status == 431


async def test_a_head_without_end_is_refused_at_the_limit() -> None:
    with pytest.raises(Refused, match="over 1000 bytes"):
        await head_of(b"GET /" + b"x" * 996)


@pytest.mark.parametrize("sent", [b"", b"GET / HT"], ids=["nothing", "some"])
async def test_a_head_has_a_deadline(sent: bytes, autojump_clock: trio.testing.MockClock) -> None:
    client, server = memory_stream_pair()
    await client.send_all(sent)
    started_at = trio.current_time()
    with pytest.raises(Refused, match="not whole within 10 s") as refused:
        await read_head(server, 1000, 10)
    assert trio.current_time() - started_at == 10
    assert refused.value.status == 408


async def test_a_byte_now_and_then_does_not_prolong_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    client, server = memory_stream_pair()

    async def trickle() -> None:
        for byte in HEAD:
            await client.send_all(bytes([byte]))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        with pytest.raises(Refused, match="not whole"):
            await read_head(server, 1000, 10.5)
        assert trio.current_time() == pytest.approx(10.5)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "garbage",
    [CLIENT_HELLO, b"\x00", b"\xc0", b"{}", b"\r\n\x00", b"SSH-2.0-OpenSSH_9.2\r\n", b"EHLO localhost\r\n"],
    ids=["TLS", "zero", "latin", "JSON", "behind an empty line", "SSH", "SMTP"],
)
async def test_what_is_no_http_is_refused_at_once(garbage: bytes) -> None:
    client, server = memory_stream_pair()  # which stays open: nothing more is waited for
    await client.send_all(garbage)
    with pytest.raises(Refused, match="not an HTTP request") as refused:
        await read_head(server, 1000, math.inf)
    assert refused.value.status == 400


async def test_what_came_before_counts() -> None:
    client, server = memory_stream_pair()
    await client.send_all(HEAD[20:] + b"and more")
    assert await read_head(server, 1000, 10, HEAD[:20]) == HEAD + b"and more"
    assert await read_head(server, 1000, 10, HEAD + HEAD) == HEAD + HEAD  # nothing more is waited for


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_empty_lines_before_a_request_are_passed_over(size: int) -> None:
    client, server = lockstep_stream_pair()
    sent = b"\r\n\r\n" + HEAD

    async def send() -> None:
        for start in range(0, len(sent), size):
            await client.send_all(sent[start : start + size])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await read_head(server, 1000, 10) == HEAD


# Parsing


def test_a_request_is_parsed() -> None:
    request = parse_head(HEAD + b"behind")
    assert (request.method, request.target, request.http_version) == (b"GET", b"/x", b"1.1")
    assert values(request, b"host") == [b"localhost"]
    assert not wants_websocket(request)
    assert not begins_http2(request)


@pytest.mark.parametrize(
    ("head", "status", "detail"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Missing mandatory Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "bad request"),
        (b"GET / / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "illegal request line$"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno line\r\n\r\n", 400, "illegal header line$"),
        (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "one slash, or a URL, not 'x'"),
        (b"GET //x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "one slash, or a URL, not '//x'"),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "one slash"),
        (b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "one slash"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501, "CONNECT is not possible"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nAuthorization: x\r\n\r\n", 400, "given once"),
        (b"GET / HTTP/1.1\nHost: a\n\r\n\r\n", 400, "carriage return"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "bad request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "bad request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400, "together"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "HTTP/2.0 is not spoken"),
        (b"GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505, "HTTP/3.7 is not spoken"),
    ],
)
def test_a_bad_request_is_refused(head: bytes, status: int, detail: str) -> None:
    with pytest.raises(Refused, match=detail) as refused:
        parse_head(head)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (PREFACE, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
    ],
)
def test_http2_is_told_apart(head: bytes, expected: bool) -> None:
    assert begins_http2(parse_head(head)) is expected


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://localhost/x?y=http://localhost/", b"/x?y=http://localhost/"),
        (b"HTTPS://LocalHost", b"/"),
        (b"http://localhost?x=1", b"/?x=1"),
        (b"/http://localhost/x", b"/http://localhost/x"),
    ],
)
def test_a_target_as_proxies_are_sent_it_is_made_a_path(target: bytes, path: bytes) -> None:
    head = HEAD.replace(b"/x", target, 1) + b"behind"
    changed, request = to_origin_form(head, parse_head(head))
    assert changed == HEAD.replace(b"/x", path, 1) + b"behind"
    assert request.target == path
    assert values(request, b"host") == [b"localhost"]


def test_a_server_may_be_asked_for_its_options() -> None:
    head = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
    assert to_origin_form(head, parse_head(head)) == (head, parse_head(head))


def test_a_path_is_checked_whatever_it_comes_in() -> None:
    head = HEAD.replace(b"/x", b"http://localhost//x", 1)
    with pytest.raises(Refused, match="one slash"):
        to_origin_form(head, parse_head(head))


@pytest.mark.parametrize(
    "target", [b"http://example.com/", b"http://localhost:80/", b"http://a@localhost/", b"http:///x"]
)
def test_a_target_that_names_another_host_than_the_header_is_refused(target: bytes) -> None:
    head = HEAD.replace(b"/x", target, 1)
    with pytest.raises(Refused, match="must be the same"):
        to_origin_form(head, parse_head(head))


# Handshakes

HANDSHAKE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def handshake(change: Mapping[str, str | None], line: str = "GET /ws HTTP/1.1") -> bytes:
    """A handshake's head with some headers changed, or left out."""
    headers = {**HANDSHAKE, **change}
    lines = [line, *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"Upgrade": "WebSocket", "Connection": "keep-alive, upgrade"},
        {"Content-Length": "0"},
        {"Host": "bücher.example".encode("idna").decode()},
    ],
)
def test_a_good_handshake_passes(change: dict[str, str]) -> None:
    request = parse_head(handshake(change))
    assert wants_websocket(request)
    check_upgrade(request)


@pytest.mark.parametrize(
    ("change", "status", "detail"),
    [
        ({"Upgrade": "websocket, h2c"}, 400, "websocket and nothing else"),
        ({"Connection": None}, 400, "Connection: Upgrade is missing"),
        ({"Connection": "close"}, 400, "Connection: Upgrade is missing"),
        ({"Sec-WebSocket-Version": None}, 400, "must be 13"),
        ({"Sec-WebSocket-Version": "8"}, 426, "must be 13"),
        ({"Sec-WebSocket-Key": None}, 400, "Sec-WebSocket-Key"),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400, "Sec-WebSocket-Key"),
        ({"Sec-WebSocket-Key": "not base64"}, 400, "Sec-WebSocket-Key"),
        ({"Content-Length": "5"}, 400, "no body"),
        ({"Transfer-Encoding": "chunked"}, 400, "no body"),
        ({"Sec-WebSocket-Protocol": "caf\xe9"}, 400, "sec-websocket-protocol must be ASCII"),
        ({"Connection": "upgrade, caf\xe9"}, 400, "connection must be ASCII"),
        ({"Host": "caf\xe9"}, 400, "host must be ASCII"),
        ({"Host": "xn--\x7f.example"}, 400, "invalid Host"),
    ],
)
def test_a_bad_handshake_is_refused(change: dict[str, str | None], status: int, detail: str) -> None:
    request = parse_head(handshake(change))
    assert wants_websocket(request)
    with pytest.raises(Refused, match=detail) as refused:
        check_upgrade(request)
    assert refused.value.status == status
    assert refused.value.headers.get("Sec-WebSocket-Version") == ("13" if "13" in detail else None)


def test_two_keys_are_one_too_many() -> None:
    head = handshake({}).replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    with pytest.raises(Refused, match="once"):
        check_upgrade(parse_head(head))


@pytest.mark.parametrize(
    ("line", "status", "header"),
    [("POST /ws HTTP/1.1", 405, ("Allow", "GET")), ("GET /ws HTTP/1.0", 426, ("Upgrade", "websocket"))],
)
def test_a_handshake_in_the_wrong_form_is_told_the_right_one(line: str, status: int, header: tuple[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        check_upgrade(parse_head(handshake({}, line)))
    assert refused.value.status == status
    assert header in refused.value.headers.items()


# Answers


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while more := await stream.receive_some():
        data += more
    return data


async def test_a_refusal_is_a_problem_document() -> None:
    client, server = memory_stream_pair()
    await client.send_eof()
    with pytest.raises(Refused) as refused:
        parse_head(b"GET / HTTP/3.0\r\n\r\n")
    refused.value.headers["Retry-After"] = "1"
    await refuse(server, refused.value, 1)
    head, _, body = (await read_all(client)).partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "HTTP/1.1 505 HTTP Version Not Supported",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "Retry-After: 1",
        "Content-Type: application/problem+json",
    ]
    assert msgspec.json.decode(body) == {
        "type": "about:blank",
        "title": "HTTP Version Not Supported",
        "status": 505,
        "detail": "HTTP/3.0 is not spoken here",
        "code": "invalid_message",
    }


@pytest.fixture
def refusal() -> Refused:
    with pytest.raises(Refused) as refused:
        parse_head(b"GET / HTTP/3.0\r\n\r\n")
    return refused.value


async def test_a_refused_peer_that_does_not_read_is_given_up(
    refusal: Refused, autojump_clock: trio.testing.MockClock
) -> None:
    _client, server = lockstep_stream_pair()  # takes nothing until somebody reads
    await refuse(server, refusal, 1)
    assert trio.current_time() == 1


async def test_a_refused_peer_that_has_left_is_no_error(refusal: Refused) -> None:
    client, server = memory_stream_pair()
    await client.aclose()
    await refuse(server, refusal, math.inf)


async def test_after_the_answer_input_is_read_until_the_peer_closes(autojump_clock: trio.testing.MockClock) -> None:
    client, server = lockstep_stream_pair()  # each send waits for the other side to read it

    async def send() -> None:
        for _ in range(3):
            await client.send_all(b"x" * 100)
            await trio.sleep(0.2)
        await client.send_eof()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await linger(server, 10)
    assert trio.current_time() == pytest.approx(0.6)
    assert await client.receive_some() == b""  # the end was announced


async def test_a_peer_that_never_closes_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    _client, server = memory_stream_pair()
    await linger(server, 1)
    assert trio.current_time() == 1


async def test_a_peer_that_resets_the_connection_is_no_error() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        server = await listener.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await client.aclose()
    async with server:
        with trio.fail_after(30):
            await linger(server, math.inf)
