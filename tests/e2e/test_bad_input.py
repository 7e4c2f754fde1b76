"""Bad input: it harms no other connection, and its own only where the contract names a close code."""

import resource
import time
from collections.abc import Awaitable, Callable

import jwt
import trio

from tests.e2e.clients import (
    BINARY,
    TEXT,
    Http2,
    Message,
    RawClient,
    connected,
    frame,
    get,
    handshake,
    raw,
    reset,
    status,
    talk,
    text,
    until_connections,
)
from tests.e2e.program import running
from tests.e2e.witness import witness

KEY = "0123456789abcdef0123456789abcdef"


# What a connection survives


async def refuses(client: RawClient, code: str, *messages: str, **fields: object) -> None:
    """Each of these messages is answered by an error, and the connection goes on."""
    for message in messages:
        await client.send(text(message))
        error = await client.hear(type="error")
        assert error["code"] == code, message
        assert fields.items() <= error.items()
    await client.send(text('{"type":"ping","id":"alive"}'))
    await client.hear(type="pong", id="alive")


async def no_json(client: RawClient) -> None:
    await refuses(client, "invalid_json", "", "{", "nonsense", '{"type":"ping"', '{"type":"ping"} x', "\\u0000", "NaN")


async def no_message(client: RawClient) -> None:
    await refuses(client, "invalid_message", "[]", "1", "null", '"ping"', "{}", '{"type":1}', '{"type":null}')


async def wrong_types(client: RawClient) -> None:
    await refuses(
        client,
        "invalid_message",
        '{"type":"subscribe","channels":"signals","id":7}',
        '{"type":"subscribe","channels":[1],"id":7}',
        '{"type":"subscribe","channels":[],"id":7}',
        '{"type":"subscribe","id":7}',
        '{"type":"publish","channel":"signals","event_type":5,"data":{},"id":7}',
        '{"type":"publish","channel":"signals","event_type":"x","data":[],"id":7}',
        '{"type":"publish","channel":"signals","event_type":"spa ce","data":{},"id":7}',
        '{"type":"publish","channel":"signals","event_type":"x","data":{"priority":256},"id":7}',
        '{"type":"publish","channel":"signals","events":[],"id":7}',
        '{"type":"publish","channel":"signals","id":7}',
        '{"type":"authenticate","token":7,"id":7}',
        id=7,
    )


async def bad_ids(client: RawClient) -> None:
    for bad in ("1.5", "true", "null", "[]", '"' + "x" * 65 + '"', str(2**53 + 1)):
        await client.send(text(f'{{"type":"ping","id":{bad}}}'))
        error = await client.hear(type="error")
        assert error["code"] == "invalid_message"
        assert "id" not in error


async def unknown_types(client: RawClient) -> None:
    await refuses(client, "unknown_type", '{"type":"dance","id":7}', '{"type":"","id":7}', id=7)


async def unknown_fields(client: RawClient) -> None:
    await client.send(text('{"type":"ping","id":7,"mood":{"a":[1,2]},"type ":1}'))
    await client.hear(type="pong", id=7)
    await client.send(text('{"type":"subscribe","channels":["status"],"colour":"red","id":8}'))
    await client.hear(type="subscribed", id=8, channels=["status"])


async def unknown_channels(client: RawClient) -> None:
    await client.send(text('{"type":"subscribe","channels":["nope","","signals.*"],"id":7}'))
    reply = await client.hear(type="subscribed", id=7, channels=[])
    assert reply["denied"] == ["nope", "", "signals.*"]
    await refuses(
        client, "unknown_channel", '{"type":"publish","channel":"nope","event_type":"x","data":{},"id":7}', id=7
    )


async def brackets(client: RawClient) -> None:
    deep = "[" * 30_000
    await refuses(client, "invalid_json", deep, '{"type":"ping","mood":' + deep)


async def deep_data(client: RawClient) -> None:
    deep = "[" * 30_000 + "]" * 30_000
    await client.send(text(f'{{"type":"publish","channel":"signals","event_type":"x","data":{{"a":{deep}}}}}'))
    error = await client.hear(type="error")
    assert error["code"] in ("invalid_message", "invalid_json")


async def ten_thousand_subscribes(client: RawClient) -> None:
    subscribe = text('{"type":"subscribe","channels":["status"]}')
    subscribed = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, subscribe * 10_000)
        for _ in range(10_000):
            answer = await client.next_message()
            if answer["type"] == "subscribed":
                subscribed += 1
            else:
                assert answer["code"] == "rate_limited"
                assert answer["retry_after"] > 0
    assert 50 <= subscribed < 100


async def test_connections_survive_what_they_are_told_is_wrong() -> None:
    misbehaviours: list[Callable[[RawClient], Awaitable[None]]] = [
        no_json,
        no_message,
        wrong_types,
        bad_ids,
        unknown_types,
        unknown_fields,
        unknown_channels,
        brackets,
        deep_data,
        ten_thousand_subscribes,
    ]
    async with running() as program, witness(program.port) as others:
        for misbehave in misbehaviours:
            async with raw(program.port) as client:
                await client.hear(type="connected")
                await misbehave(client)
                await client.send(text('{"type":"ping","id":"alive"}'))
                await client.hear(type="pong", id="alive")
                await others.hears_more()


# What closes it

PUBLISH = b'{"type":"publish","channel":"signals","event_type":"x","data":{"a":"%s"}}'
NOT_WHOLE = "message not whole within 0.3 s"

#: What is sent, and how the connection is closed; None: any reason.
CLOSED: dict[str, tuple[bytes, int, str | None]] = {
    "bad UTF-8 that nobody decodes": (frame(TEXT, PUBLISH % b"\xff"), 1007, None),
    "half of a surrogate pair": (frame(TEXT, PUBLISH % b"\xed\xa0\x80"), 1007, None),
    "bad UTF-8 in fragments": (frame(0x01, b'{"type":') + frame(0x80, b'"\xff"}'), 1007, None),
    "a megabyte": (text('{"type":"ping","x":"' + "x" * 1_000_000 + '"}'), 1009, "message over 65536 bytes"),
    "large fragments": (frame(0x01, bytes(60_000)) + frame(0x80, bytes(60_000)), 1009, "message over 65536 bytes"),
    "binary": (frame(BINARY, b'{"type":"ping"}'), 1003, "binary messages are not taken"),
    "no mask": (b"\x81\x02{}", 1002, None),
    "a reserved opcode": (frame(0x83, b"{}"), 1002, None),
    "compression that nobody agreed on": (frame(0xC1, b"{}"), 1002, None),
    "half a close code": (frame(0x88, b"\x03"), 1002, None),
    "half a frame, then silence": (text('{"type":"ping","id":1}')[:-3], 1008, NOT_WHOLE),
    "half a message, then silence": (frame(0x01, b'{"type":'), 1008, NOT_WHOLE),
}


async def test_connections_are_closed_for_what_the_contract_names() -> None:
    """All of them at once, and two that behave go on all the while."""
    async with running(message_s=0.3) as program, witness(program.port):
        async with trio.open_nursery() as nursery:
            for name, (sent, code, reason) in CLOSED.items():
                nursery.start_soon(is_closed, program.port, name, sent, code, reason)
        await until_connections(program.port, 2)


async def is_closed(port: int, name: str, sent: bytes, code: int, reason: str | None) -> None:
    async with raw(port) as client:
        await client.hear(type="connected")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_if_read, client, sent)
            closed = await client.close_of()
            nursery.cancel_scope.cancel()
    assert closed is not None, name
    assert closed == (code, closed[1] if reason is None else reason), name


async def send_if_read(client: RawClient, sent: bytes) -> None:
    try:
        await client.send(sent)
    except trio.BrokenResourceError:
        pass  # the server has seen enough


async def test_a_token_that_expires_mid_stream() -> None:
    async with running(jwt_keys=KEY) as program:
        lasting = jwt.encode({"sub": "a", "role": "admin"}, KEY, algorithm="HS256")
        short = jwt.encode({"sub": "b", "role": "admin", "exp": int(time.time()) + 2}, KEY, algorithm="HS256")
        async with witness(program.port, f"?token={lasting}") as others, raw(program.port, f"?token={short}") as client:
            await client.send(text('{"type":"subscribe","channels":["signals"]}'))
            await client.hear(channel="signals")
            assert await client.close_of() == (4002, "the token has expired")
            await others.hears_more()


# What never becomes a connection


async def test_a_thousand_half_open_handshakes() -> None:
    """Others are served meanwhile, and all of them are gone after the deadline."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each costs this process one, too
    async with running(handshake_s=2) as program, witness(program.port) as others:
        half = handshake()[:-2]
        streams = [await trio.open_tcp_stream("127.0.0.1", program.port) for _ in range(1000)]
        for stream in streams:
            await stream.send_all(half)
        await others.hears_more()
        async with connected(program.port) as client:
            await client.hear(type="connected")
        for stream in streams:
            answer = b""
            while data := await stream.receive_some():
                answer += data
            assert answer.startswith(b"HTTP/1.1 408 ")
            await stream.aclose()
        await others.hears_more()
        await until_connections(program.port, 2)


GARBAGE = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    "bytes": (bytes(range(256)) * 100, 400),
    "words": (b"GARBAGE\r\n\r\n", 400),
    "a long line": (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
    "an old version": (handshake().replace(b"13", b"8"), 426),
    "a broken host": (handshake().replace(b"localhost", b"xn--\x7f"), 400),
    "a foreign host": (handshake().replace(b"localhost", b"evil.example"), 403),
    "another path": (handshake().replace(b"/ws", b"/wss"), 404),
}


async def test_garbage_instead_of_a_request_is_told_so() -> None:
    async with running() as program, witness(program.port) as others:
        for name, (garbage, code) in GARBAGE.items():
            answer = await talk(program.port, garbage)
            assert answer.startswith(f"HTTP/1.1 {code} ".encode()), name
            assert b"application/problem+json" in answer, name
        await others.hears_more()


async def test_peers_that_are_gone_at_every_point() -> None:
    async with running() as program, witness(program.port) as others:
        whole = handshake() + text('{"type":"subscribe","channels":["signals"]}')
        for end in range(0, len(whole) + 1, 7):
            stream = await trio.open_tcp_stream("127.0.0.1", program.port)
            await stream.send_all(whole[:end])
            await reset(stream)
        await others.hears_more()
        await until_connections(program.port, 2)


async def test_http2_that_upsets_the_library_is_that_connections_own() -> None:
    """A body behind its answer, or a method without a path, makes Hypercorn raise; nobody may notice, nor the log."""
    async with running() as program, witness(program.port) as others:
        async with await trio.open_tcp_stream("127.0.0.1", program.port) as stream:
            peer = Http2(program.port)
            await stream.send_all(peer.begin("POST", (":path", "/nope"), (":scheme", "http")))
            while not peer.answered:
                peer.hear(await stream.receive_some())
            await stream.send_all(peer.finish())
            while await stream.receive_some():
                pass
        await talk(program.port, Http2(program.port).begin("CONNECT"))
        await others.hears_more()


# A client that never reads


async def test_a_client_that_never_reads_loses_exactly_what_it_is_told() -> None:
    async with (
        running(outbox_events=100, send_buffer_bytes=4096) as program,
        connected(program.port) as publisher,
        connected(program.port) as listener,
        raw(program.port, receive_buffer=2048) as sleeper,
    ):
        await sleeper.send(text('{"type":"subscribe","channels":["signals"]}'))
        await sleeper.hear(type="subscribed")
        await listener.subscribe("signals")
        total = 0

        async def publish() -> None:
            """One more, which the other client hears."""
            nonlocal total
            total += 1
            await publisher.publish({"n": total, "filler": "x" * 1000})
            assert (await listener.hear(channel="signals"))["data"]["n"] == total

        async def dropped() -> int:
            """What is lost of all that came, by the server's account; how much the kernel takes first is its affair."""
            _, channel = await get(program.port, "/api/v1/websocket/channels/signals")
            lost: dict[str, int] = channel["ledger"]["dropped"]
            assert lost.keys() <= {"slow_consumer"}
            return sum(lost.values())

        while await dropped() == 0:
            await publish()
        for _ in range(50):
            await publish()
        assert (await status(program.port))["buffered_events"] <= 100

        seen: list[int] = []
        gaps: list[Message] = []
        while not seen or seen[-1] < total:
            message = await sleeper.next_message()
            if message.get("type") == "gap":
                gaps.append(message)
                assert message["from"] == seen[-1] + 1
                assert message["count"] == message["to"] - message["from"] + 1
                seen.extend(range(message["from"], message["to"] + 1))
            elif message.get("channel") == "signals":
                assert message["seq"] == message["data"]["n"]
                seen.append(message["seq"])
        assert seen == list(range(1, total + 1))
        assert [gap["reason"] for gap in gaps] == ["slow_consumer"] * len(gaps)
        assert sum(gap["count"] for gap in gaps) == await dropped() > 0
        await publish()
        await sleeper.hear(channel="signals", seq=total)
