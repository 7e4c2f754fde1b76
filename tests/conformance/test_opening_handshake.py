"""The opening handshake, section 4.2: what is accepted, what is refused, and what may follow at once."""

from collections.abc import Callable

import pytest

from tests.conformance.opening import assert_accepts, handshake
from tests.conformance.peer import Peer, assert_closes, assert_fails, tcp_peer
from tests.conformance.wire import Op, byte_by_byte, close, fragments, frame, ping, text


async def is_open(peer: Peer) -> None:
    await peer.exchange(text("open"), messages=["open"])


# Accepted.


@pytest.mark.parametrize(
    "changed",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "Upgrade, keep-alive"},
        {"Connection": "upgrade"},
        {"Connection": "UPGRADE"},
        {"Connection": "keep-alive,Upgrade"},
        {"Upgrade": "WebSocket"},
        {"Upgrade": "WEBSOCKET"},
        {"User_Agent": "a test", "Accept_Language": "en", "Cache_Control": "no-cache", "Pragma": "no-cache"},
        {"X_Long": "x" * 4000},
        {"X_Empty": ""},
        {"Cookie": "a=b; c=d"},
    ],
    ids=lambda changed: ", ".join(f"{name}: {value[:20]}" for name, value in changed.items()),
)
async def test_a_request_is_accepted_with(echo_port: int, changed: dict[str, str]) -> None:
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(handshake(echo_port, **changed)))
        await is_open(peer)


@pytest.mark.parametrize("style", [str.lower, str.upper, str.swapcase], ids=["lower", "upper", "swapped"])
async def test_the_case_of_field_names_does_not_matter(echo_port: int, style: Callable[[str], str]) -> None:
    lines = handshake(echo_port).decode().split("\r\n")
    pairs = [line.partition(":") for line in lines[1:-2]]
    request = "\r\n".join([lines[0], *(style(name) + colon + value for name, colon, value in pairs), "", ""])
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(request.encode()))
        await is_open(peer)


@pytest.mark.parametrize("space", ["", " ", "\t", "   "], ids=["none", "one", "tab", "three"])
async def test_the_space_around_field_values_does_not_matter(echo_port: int, space: str) -> None:
    request = handshake(echo_port).replace(b": ", b":" + space.encode()).replace(b"13\r\n", b"13 \r\n")
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(request))
        await is_open(peer)


async def test_the_order_of_fields_does_not_matter(echo_port: int) -> None:
    line, *fields = handshake(echo_port).removesuffix(b"\r\n\r\n").split(b"\r\n")
    request = b"\r\n".join([line, *reversed(fields), b"", b""])
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(request))
        await is_open(peer)


@pytest.mark.parametrize(
    "offer",
    ["permessage-deflate", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame", "x-unheard-of"],
)
async def test_an_extension_that_is_offered_is_not_negotiated(echo_port: int, offer: str) -> None:
    # Section 9.1 leaves the choice to the server. This one never compresses, so rsv1 stays illegal.
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(handshake(echo_port, Sec_WebSocket_Extensions=offer)))
        await is_open(peer)
        await peer.send(frame(Op.TEXT, b"as if compressed", rsv=0b100))
        await assert_fails(peer, 1002)


async def test_a_request_may_come_byte_by_byte(echo_port: int) -> None:
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(cut=byte_by_byte))
        await is_open(peer)


# What follows the request in the same segment.


async def test_frames_that_come_with_the_request_are_served(echo_port: int) -> None:
    frames = [text("A"), *fragments(Op.TEXT, [b"B1 ", b"B2"]), ping(b"early"), text("C")]
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(handshake(echo_port) + b"".join(frames)))
        await peer.receive("A", "B1 B2", "C", pongs=[b"early"])
        await is_open(peer)


@pytest.mark.parametrize(
    "first",
    [text("a whole one"), frame(Op.TEXT, b"a whole", fin=False)],
    ids=["a whole message", "a fragment"],
)
async def test_a_frame_may_begin_in_the_segment_of_the_request_and_end_in_another(echo_port: int, first: bytes) -> None:
    rest = b"" if first[0] & 0x80 else frame(Op.CONTINUATION, b" one")
    for cut in range(len(first) + 1):
        async with tcp_peer(echo_port) as peer:
            # Once the answer is there, the request has been read, and the start of the frame with it.
            assert_accepts(await peer.shake_hands(handshake(echo_port) + first[:cut]))
            await peer.send(first[cut:], rest, text("next"))
            await peer.receive("a whole one", "next")


async def test_many_frames_that_come_with_the_request_are_served_in_order(echo_port: int) -> None:
    messages = [f"early {n}" for n in range(2000)]
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(handshake(echo_port) + b"".join(map(text, messages))))
        await peer.receive(*messages)


async def test_request_and_frames_may_come_byte_by_byte(echo_port: int) -> None:
    frames = text("A") + ping(b"early") + text("B")
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(handshake(echo_port) + frames, cut=byte_by_byte))
        await peer.receive("A", "B", pongs=[b"early"])


async def test_a_close_frame_may_come_with_the_request(echo_port: int) -> None:
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(handshake(echo_port) + close(1001)))
        await assert_closes(peer, 1001)


async def test_an_illegal_frame_may_come_with_the_request(echo_port: int) -> None:
    async with tcp_peer(echo_port) as peer:
        assert_accepts(await peer.shake_hands(handshake(echo_port) + frame(Op.TEXT, b"x", masked=False)))
        await assert_fails(peer, 1002)


# Refused: any error of HTTP will do (section 4.2.2 gives examples only), where no line below says more.


@pytest.mark.parametrize("missing", ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])
async def test_a_request_is_refused_without(echo_port: int, missing: str) -> None:
    async with tcp_peer(echo_port) as peer:
        response = await peer.shake_hands(handshake(echo_port, without=missing))
        assert 400 <= response.status <= 505, response


@pytest.mark.parametrize(
    "changed",
    [
        {"Upgrade": "h2c"},
        {"Upgrade": "websockets"},
        {"Connection": "keep-alive"},
        {"Connection": "close"},
        {"Connection": "Upgraded"},
    ],
    ids=lambda changed: ", ".join(f"{name}: {value}" for name, value in changed.items()),
)
async def test_a_request_is_refused_with(echo_port: int, changed: dict[str, str]) -> None:
    async with tcp_peer(echo_port) as peer:
        response = await peer.shake_hands(handshake(echo_port, **changed))
        assert 400 <= response.status <= 505, response


@pytest.mark.parametrize("version", ["0", "7", "8", "14", "99", "x", "013", "13.0"])
async def test_another_version_is_refused_and_the_right_one_named(echo_port: int, version: str) -> None:
    # Section 4.4: the refusal says which versions would do.
    async with tcp_peer(echo_port) as peer:
        response = await peer.shake_hands(handshake(echo_port, Sec_WebSocket_Version=version))
        assert response.status in {400, 426}, response
        versions = response.fields["sec-websocket-version"].split(",")
        assert "13" in [known.strip() for known in versions], response


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "get"])
async def test_another_method_is_refused(echo_port: int, method: str) -> None:
    async with tcp_peer(echo_port) as peer:
        response = await peer.shake_hands(handshake(echo_port, line=f"{method} /ws HTTP/1.1"))
        assert 400 <= response.status <= 505, response


async def test_http_1_0_is_refused(echo_port: int) -> None:
    async with tcp_peer(echo_port) as peer:
        response = await peer.shake_hands(handshake(echo_port, line="GET /ws HTTP/1.0"))
        assert 400 <= response.status <= 505, response
