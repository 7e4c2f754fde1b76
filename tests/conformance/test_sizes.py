"""Messages of every size that a frame's header tells apart, and of every size around the limit."""

import random

import pytest

from tests.conformance.peer import Peer, assert_fails
from tests.conformance.wire import Op, binary, close, fragments, frame, ping, text

KIB = 1024
MIB = 1024 * KIB
LIMIT = 64 * MIB

HEADER_EDGES = [0, 1, 125, 126, 127, 65535, 65536, 65537, MIB]
# A read of 64 KiB that a frame with its 8- or 14-byte header just fills, just misses or just exceeds.
READ_EDGES = [64 * KIB - 15, 64 * KIB - 14, 64 * KIB - 13, 64 * KIB - 8, 64 * KIB - 7, 128 * KIB - 14]


def letters(size: int) -> str:
    return "".join(random.Random(size).choices("abcdefghijklmnop", k=size))


def octets(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", HEADER_EDGES + READ_EDGES)
async def test_a_text_of_any_size_comes_back(peer: Peer, size: int) -> None:
    message = letters(size)
    await peer.exchange(text(message), messages=[message])


@pytest.mark.parametrize("size", HEADER_EDGES + READ_EDGES)
async def test_a_binary_message_of_any_size_comes_back(peer: Peer, size: int) -> None:
    message = octets(size)
    await peer.exchange(binary(message), messages=[message])


async def test_every_size_from_0_to_300_comes_back_from_one_stream(peer: Peer) -> None:
    messages = [letters(size) if size % 2 else octets(size) for size in range(301)]
    frames = [text(message) if isinstance(message, str) else binary(message) for message in messages]
    await peer.exchange(*frames, messages=messages)


async def test_a_message_of_16_mib_comes_back(peer: Peer) -> None:
    message = octets(16 * MIB)
    await peer.exchange(binary(message), messages=[message])


async def test_many_large_messages_come_back_in_order(peer: Peer) -> None:
    messages = [octets(100 * KIB + n) for n in range(40)]
    await peer.exchange(*map(binary, messages), messages=messages)


async def test_large_and_small_messages_take_turns(peer: Peer) -> None:
    messages = [octets(size) for _ in range(20) for size in (0, 200 * KIB, 1, 126)]
    await peer.exchange(*map(binary, messages), messages=messages)


async def test_a_message_of_exactly_the_limit_comes_back(peer: Peer) -> None:
    message = bytes(LIMIT)
    await peer.exchange(frame(Op.BINARY, message, key=b"\0\0\0\0"), messages=[message])


@pytest.mark.parametrize("opcode", [Op.TEXT, Op.BINARY], ids=lambda op: op.name.lower())
@pytest.mark.parametrize("announced", [LIMIT + 1, 1 << 32, (1 << 63) - 1])
async def test_a_header_that_announces_too_much_is_refused_before_the_payload_comes(
    peer: Peer, opcode: Op, announced: int
) -> None:
    # Section 7.4.1 has 1009 for this. The header is enough to know: to read on would let a peer tie up a
    # connection with gigabytes that nobody wants.
    await peer.send(frame(opcode, announced=announced))
    await assert_fails(peer, 1009)


async def test_a_later_fragment_that_announces_too_much_is_refused_before_its_payload_comes(
    peer: Peer,
) -> None:
    await peer.send(frame(Op.BINARY, b"a", fin=False), frame(Op.CONTINUATION, announced=LIMIT))
    await assert_fails(peer, 1009)


@pytest.mark.parametrize(
    "more",
    [b"", ping(b"late") + frame(Op.CONTINUATION, b"end") + text("next") + ping(b"late"), close(1000)],
    ids=["nothing", "pings and messages", "a close frame"],
)
async def test_fragments_that_add_up_to_more_than_the_limit_are_refused_whatever_follows(
    peer: Peer, more: bytes
) -> None:
    first = frame(Op.BINARY, bytes(LIMIT), key=b"\0\0\0\0", fin=False)
    await assert_fails(peer, 1009, sending=first + frame(Op.CONTINUATION, b"a", fin=False) + more)


async def test_fragments_of_any_size_add_up(peer: Peer) -> None:
    parts = [bytes(LIMIT // 16)] * 16 + [b"a"]
    await assert_fails(peer, 1009, sending=b"".join(fragments(Op.BINARY, parts)))


async def test_after_a_large_message_small_ones_are_served_as_before(peer: Peer) -> None:
    large = octets(2 * MIB)
    await peer.exchange(binary(large), text("after"), messages=[large, "after"])
    await peer.exchange(text("later"), messages=["later"])
