"""The base framing protocol, section 5.2: what a header may say, and that every lie in it is noticed."""

import pytest

from tests.conformance.peer import Peer, assert_fails
from tests.conformance.wire import LengthBits, Op, binary, close, frame, ping, text

RESERVED_OPCODES = [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF]
RESERVED_BITS = [0b100, 0b010, 0b001, 0b110, 0b111]
SOME_PAYLOADS = [b"", b"payload", b"x" * 126]


def opcode_name(opcode: int) -> str:
    return f"opcode_{opcode:#x}"


def rsv_name(rsv: int) -> str:
    return f"rsv_{rsv:03b}"


async def fails_with(peer: Peer, *frames: bytes, codes: tuple[int, ...] = (1002,)) -> None:
    """Send a stream that ends in an illegal frame, and good ones after it, which must count for nothing.

    A message before the illegal frame may still come back: the standard says neither that nor the opposite.
    """
    await peer.send(text("before"), *frames, text("after"), ping(b"after"), close(1000))
    await assert_fails(peer, *codes, before=["before"])


# Reserved bits and opcodes.


@pytest.mark.parametrize("rsv", RESERVED_BITS, ids=rsv_name)
@pytest.mark.parametrize("opcode", [Op.TEXT, Op.BINARY, Op.PING, Op.PONG], ids=opcode_name)
async def test_a_reserved_bit_without_an_extension_fails(peer: Peer, opcode: Op, rsv: int) -> None:
    await fails_with(peer, frame(opcode, b"payload", rsv=rsv))


@pytest.mark.parametrize("rsv", RESERVED_BITS, ids=rsv_name)
async def test_a_reserved_bit_on_a_close_frame_fails(peer: Peer, rsv: int) -> None:
    await fails_with(peer, frame(Op.CLOSE, b"\x03\xe8", rsv=rsv))


@pytest.mark.parametrize("rsv", RESERVED_BITS, ids=rsv_name)
@pytest.mark.parametrize("fin", [False, True], ids=["more_to_come", "last"])
async def test_a_reserved_bit_on_a_later_fragment_fails(peer: Peer, rsv: int, fin: bool) -> None:
    first = frame(Op.TEXT, b"first ", fin=False)
    await fails_with(peer, first, frame(Op.CONTINUATION, b"second", fin=fin, rsv=rsv))


@pytest.mark.parametrize("rsv", RESERVED_BITS, ids=rsv_name)
async def test_a_reserved_bit_on_a_first_fragment_fails(peer: Peer, rsv: int) -> None:
    first = frame(Op.TEXT, b"first ", fin=False, rsv=rsv)
    await fails_with(peer, first, frame(Op.CONTINUATION, b"second"))


@pytest.mark.parametrize("payload", SOME_PAYLOADS, ids=len)
@pytest.mark.parametrize("opcode", RESERVED_OPCODES, ids=opcode_name)
async def test_a_reserved_opcode_fails(peer: Peer, opcode: int, payload: bytes) -> None:
    await fails_with(peer, frame(opcode, payload))


@pytest.mark.parametrize("opcode", RESERVED_OPCODES, ids=opcode_name)
async def test_a_reserved_opcode_that_begins_a_fragmented_message_fails(peer: Peer, opcode: int) -> None:
    await fails_with(peer, frame(opcode, b"first ", fin=False), frame(Op.CONTINUATION, b"second"))


@pytest.mark.parametrize("opcode", RESERVED_OPCODES, ids=opcode_name)
async def test_a_reserved_opcode_amid_a_fragmented_message_fails(peer: Peer, opcode: int) -> None:
    first = frame(Op.TEXT, b"first ", fin=False)
    await fails_with(peer, first, frame(opcode, b"odd"), frame(Op.CONTINUATION, b"second"))


@pytest.mark.parametrize("opcode", RESERVED_OPCODES, ids=opcode_name)
async def test_a_reserved_opcode_as_the_very_first_frame_fails(peer: Peer, opcode: int) -> None:
    await peer.send(frame(opcode, b"payload"))
    await assert_fails(peer, 1002)


# Masking, sections 5.1 and 5.3.


@pytest.mark.parametrize("payload", [b"", b"payload", b"x" * 126, b"x" * 65536], ids=len)
@pytest.mark.parametrize("opcode", [Op.TEXT, Op.BINARY], ids=opcode_name)
async def test_an_unmasked_message_fails(peer: Peer, opcode: Op, payload: bytes) -> None:
    await fails_with(peer, frame(opcode, payload, masked=False))


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe8" + b"x" * 123], ids=len)
@pytest.mark.parametrize("opcode", [Op.CLOSE, Op.PING, Op.PONG], ids=opcode_name)
async def test_an_unmasked_control_frame_fails(peer: Peer, opcode: Op, payload: bytes) -> None:
    await fails_with(peer, frame(opcode, payload, masked=False))


async def test_an_unmasked_continuation_fails(peer: Peer) -> None:
    first = frame(Op.TEXT, b"first ", fin=False)
    await fails_with(peer, first, frame(Op.CONTINUATION, b"second", masked=False))


@pytest.mark.parametrize("key", ["00000000", "ffffffff", "00000001", "80000000", "0d0a0d0a", "a1b2c3d4"])
async def test_any_masking_key_will_do(peer: Peer, key: str) -> None:
    messages = [bytes(range(size)) for size in range(20)]
    frames = [frame(Op.BINARY, message, key=bytes.fromhex(key)) for message in messages]
    await peer.exchange(*frames, messages=messages)


async def test_a_payload_that_looks_like_frames_when_masked_or_unmasked_is_only_a_payload(
    peer: Peer,
) -> None:
    inside = close(1000) + ping(b"inside") + frame(0xF, b"inside")
    hidden = frame(Op.BINARY, inside)
    shown = frame(Op.BINARY, inside, key=b"\0\0\0\0")
    await peer.exchange(hidden, shown, text("end"), messages=[inside, inside, "end"])


# Lengths.


@pytest.mark.parametrize("opcode", [Op.TEXT, Op.BINARY], ids=opcode_name)
@pytest.mark.parametrize(
    ("size", "bits"), [(0, 16), (1, 16), (125, 16), (0, 64), (1, 64), (125, 64), (126, 64), (65535, 64)]
)
async def test_a_length_in_more_bytes_than_it_needs_fails(peer: Peer, opcode: Op, size: int, bits: LengthBits) -> None:
    await fails_with(peer, frame(opcode, b"x" * size, length_bits=bits))


@pytest.mark.parametrize(("size", "bits"), [(5, 16), (125, 16), (126, 64), (65535, 64)])
async def test_a_later_fragment_with_a_length_in_more_bytes_than_it_needs_fails(
    peer: Peer, size: int, bits: LengthBits
) -> None:
    first = frame(Op.BINARY, b"first", fin=False)
    await fails_with(peer, first, frame(Op.CONTINUATION, b"x" * size, length_bits=bits))


@pytest.mark.parametrize("announced", [1 << 63, 1 << 63 | 5, (1 << 64) - 1])
@pytest.mark.parametrize("opcode", [Op.TEXT, Op.BINARY], ids=opcode_name)
async def test_a_64_bit_length_with_the_top_bit_set_fails(peer: Peer, opcode: Op, announced: int) -> None:
    # A broken rule (1002), and a message too big to process (1009) as well: which to name is left open.
    await peer.send(frame(opcode, b"12345", announced=announced))
    await assert_fails(peer, 1002, 1009)


# Streams that are right in every frame but one of whose frames is long.


async def test_a_length_byte_of_126_or_127_inside_a_header_does_not_confuse_the_next(peer: Peer) -> None:
    messages = [b"\x7e" * 126, b"\x7f" * 127, b"\xfe" * 254, b"\xff" * 255, b"\x7f" * 0x7F7F]
    frames = [part for message in messages for part in (binary(message), text("between"))]
    echoes = [part for message in messages for part in (message, "between")]
    await peer.exchange(*frames, messages=echoes)
