"""How a connection ends: sections 1.4, 5.5.1 and 7.1."""

import pytest

from tests.conformance.peer import Ending, Peer, assert_closes, assert_fails, open_peer
from tests.conformance.wire import Op, binary, byte_by_byte, close, frame, ping, text

MORE_THAN_THE_KERNEL_HOLDS = bytes(16 << 20)
MUCH_THAT_NOBODY_READS = binary(b"unread" * 1000) * 200
NORMAL = Ending(close_frame=True, code=1000, reason="", tcp="eof", closed_tcp_first="server")


async def test_the_server_ends_the_tcp_connection_after_the_handshake(peer: Peer) -> None:
    # Section 7.1.1: the server first, so that it is not the one left with a socket in TIME_WAIT.
    await peer.send(close(1000))
    assert await peer.ending(hang_up=False) == NORMAL


async def test_the_server_ends_the_tcp_connection_also_after_it_failed_it(peer: Peer) -> None:
    # The peer neither answers the close frame nor hangs up: it must not be waited for without end.
    await peer.send(frame(0xF, b"illegal"))
    ending = await peer.ending(hang_up=False)
    assert (ending.code, ending.tcp, ending.closed_tcp_first) == (1002, "eof", "server")


async def test_a_close_frame_sent_byte_by_byte_is_understood(peer: Peer) -> None:
    await peer.send(close(4321, b"slowly"), cut=byte_by_byte)
    await assert_closes(peer, 4321)


async def test_messages_that_were_echoed_do_not_change_the_end(peer: Peer) -> None:
    await peer.exchange(text("one"), binary(b"two"), messages=["one", b"two"])
    await peer.send(close(1001))
    await assert_closes(peer, 1001)


@pytest.mark.parametrize("code", [1000, 4999])
async def test_messages_right_before_a_close_frame_come_back_in_order_or_not_any_more(peer: Peer, code: int) -> None:
    # Section 5.5.1 has the answer sent "as soon as practical": an echo still under way need not be waited for.
    messages = [f"message {n}" for n in range(500)]
    await peer.send(*map(text, messages), close(code))
    await assert_closes(peer, code, before=messages)


# After the client's close frame nothing counts.


@pytest.mark.parametrize(
    "more",
    [
        text("late"),
        binary(b"late"),
        ping(b"late"),
        close(4000),
        close(999),
        frame(0xF, b"late"),
        frame(Op.TEXT, b"late", masked=False),
        frame(Op.TEXT, b"begun", fin=False) + frame(Op.CONTINUATION, b"end"),
        frame(Op.CONTINUATION, b"late"),
        frame(Op.TEXT, b"\xff"),
        b"\x00\x01\x02\x03 not a frame",
    ],
    ids=[
        "text",
        "binary",
        "ping",
        "second close",
        "bad second close",
        "reserved opcode",
        "unmasked",
        "fragments",
        "continuation",
        "not UTF-8",
        "noise",
    ],
)
async def test_what_follows_a_close_frame_is_ignored(peer: Peer, more: bytes) -> None:
    await peer.send(close(1000), more)
    await assert_closes(peer, 1000)


async def test_what_follows_a_close_frame_in_a_later_segment_is_not_answered(peer: Peer) -> None:
    await peer.send(close(1000))
    await peer.until_close_frame()
    late = text("late") + ping(b"late") + close(4000)
    # A server that has closed its socket by now may answer with a TCP reset, so that is not looked at.
    assert (await peer.ending(sending=late)).code == 1000


async def test_much_that_nobody_reads_after_the_close_frame_does_not_turn_the_end_into_a_reset(
    peer: Peer,
) -> None:
    ending = await peer.ending(sending=close(1000) + MUCH_THAT_NOBODY_READS)
    assert (ending.code, ending.tcp) == (1000, "eof")


async def test_much_that_nobody_reads_after_an_illegal_frame_does_not_turn_the_end_into_a_reset(
    peer: Peer,
) -> None:
    await assert_fails(peer, 1002, sending=frame(0xF, b"illegal") + MUCH_THAT_NOBODY_READS)


# Ends in the middle of something.


async def test_a_close_frame_waits_for_the_frame_that_is_half_written(peer: Peer) -> None:
    message = MORE_THAN_THE_KERNEL_HOLDS
    await peer.send(binary(message))
    await peer.until_mid_frame()
    await peer.send(close(1000))
    await peer.receive(message)
    await assert_closes(peer, 1000)


async def test_a_failure_waits_for_the_frame_that_is_half_written(peer: Peer) -> None:
    # A close frame in the midst of another frame would be lost in its payload.
    message = MORE_THAN_THE_KERNEL_HOLDS
    await peer.send(binary(message))
    await peer.until_mid_frame()
    await peer.send(frame(0xF, b"illegal"))
    await peer.receive(message)
    await assert_fails(peer, 1002)


@pytest.mark.parametrize(
    "left_over",
    [
        b"",
        text("half a frame")[:7],
        text("half a header")[:1],
        frame(Op.TEXT, b"half a message", fin=False),
        frame(Op.BINARY, announced=1 << 20),
    ],
    ids=["nothing", "half a frame", "half a header", "half a message", "a header alone"],
)
async def test_the_server_hangs_up_when_the_client_does_without_a_close_frame(peer: Peer, left_over: bytes) -> None:
    await peer.exchange(text("alive"), messages=["alive"])
    await peer.send(left_over)
    await peer.shut_sending_side()
    assert (await peer.ending()).tcp == "eof"


@pytest.mark.parametrize("sent", [b"", text("unanswered"), binary(MORE_THAN_THE_KERNEL_HOLDS)], ids=len)
async def test_a_client_that_resets_its_connection_takes_nobody_with_it(echo_port: int, sent: bytes) -> None:
    async with open_peer(echo_port) as other, open_peer(echo_port) as peer:
        await peer.send(sent)
        peer.reset()
        await other.exchange(text("still here"), messages=["still here"])
    async with open_peer(echo_port) as newcomer:
        await newcomer.exchange(text("and open"), messages=["and open"])
