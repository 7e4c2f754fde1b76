"""The lanes with trio-websocket on them: a whole connection, from its handshake to the last byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from trio.testing import MockClock, wait_all_tasks_blocked

from router.errors import CloseCode
from router.frames import Binary
from router.outbox import Outbox
from router.queues import Queue
from tests.conformance.wire import Op
from tests.router.lanes.streams import (
    HEAD,
    HEAD_END,
    ROOMY,
    STEADY,
    Host,
    client_frame,
    close,
    event_batch,
    fragments,
    summary,
    text,
)
from tests.router.lanes.test_inbound import Frame, cut_streams

PING = client_frame(Op.PING, b"hi")

over_both = pytest.mark.parametrize("plain", [True, False], ids=["socket", "stream"])


@asynccontextmanager
async def running(host: Host) -> AsyncIterator[Host]:
    """A host that runs, its handshake done; in the end it must come to its own end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run)
        await wait_all_tasks_blocked()
        yield host


async def leave(host: Host) -> None:
    """The client shuts its side, which lets the host end."""
    await wait_all_tasks_blocked()
    await host.client.send_eof()


def head_with(**changed: str | None) -> bytes:
    """A request head with fields changed, added or (None) left out."""
    lines = HEAD.removesuffix(HEAD_END).decode().split("\r\n")
    for field, value in changed.items():
        name = field.replace("_", "-")
        lines = [line for line in lines if not line.startswith(f"{name}:")]
        if value is not None:
            lines.append(f"{name}: {value}")
    return "\r\n".join(lines).encode() + HEAD_END


# Opening


@over_both
async def test_a_connection_opens_and_what_came_with_its_head_is_taken(plain: bool) -> None:
    async with running(Host(plain=plain, came_with_head=text("first") + PING + text("se")[:3])) as host:
        await host.send(text("se")[3:])
        await leave(host)
    assert host.response.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in host.response
    assert host.opened
    assert host.messages == [b"first", b"se"]
    assert summary(host.socket.out.partition(HEAD_END)[2]) == ["ponghi"]


async def test_the_subprotocol_that_was_chosen_is_told() -> None:
    head = head_with(Sec_WebSocket_Protocol="bearer.x, neurograph.v1")
    async with running(Host(head=head, subprotocol="neurograph.v1")) as host:
        await leave(host)
    assert b"neurograph.v1" in host.response
    assert b"bearer" not in host.response


@over_both
@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Connection": "keep-alive"}, 400),
        ({"Upgrade": "h2c"}, 400),
    ],
)
async def test_a_bad_handshake_is_answered_and_not_waited_for(
    changed: dict[str, Any], status: int, plain: bool, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    async with running(Host(plain=plain, head=head_with(**changed))) as host:
        await leave(host)
    assert host.response.startswith(b"HTTP/1.1 %d " % status)
    assert host.opened is False
    assert host.closed_at == began


async def test_a_client_that_does_not_take_the_answer_is_given_up(autojump_clock: MockClock) -> None:
    host = Host()
    host.socket.room = 5
    began = trio.current_time()
    await host.run()
    assert host.opened is False
    assert host.closed_at == began + Host.OPEN_S


async def test_a_client_that_has_left_before_the_answer_is_no_error(autojump_clock: MockClock) -> None:
    host = Host()
    host.socket.fail(ConnectionResetError())
    began = trio.current_time()
    await host.run()
    assert host.opened is False
    assert host.closed_at == began
    await host.ws.close(Host.CLOSE_S)  # there is nothing to close
    assert host.ws.closed_by_peer is None


# Messages


@over_both
async def test_a_fragmented_message_and_a_whole_one_come_in_order(plain: bool) -> None:
    async with running(Host(plain=plain)) as host:
        first, *middle, last = fragments(Op.TEXT, ["frâg".encode()[:3], b"", "frâg".encode()[3:]])
        await host.send(text("0"), first, PING, *middle, PING, last, text("1"), *fragments(Op.BINARY, [b"2", b""]))
        await host.send(text("3"))
        await leave(host)
    assert host.messages == [b"0", "frâg".encode(), b"1", b"2", b"3"]
    assert [isinstance(message, Binary) for message in host.messages] == [False, False, False, True, False]
    assert [frame.payload for frame in host.frames] == [b"hi", b"hi"]


@over_both
async def test_byte_by_byte_it_is_the_same(plain: bool) -> None:
    async with running(Host(plain=plain)) as host:
        for byte in b"".join([text("a"), *fragments(Op.TEXT, [b"b", b"c"]), PING, text("d"), close(1000)]):
            await host.send(bytes([byte]))
            await wait_all_tasks_blocked()
        await leave(host)
    assert host.messages == [b"a", b"bc", b"d"]
    assert host.close_frame == (1000, "")


@over_both
async def test_pongs_come_between_events(plain: bool) -> None:
    async with running(Host(plain=plain)) as host:
        outbox, queue = Outbox(100, ROOMY), Queue("a")
        host.lane.attach(outbox)
        for seq in range(1, 4):
            host.lane.offer(queue, event_batch("a", seq))
            await host.send(client_frame(Op.PING, b"%d" % seq))
            await wait_all_tasks_blocked()
        await leave(host)
    assert summary(host.socket.out.partition(HEAD_END)[2]) == ["a1", "pong1", "a2", "pong2", "a3", "pong3"]


@STEADY
@given(cut_streams())
def test_any_legal_stream_cut_in_any_way_comes_out_in_order(stream: tuple[list[Frame], Sequence[bytes]]) -> None:
    frames, pieces = stream

    async def converse() -> None:
        async with running(Host()) as host:
            for piece in pieces:
                await host.send(piece)
                await wait_all_tasks_blocked()
            await host.send(close(1000))
            await leave(host)
        assert host.messages == [frame.message for frame in frames if frame.message is not None]
        pings = [frame for frame in frames if frame.data[0] & 0x0F == Op.PING]
        assert [frame.opcode for frame in host.frames] == [Op.PONG] * len(pings) + [Op.CLOSE]

    trio.run(converse, clock=MockClock(autojump_threshold=0))


async def test_an_unasked_pong_is_taken_for_a_sign_of_life_and_nothing_else() -> None:
    async with running(Host()) as host:
        await host.send(client_frame(Op.PONG, b"unasked"), text("a"))
        await leave(host)
    assert host.messages == [b"a"]
    assert host.frames == []


# The peer closes


@over_both
@pytest.mark.parametrize(
    ("frame", "closed", "answer"),
    [
        (close(1000), (1000, ""), (1000, "")),
        (close(1001, "going"), (1001, "going"), (1001, "going")),
        (close(4999, "bye"), (4999, "bye"), (4999, "bye")),
        (close(), (1005, ""), (0, "")),
    ],
    ids=["1000", "1001", "4999", "no code"],
)
async def test_the_peers_close_is_answered_and_told(
    frame: bytes, closed: tuple[int, str], answer: tuple[int, str], plain: bool, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    async with running(Host(plain=plain)) as host:
        await host.send(text("last"), frame, text("late"), PING)
        await leave(host)
    assert host.messages == [b"last"]
    assert host.ws.closed_by_peer == closed
    assert host.close_frame == answer
    assert host.ended_at == began


@over_both
async def test_a_peer_that_shuts_its_side_amid_a_frame_is_gone(plain: bool, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with running(Host(plain=plain)) as host:
        await host.send(text("whole"), text("half")[:5])
        await leave(host)
    assert host.messages == [b"whole"]
    assert host.lane.ended
    assert host.ws.closed_by_peer == (1006, "")
    assert host.close_frame is None
    assert host.closed_at == began


async def test_a_peer_that_closes_and_does_not_read_gets_its_answer_when_it_does(autojump_clock: MockClock) -> None:
    """The library is amid its answer when the connection is to be closed for another reason."""
    async with running(Host()) as host:
        host.socket.room = 0
        await host.send(close(1000))
        await trio.sleep(0.1)
        host.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
        await trio.sleep(Host.CLOSE_S / 2)
        host.socket.make_room()
        await leave(host)
    assert host.close_frame == (1000, "")


@pytest.mark.parametrize("ticks", range(8))
def test_whichever_close_is_quicker_is_said(ticks: int) -> None:
    """Never a code that must not be sent, as that of a close without one."""

    async def race() -> None:
        async with running(Host()) as host:
            await host.send(close())
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            host.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
            await leave(host)
        assert host.close_frame in [(0, ""), (4000, "silence")]

    for seed in range(20):
        trio._core._run._r.seed(seed)  # Trio has no public way
        trio.run(race, clock=MockClock(autojump_threshold=0))


async def test_a_peer_that_closes_and_never_reads_is_cut_off(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with running(Host()) as host:
        host.socket.room = 0
        await host.send(close(1000))
        await wait_all_tasks_blocked()
        host.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
    assert host.close_frame is None
    assert host.closed_at == began + Host.CLOSE_S
    assert host.ended_at == began + 2 * Host.CLOSE_S


# The peer breaks the protocol


@over_both
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (client_frame(Op.TEXT, b"hi", masked=False), 1002),
        (client_frame(Op.TEXT, b"hi", rsv=4), 1002),
        (client_frame(0x3), 1002),
        (client_frame(Op.TEXT, b"hi", length_bits=16), 1002),
        (client_frame(Op.CONTINUATION, b"end"), 1002),
        (client_frame(Op.TEXT, b"a", fin=False) + text("b"), 1002),
        (client_frame(Op.PING, b"hi", fin=False), 1002),
        (client_frame(Op.PING, bytes(126)), 1002),
        (client_frame(Op.CLOSE, b"\x03"), 1002),
        (close(1005), 1002),
        (close(999), 1002),
        (client_frame(Op.CLOSE, b"\x03\xe8\xff"), 1007),
        (client_frame(Op.TEXT, b"\xff"), 1007),
        (client_frame(Op.TEXT, b"\xc3", fin=False) + client_frame(Op.CONTINUATION, b"a"), 1007),
    ],
)
async def test_a_fault_is_said(frames: bytes, code: int, plain: bool, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with running(Host(plain=plain)) as host:
        await host.send(text("before"), frames, text("after"), PING, close(1000))
        await leave(host)
    assert host.messages == [b"before"]
    assert host.close_frame == (code, "")
    closed = host.ws.closed_by_peer
    assert closed is not None
    assert closed[0] == code
    assert host.ended_at == began


async def test_a_fault_of_a_peer_that_has_left_is_said_to_nobody() -> None:
    async with running(Host()) as host:
        host.socket.error = BrokenPipeError()
        await host.send(client_frame(0x3))
        await leave(host)
    assert host.close_frame is None
    assert host.lane.ended


@over_both
@pytest.mark.parametrize(
    "frames",
    [
        client_frame(Op.TEXT, announced=1001),
        client_frame(Op.BINARY, bytes(5000)) + text("after") + PING + close(1000),
        b"".join(fragments(Op.TEXT, [b"x" * 600, b"x" * 600, b"x"])) + close(1000),
    ],
    ids=["announced", "whole", "in fragments"],
)
async def test_a_message_that_is_too_big_is_said(frames: bytes, plain: bool, autojump_clock: MockClock) -> None:
    async with running(Host(plain=plain)) as host:
        await host.send(text("before"), frames)
        await leave(host)
    assert host.messages == [b"before"]
    assert host.close_frame == (1009, "message over 1000 bytes")


async def test_a_library_that_takes_less_than_the_lane_keeps_the_message(autojump_clock: MockClock) -> None:
    async with running(Host(library_takes=10)) as host:
        await host.send(*fragments(Op.TEXT, [b"x" * 10, b"x"]), text("after"))
        await leave(host)
    assert host.messages == []
    assert host.close_frame == (1009, "Exceeded maximum message size: 10 bytes")


# We close


@over_both
async def test_our_close_is_said_with_its_reason_and_ends_when_it_is_answered(
    plain: bool, autojump_clock: MockClock
) -> None:
    async with running(Host(plain=plain)) as host:
        await trio.sleep(1)
        host.lane.close(CloseCode.SESSION_TAKEN_OVER, "another connection")
        await wait_all_tasks_blocked()
        await host.send(text("late"), close(4502))
        await trio.sleep(0.2)
        closed_after = host.closed_at
        await leave(host)
    assert host.messages == []
    assert host.close_frame == (4502, "another connection")
    assert closed_after is not None


@over_both
async def test_pings_that_cross_our_close_harm_nobody(plain: bool, autojump_clock: MockClock) -> None:
    async with running(Host(plain=plain)) as host:
        host.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
        for _ in range(3):
            await host.send(PING, text("late"), client_frame(Op.TEXT, b"fragment", fin=False))
            await wait_all_tasks_blocked()
        await host.send(close(4000))
        await leave(host)
    assert host.close_frame == (4000, "silence")
    assert [frame.opcode for frame in host.frames] == [Op.CLOSE]


async def test_a_ping_that_was_read_before_our_close_and_handed_on_behind_it_harms_nobody() -> None:
    busy = trio.Event()

    class Busy(Host):
        async def deliver(self, messages: list[bytes]) -> None:
            await busy.wait()
            await super().deliver(messages)

    async with running(Busy()) as host:
        await host.send(text("a"), PING, PING)
        await wait_all_tasks_blocked()
        host.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
        await wait_all_tasks_blocked()
        assert host.close_frame == (4000, "silence")
        busy.set()
        await host.send(close(4000))
        await leave(host)
    assert host.messages == [b"a"]


@over_both
async def test_a_peer_that_never_answers_our_close_is_cut_off(plain: bool, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with running(Host(plain=plain)) as host:
        host.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
        for _ in range(30):
            await host.send(text("babble"))
            await trio.sleep(0.05)
    assert host.close_frame == (4000, "silence")
    assert host.closed_at == began + Host.CLOSE_S
    assert host.ended_at == began + 2 * Host.CLOSE_S
    assert host.messages == []


async def test_a_peer_that_takes_nothing_any_more_is_cut_off(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with running(Host()) as host:
        host.socket.room = 0
        host.lane.send_control(text("unread"))
        await wait_all_tasks_blocked()
        host.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
    assert host.close_frame is None
    assert host.ended_at == began + 2 * Host.CLOSE_S


@over_both
async def test_a_connection_may_be_closed_before_it_is_open(plain: bool, autojump_clock: MockClock) -> None:
    host = Host(plain=plain, came_with_head=text("unread") + PING)
    host.lane.close(CloseCode.TRY_AGAIN_LATER, "full")
    async with running(host):
        await host.send(text("late"), close(1013))
        await leave(host)
    assert host.response.startswith(b"HTTP/1.1 101 ")
    assert host.close_frame == (1013, "full")
    assert host.messages == []


async def test_without_a_reason_nothing_is_said_or_waited_for(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with running(Host()) as host:
        await host.ws.close(Host.CLOSE_S)
        assert trio.current_time() == began
        assert host.frames == []
        await leave(host)


async def test_on_a_connection_that_is_over_nothing_is_said(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with running(Host()) as host:
        host.lane.close(CloseCode.GOING_AWAY, "late")
        host.lane.end()
        await leave(host)
    assert host.frames == []
    assert host.closed_at == began
