"""The body of a close frame: its code and its reason, sections 5.5.1 and 7.4."""

import pytest

from tests.conformance.peer import Peer, assert_closes, assert_fails
from tests.conformance.wire import Op, close, frame, text

# 1012 and 1013 were registered after the standard; this server sends 1013 itself.
GOOD_CODES = [*range(1000, 1004), *range(1007, 1014), 3000, 3500, 3999, 4000, 4500, 4999]
# Of 1000-2999 only what is defined may be sent. 1004 is reserved without a meaning; 1005, 1006 and 1015 are
# names for a close frame without a code or for none at all, and "MUST NOT be set" in one. (1014, registered
# late and of no use to a client, is not tested: a server may know it or not.)
BAD_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 10000, 65535]


@pytest.mark.parametrize("code", GOOD_CODES)
async def test_a_close_code_is_echoed(peer: Peer, code: int) -> None:
    # "Typically echos" says section 5.5.1; this server does so always.
    await peer.send(close(code))
    await assert_closes(peer, code)


@pytest.mark.parametrize("code", GOOD_CODES)
async def test_a_close_code_is_echoed_also_where_a_reason_comes_with_it(peer: Peer, code: int) -> None:
    await peer.send(close(code, b"because"))
    await assert_closes(peer, code)


@pytest.mark.parametrize("code", BAD_CODES)
async def test_a_close_code_that_may_not_be_sent_fails(peer: Peer, code: int) -> None:
    await peer.send(close(code))
    await assert_fails(peer, 1002)


@pytest.mark.parametrize("code", BAD_CODES)
async def test_a_close_code_that_may_not_be_sent_fails_also_with_a_reason(peer: Peer, code: int) -> None:
    await peer.send(close(code, b"because"))
    await assert_fails(peer, 1002)


async def test_a_close_frame_without_a_body_is_answered_without_a_code_or_with_1000(peer: Peer) -> None:
    await peer.send(close())
    ending = await peer.ending()
    assert ending.close_frame
    assert ending.code in {None, 1000}
    assert ending.tcp == "eof"


@pytest.mark.parametrize("half", [b"\x00", b"\x03", b"\xff"], ids=bytes.hex)
async def test_a_close_frame_with_half_a_code_fails(peer: Peer, half: bytes) -> None:
    await peer.send(frame(Op.CLOSE, half), text("after"))
    await assert_fails(peer, 1002)


@pytest.mark.parametrize(
    "reason", ["r", "r" * 123, "ünï€𝄞", "\x00", "€" * 41], ids=["short", "longest", "mixed", "nul", "3-byte"]
)
async def test_a_reason_may_be_any_text_that_fits(peer: Peer, reason: str) -> None:
    await peer.send(close(1000, reason.encode()))
    await assert_closes(peer, 1000)


@pytest.mark.parametrize(
    "reason",
    [b"\xff", b"good \x80", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xafx", b"r" * 120 + b"\xe2\x82"],
    ids=bytes.hex,
)
async def test_a_reason_that_is_not_utf_8_fails(peer: Peer, reason: bytes) -> None:
    # Not UTF-8 where it must be (1007), in a control frame that is malformed by it (1002): either name fits.
    await peer.send(close(1000, reason))
    await assert_fails(peer, 1007, 1002)
