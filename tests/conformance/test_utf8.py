"""Text is UTF-8 (section 8.1, RFC 3629): all of it is served, nothing else is."""

import pytest

from tests.conformance.peer import Peer, assert_fails
from tests.conformance.wire import Op, binary, byte_by_byte, close, cut_at, fragments, frame, ping, text

# Of each length the first and the last code point, and what lies around the gaps.
GOOD = {
    "U+0000": "\u0000",
    "U+007F": "\u007f",
    "U+0080": "\u0080",
    "U+07FF": "\u07ff",
    "U+0800": "\u0800",
    "U+D7FF, before the surrogates": "\ud7ff",
    "U+E000, after the surrogates": "\ue000",
    "U+FDD0, a noncharacter": "\ufdd0",
    "U+FEFF, a byte order mark": "\ufeff",
    "U+FFFD, the replacement character": "\ufffd",
    "U+FFFE, a noncharacter": "\ufffe",
    "U+FFFF, a noncharacter": "\uffff",
    "U+10000": "\U00010000",
    "U+1FFFF, a noncharacter": "\U0001ffff",
    "U+10FFFF, the last": "\U0010ffff",
    "a combining mark alone": "\u0301",
    "a joined emoji": "\U0001f469\u200d\U0001f680",
    "right to left": "שלום مرحبا",
}

MIXED = "a\u0000é€\uffff𝄞\U0010ffffz"

BAD = {
    "lone continuation 80": b"\x80",
    "lone continuation BF": b"\xbf",
    "two lone continuations": b"\x80\xbf",
    "overlong 2-byte NUL": b"\xc0\x80",
    "overlong 2-byte slash": b"\xc0\xaf",
    "overlong 2-byte, largest": b"\xc1\xbf",
    "overlong 3-byte NUL": b"\xe0\x80\x80",
    "overlong 3-byte, largest": b"\xe0\x9f\xbf",
    "overlong 4-byte NUL": b"\xf0\x80\x80\x80",
    "overlong 4-byte, largest": b"\xf0\x8f\xbf\xbf",
    "surrogate D800": b"\xed\xa0\x80",
    "surrogate DBFF": b"\xed\xaf\xbf",
    "surrogate DC00": b"\xed\xb0\x80",
    "surrogate DFFF": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\xbc\xed\xbe\x89",
    "above 10FFFF": b"\xf4\x90\x80\x80",
    "lead byte F5": b"\xf5\x80\x80\x80",
    "5-byte form": b"\xf8\x88\x80\x80\x80",
    "6-byte form": b"\xfc\x84\x80\x80\x80\x80",
    "byte FE": b"\xfe",
    "byte FF": b"\xff",
    "2-byte, cut short": b"\xc3",
    "3-byte, cut short after 1": b"\xe2",
    "3-byte, cut short after 2": b"\xe2\x82",
    "4-byte, cut short after 1": b"\xf0",
    "4-byte, cut short after 2": b"\xf0\x9d",
    "4-byte, cut short after 3": b"\xf0\x9d\x84",
    "a lead byte after a lead byte": b"\xc3\xc3\xa9",
    "one continuation too many": b"\xc3\xa9\xa9",
}

good = pytest.mark.parametrize("message", GOOD.values(), ids=GOOD.keys())
bad = pytest.mark.parametrize("wrong", BAD.values(), ids=BAD.keys())


# What is text.


@good
async def test_any_code_point_comes_back(peer: Peer, message: str) -> None:
    await peer.exchange(text(message), text(f"before {message} after"), messages=[message, f"before {message} after"])


@good
async def test_any_code_point_may_be_cut_between_fragments(peer: Peer, message: str) -> None:
    payload = message.encode()
    frames = [part for cut in range(len(payload) + 1) for part in fragments(Op.TEXT, cut_at(payload, [cut]))]
    await peer.exchange(*frames, messages=[message] * (len(payload) + 1))


@good
async def test_any_code_point_may_come_in_fragments_of_a_byte_with_pings_between(peer: Peer, message: str) -> None:
    parts = fragments(Op.TEXT, byte_by_byte(message.encode()))
    pongs = [b"%d" % n for n in range(len(parts))]
    frames = [piece for n, part in enumerate(parts) for piece in (part, ping(pongs[n]))]
    await peer.exchange(*frames, messages=[message], pongs=pongs)


async def test_a_mixed_text_may_be_cut_into_three_fragments_anywhere(peer: Peer) -> None:
    payload = MIXED.encode()
    cuts = [(first, second) for second in range(len(payload) + 1) for first in range(second + 1)]
    frames = [part for both in cuts for part in fragments(Op.TEXT, cut_at(payload, both))]
    await peer.exchange(*frames, messages=[MIXED] * len(cuts))


async def test_a_long_text_of_wide_characters_comes_back(peer: Peer) -> None:
    message = MIXED * 20_000
    await peer.exchange(text(message), messages=[message])


async def test_a_long_text_may_be_cut_inside_characters_again_and_again(peer: Peer) -> None:
    message = "€𝄞" * 3000
    payload = message.encode()
    frames = fragments(Op.TEXT, cut_at(payload, range(5, len(payload), 5)))
    await peer.exchange(*frames, messages=[message])


# What is not.


@bad
@pytest.mark.parametrize("around", [(b"", b""), (b"", b" after"), (b"before ", b""), (b"before ", b" after")])
async def test_a_text_that_is_not_utf_8_fails(peer: Peer, wrong: bytes, around: tuple[bytes, bytes]) -> None:
    payload = around[0] + wrong + around[1]
    await peer.send(text("first"), frame(Op.TEXT, payload), text("last"), ping(b"last"), close(1000))
    await assert_fails(peer, 1007, before=["first"])


@bad
@pytest.mark.parametrize("place", [0, 1, 2], ids=["in the first", "in the second", "in the last"])
async def test_a_fragment_that_is_not_utf_8_fails(peer: Peer, wrong: bytes, place: int) -> None:
    parts = [b"a", b"b", b"c"]
    parts[place] = b"x" + wrong + b"y"
    await peer.send(*fragments(Op.TEXT, parts), text("last"))
    await assert_fails(peer, 1007)


@bad
async def test_a_text_that_is_not_utf_8_fails_also_where_its_bytes_come_in_fragments_of_one(
    peer: Peer, wrong: bytes
) -> None:
    await peer.send(*fragments(Op.TEXT, byte_by_byte(b"x" + wrong)), text("last"))
    await assert_fails(peer, 1007)


@pytest.mark.parametrize("position", [*range(18), 31, 32, 63, 64, 125, 126])
async def test_a_wrong_byte_is_noticed_at_any_position(peer: Peer, position: int) -> None:
    payload = bytearray(b"x" * 127)
    payload[position] = 0x80
    await peer.send(frame(Op.TEXT, bytes(payload)))
    await assert_fails(peer, 1007)


@pytest.mark.parametrize("size", [65535, 65536, 1 << 20])
async def test_a_character_cut_short_at_the_end_of_a_large_text_is_noticed(peer: Peer, size: int) -> None:
    await peer.send(frame(Op.TEXT, b"x" * (size - 2) + b"\xe2\x82"))
    await assert_fails(peer, 1007)


async def test_a_character_that_the_last_fragment_leaves_unfinished_is_noticed(peer: Peer) -> None:
    await peer.send(*fragments(Op.TEXT, [b"x\xe2", b"\x82"]))
    await assert_fails(peer, 1007)


async def test_a_character_may_not_continue_in_the_next_message(peer: Peer) -> None:
    await peer.send(frame(Op.TEXT, b"\xe2\x82"), frame(Op.TEXT, b"\xac"))
    await assert_fails(peer, 1007)


# What need not be text.


@bad
async def test_a_binary_message_need_not_be_utf_8(peer: Peer, wrong: bytes) -> None:
    frames = [binary(wrong), *fragments(Op.BINARY, byte_by_byte(wrong)), text("end")]
    await peer.exchange(*frames, messages=[wrong, wrong, "end"])
