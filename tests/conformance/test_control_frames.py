"""Pings, pongs and what holds for every control frame, section 5.5."""

import os

import pytest

from tests.conformance.peer import Peer, assert_fails
from tests.conformance.wire import Op, binary, byte_by_byte, frame, ping, pong, text

CONTROL = pytest.mark.parametrize("opcode", [Op.CLOSE, Op.PING, Op.PONG], ids=lambda op: op.name.lower())
# A body that is right for a close frame also: its code is 1000.
BODY = b"\x03\xe8"
# More than the buffers of both sockets hold: while nobody reads, the server is within a write.
MORE_THAN_THE_KERNEL_HOLDS = bytes(16 << 20)


@pytest.mark.parametrize("size", range(126))
async def test_a_pong_carries_the_payload_of_its_ping(peer: Peer, size: int) -> None:
    payload = os.urandom(size)
    await peer.send(ping(payload))
    await peer.receive(pongs=[payload])


async def test_a_thousand_pings_in_one_burst_have_a_pong_each_in_order(peer: Peer) -> None:
    # Section 5.5.3 would let a server answer the latest of several alone; this one answers all.
    payloads = [b"%d" % n for n in range(1000)]
    await peer.exchange(*map(ping, payloads), pongs=payloads)


async def test_pings_sent_byte_by_byte_have_a_pong_each(peer: Peer) -> None:
    payloads = [b"", b"a", b"b" * 125]
    await peer.exchange(*map(ping, payloads), pongs=payloads, cut=byte_by_byte)


@pytest.mark.parametrize("payload", [b"\x00\xff\xfe\xfd", b"\xed\xa0\x80", b"\xc3"], ids=bytes.hex)
async def test_the_payload_of_a_ping_need_not_be_text(peer: Peer, payload: bytes) -> None:
    await peer.send(ping(payload))
    await peer.receive(pongs=[payload])


@pytest.mark.parametrize("payload", [b"", b"unasked", b"\xff" * 125], ids=len)
async def test_a_pong_that_nobody_asked_for_is_ignored(peer: Peer, payload: bytes) -> None:
    await peer.send(pong(payload), text("after"), pong(payload), ping(b"end"))
    await peer.receive("after", pongs=[b"end"])


async def test_pings_between_messages_hold_nothing_up(peer: Peer) -> None:
    frames = [part for n in range(200) for part in (text(f"m{n}"), ping(b"p%d" % n), binary(b"b%d" % n))]
    messages = [part for n in range(200) for part in (f"m{n}", b"b%d" % n)]
    await peer.exchange(*frames, messages=messages, pongs=[b"p%d" % n for n in range(200)])


async def test_a_pong_never_lands_inside_a_frame_that_is_half_written(peer: Peer) -> None:
    message = MORE_THAN_THE_KERNEL_HOLDS
    await peer.send(binary(message))
    await peer.until_mid_frame()
    pings = [b"%d" % n for n in range(100)]
    await peer.exchange(*map(ping, pings), text("after"), messages=[message, "after"], pongs=pings)


# What may not be.


@CONTROL
@pytest.mark.parametrize("size", [126, 127, 65535, 65536])
async def test_a_control_frame_over_125_bytes_fails(peer: Peer, opcode: Op, size: int) -> None:
    await peer.send(frame(opcode, BODY * (size // 2 + 1), announced=size), text("after"))
    await assert_fails(peer, 1002)


@CONTROL
async def test_a_fragmented_control_frame_fails(peer: Peer, opcode: Op) -> None:
    await peer.send(frame(opcode, BODY, fin=False), frame(Op.CONTINUATION, b"end"), text("after"))
    await assert_fails(peer, 1002)


@CONTROL
async def test_a_fragmented_control_frame_amid_a_fragmented_message_fails(peer: Peer, opcode: Op) -> None:
    await peer.send(frame(Op.TEXT, b"begun", fin=False), frame(opcode, BODY, fin=False))
    await peer.send(frame(Op.CONTINUATION, b"end"))
    await assert_fails(peer, 1002)


@CONTROL
async def test_a_control_frame_with_a_length_of_16_bits_fails(peer: Peer, opcode: Op) -> None:
    await peer.send(frame(opcode, BODY, length_bits=16), text("after"))
    await assert_fails(peer, 1002)


@CONTROL
async def test_a_control_frame_with_a_length_of_64_bits_fails(peer: Peer, opcode: Op) -> None:
    await peer.send(frame(opcode, BODY, length_bits=64), text("after"))
    await assert_fails(peer, 1002)
