"""Fragmented messages, section 5.4."""

import pytest

from tests.conformance.peer import Peer, assert_closes, assert_fails
from tests.conformance.wire import Op, byte_by_byte, close, cut_at, fragments, frame, ping, pong, text

TYPES = pytest.mark.parametrize("opcode", [Op.TEXT, Op.BINARY], ids=lambda op: op.name.lower())

SHAPES = {
    "two": [b"first ", b"second"],
    "three": [b"a", b"bc", b"def"],
    "first empty": [b"", b"the rest"],
    "last empty": [b"the start", b""],
    "first and last empty": [b"", b"the middle", b""],
    "empty ones between": [b"a", b"", b"", b"b", b"", b"c"],
    "all empty": [b"", b"", b"", b""],
    "one empty, unfragmented": [b""],
    "a byte each": [bytes([n]) for n in b"a message in the smallest parts"],
    "header edges": [b"x" * size for size in (125, 126, 127, 65535, 65536, 65537)],
    "a thousand": [b"%d," % n for n in range(1000)],
    "small then large": [b"s", b"L" * 300_000],
    "large then small": [b"L" * 300_000, b"s"],
}


def as_message(opcode: Op, payload: bytes) -> str | bytes:
    return payload.decode() if opcode is Op.TEXT else payload


@TYPES
@pytest.mark.parametrize("parts", SHAPES.values(), ids=SHAPES.keys())
async def test_a_fragmented_message_comes_back_whole(peer: Peer, opcode: Op, parts: list[bytes]) -> None:
    message = as_message(opcode, b"".join(parts))
    await peer.exchange(*fragments(opcode, parts), messages=[message])


@TYPES
async def test_a_message_may_be_cut_into_fragments_anywhere(peer: Peer, opcode: Op) -> None:
    payload = b"cut between any two bytes"
    frames = [part for cut in range(len(payload) + 1) for part in fragments(opcode, cut_at(payload, [cut]))]
    await peer.exchange(*frames, messages=[as_message(opcode, payload)] * (len(payload) + 1))


@TYPES
async def test_a_message_of_1_mib_in_fragments_of_1_kib_comes_back(peer: Peer, opcode: Op) -> None:
    parts = [bytes([97 + n % 26]) * 1024 for n in range(1024)]
    message = as_message(opcode, b"".join(parts))
    await peer.exchange(*fragments(opcode, parts), messages=[message])


async def test_a_message_of_16_mib_in_fragments_of_1_mib_comes_back(peer: Peer) -> None:
    parts = [bytes([n]) * (1 << 20) for n in range(16)]
    await peer.exchange(*fragments(Op.BINARY, parts), messages=[b"".join(parts)])


async def test_a_message_is_not_answered_before_its_last_fragment(peer: Peer) -> None:
    await peer.send(frame(Op.TEXT, b"half", fin=False), ping(b"still half"))
    await peer.receive(pongs=[b"still half"])
    await peer.send(frame(Op.CONTINUATION, b" whole"))
    await peer.receive("half whole")


async def test_a_ping_between_fragments_is_answered_before_the_message_goes_on(peer: Peer) -> None:
    await peer.send(frame(Op.TEXT, b"0", fin=False))
    for n in range(1, 10):
        await peer.send(ping(b"after %d" % n))
        await peer.receive(pongs=[b"after %d" % n])
        await peer.send(frame(Op.CONTINUATION, b"%d" % n, fin=n == 9))
    await peer.receive("0123456789")


@TYPES
async def test_control_frames_may_stand_between_any_two_fragments(peer: Peer, opcode: Op) -> None:
    parts = [b"a", b"", b"bc", b"d" * 200, b""]
    frames = [
        piece for n, part in enumerate(fragments(opcode, parts)) for piece in (ping(b"%d" % n), pong(b"unasked"), part)
    ]
    message = as_message(opcode, b"".join(parts))
    await peer.exchange(*frames, messages=[message], pongs=[b"%d" % n for n in range(5)])


async def test_a_fragmented_message_with_a_ping_inside_survives_being_sent_byte_by_byte(peer: Peer) -> None:
    first, second = fragments(Op.TEXT, [b"first ", b"second"])
    await peer.exchange(
        first, ping(b"between"), second, messages=["first second"], pongs=[b"between"], cut=byte_by_byte
    )


# What may not be.


@pytest.mark.parametrize("fin", [False, True], ids=["more_to_come", "last"])
@pytest.mark.parametrize("payload", [b"", b"continued"], ids=["empty", "filled"])
async def test_a_continuation_of_nothing_fails(peer: Peer, fin: bool, payload: bytes) -> None:
    await peer.send(frame(Op.CONTINUATION, payload, fin=fin), text("after"))
    await assert_fails(peer, 1002)


async def test_a_continuation_after_an_unfragmented_message_fails(peer: Peer) -> None:
    await peer.send(text("whole"), frame(Op.CONTINUATION, b"more"), text("after"))
    await assert_fails(peer, 1002, before=["whole"])


async def test_a_continuation_after_the_last_fragment_fails(peer: Peer) -> None:
    await peer.exchange(*fragments(Op.TEXT, [b"a", b"b"]), messages=["ab"])
    await peer.send(frame(Op.CONTINUATION, b"c"), text("after"))
    await assert_fails(peer, 1002)


@TYPES
@pytest.mark.parametrize("second", [Op.TEXT, Op.BINARY], ids=lambda op: f"then_{op.name.lower()}")
@pytest.mark.parametrize("fin", [False, True], ids=["more_to_come", "last"])
async def test_a_new_message_amid_a_fragmented_one_fails(peer: Peer, opcode: Op, second: Op, fin: bool) -> None:
    await peer.send(frame(opcode, b"begun", fin=False), frame(second, b"another", fin=fin))
    await peer.send(frame(Op.CONTINUATION, b"end"))
    await assert_fails(peer, 1002)


async def test_a_new_message_amid_a_fragmented_one_fails_also_in_a_later_read(peer: Peer) -> None:
    await peer.send(frame(Op.TEXT, b"begun", fin=False), ping(b"read"))
    await peer.receive(pongs=[b"read"])
    await peer.send(text("another"), frame(Op.CONTINUATION, b"end"))
    await assert_fails(peer, 1002)


async def test_a_close_amid_a_fragmented_message_ends_both(peer: Peer) -> None:
    await peer.send(frame(Op.TEXT, b"begun", fin=False), close(1000))
    await assert_closes(peer, 1000)
