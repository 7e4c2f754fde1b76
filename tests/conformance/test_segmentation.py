"""Frames do not care how TCP cuts them: a server sees the same stream in any pieces.

What is written at once need not be read at once. Where a cut matters, the first piece begins with a ping of
its own: once the pong is there, that piece has been read, and nothing after it.
"""

import pytest

from tests.conformance.peer import Message, Peer, assert_closes, assert_fails, open_peer
from tests.conformance.wire import (
    Op,
    binary,
    byte_by_byte,
    close,
    fragments,
    frame,
    ping,
    pong,
    random_cuts,
    text,
)

MIXED = "a\u0000é€\uffff𝄞\U0010ffffz"


async def send_in_two_reads(peer: Peer, data: bytes, cut: int) -> None:
    await peer.send(ping(b"cut") + data[:cut])
    await peer.receive(pongs=[b"cut"])
    await peer.send(data[cut:])


@pytest.mark.parametrize("size", [0, 3, 126, 65536])
async def test_a_message_may_be_cut_anywhere_in_its_header(peer: Peer, size: int) -> None:
    message = b"x" * size
    data = binary(message)
    for cut in range(min(len(data), 18) + 1):
        await send_in_two_reads(peer, data, cut)
        await peer.receive(message)


async def test_a_text_may_be_cut_anywhere_in_a_character(peer: Peer) -> None:
    data = text(MIXED)
    for cut in range(len(data) + 1):
        await send_in_two_reads(peer, data, cut)
        await peer.receive(MIXED)


async def test_a_fragmented_text_may_be_cut_anywhere(peer: Peer) -> None:
    payload = MIXED.encode()
    data = b"".join(fragments(Op.TEXT, [payload[:4], payload[4:9], payload[9:]]))
    for cut in range(len(data) + 1):
        await send_in_two_reads(peer, data, cut)
        await peer.receive(MIXED)


async def test_a_ping_and_a_pong_may_be_cut_anywhere(peer: Peer) -> None:
    data = pong(b"unasked") + ping(b"cut in two")
    for cut in range(len(data)):
        await send_in_two_reads(peer, data, cut)
        await peer.receive(pongs=[b"cut in two"])


async def test_a_close_frame_may_be_cut_anywhere(echo_port: int) -> None:
    data = close(1001, b"going")
    for cut in range(len(data)):
        async with open_peer(echo_port) as peer:
            await send_in_two_reads(peer, data, cut)
            await assert_closes(peer, 1001)


@pytest.mark.parametrize(
    ("illegal", "code"),
    [
        (frame(Op.TEXT, b"x", rsv=4), 1002),
        (frame(0x3, b"x"), 1002),
        (frame(Op.TEXT, b"x", masked=False), 1002),
        (frame(Op.TEXT, b"x", length_bits=16), 1002),
        (frame(Op.PING, b"x" * 126), 1002),
        (frame(Op.CONTINUATION, b"x"), 1002),
        (frame(Op.TEXT, b"\xff"), 1007),
    ],
    ids=["rsv", "opcode", "unmasked", "length", "long ping", "continuation", "not UTF-8"],
)
async def test_an_illegal_frame_is_noticed_wherever_it_is_cut(echo_port: int, illegal: bytes, code: int) -> None:
    for cut in range(min(len(illegal), 16)):
        async with open_peer(echo_port) as peer:
            await peer.send(ping(b"cut") + illegal[:cut])
            # The first bytes may already be enough to fail on, and the pong may then not be sent any more.
            await peer.until_pong_or_close_frame()
            await assert_fails(peer, code, sending=illegal[cut:], pongs_before=[b"cut"])


async def test_whole_and_fragmented_messages_may_be_cut_between_each_other_and_within(peer: Peer) -> None:
    fragmented = fragments(Op.TEXT, [b"two ", b"parts"])
    data = b"".join([text("A"), *fragmented, text("C"), ping(b"end"), binary(b"D")])
    for cut in range(len(data) + 1):
        await peer.send(ping(b"cut") + data[:cut])
        await peer.until_pong_or_close_frame()
        await peer.send(data[cut:])
        await peer.receive("A", "two parts", "C", b"D", pongs=[b"cut", b"end"])


# Finer than a test can steer: small writes, of which the server may find one or many at a time.


async def test_a_whole_conversation_may_come_byte_by_byte(peer: Peer) -> None:
    conversation = [
        text("whole"),
        *fragments(Op.TEXT, [b"in ", b"", b"parts"]),
        ping(b"1"),
        binary(b"x" * 300),
        text(MIXED),
        ping(b"2"),
        text(""),
    ]
    messages: list[Message] = ["whole", "in parts", b"x" * 300, MIXED, ""]
    await peer.exchange(*conversation, messages=messages, pongs=[b"1", b"2"], cut=byte_by_byte)
    await peer.send(close(3001), cut=byte_by_byte)
    await assert_closes(peer, 3001)


@pytest.mark.parametrize("seed", range(10))
async def test_a_stream_may_come_in_pieces_of_any_size(peer: Peer, seed: int) -> None:
    messages = [f"{n}-" * (n % 90) for n in range(300)]
    await peer.exchange(*map(text, messages), messages=messages, cut=random_cuts(seed))


async def test_very_many_messages_may_come_in_one_write(peer: Peer) -> None:
    messages = [f"{n}" for n in range(20_000)]
    await peer.exchange(*map(text, messages), messages=messages)
