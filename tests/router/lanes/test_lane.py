"""Both lanes as one stream: what the WebSocket library gets to read, and when."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from router.errors import CloseCode
from router.frames import Binary
from router.lanes import Lane
from router.lanes.lane import FULL_READ_BYTES, READ_BYTES
from tests.conformance.wire import Op
from tests.router.lanes.streams import (
    CLOSE,
    HEAD,
    FakeSocket,
    NoStream,
    Wakes,
    client_frame,
    close,
    fragments,
    pong,
    summary,
    text,
)

PING = client_frame(Op.PING, b"hi")


class Client:
    """The library's side of a lane and the client's: what it reads, and what was handed over meanwhile."""

    def __init__(self, came_with_head: bytes = b"", *, stream: trio.abc.Stream | None = None) -> None:
        mine, theirs = memory_stream_pair()
        self.stream = mine
        self.wakes = Wakes()
        self.socket = FakeSocket()
        self.lane = Lane(
            theirs if stream is None else stream,
            HEAD + came_with_head,
            wake=self.wakes,
            max_message_bytes=1000,
            try_write=self.socket.try_write,
            wait_writable=self.socket.wait_writable,
        )
        #: Messages as they were handed over, read by read; and what the library got, at its place.
        self.log: list[list[bytes] | bytes] = []
        self.passed: list[str | bytes] = []
        self.busy: trio.Event | None = None

    async def deliver(self, messages: list[bytes]) -> None:
        if self.busy is not None:
            await self.busy.wait()
        self.log.append(messages)

    async def get_message(self) -> str | bytes:
        await trio.lowlevel.checkpoint()
        return self.passed.pop(0)

    def open(self) -> None:
        self.lane.open(self.deliver, self.get_message)

    async def opened(self) -> Client:
        """Open, with the head read."""
        assert await self.lane.receive_some() == HEAD
        self.open()
        return self

    def unfinished_since(self) -> float | None:
        return self.lane.begun_at

    async def send(self, *data: bytes) -> None:
        await self.stream.send_all(b"".join(data))

    async def read(self) -> None:
        self.log.append(await self.lane.receive_some(4096))

    async def read_on(self) -> None:
        while (data := await self.lane.receive_some()) != b"":
            self.log.append(data)


# Reading


async def test_the_library_gets_the_request_head_and_the_lane_what_came_with_it() -> None:
    client = Client(text("first") + text("sec")[:4])
    assert await client.lane.receive_some() == HEAD
    client.open()
    await client.send(text("sec")[4:], PING)
    await client.read()
    assert client.log == [[b"first"], [b"sec"], PING]


async def test_nothing_is_read_before_the_lane_is_opened() -> None:
    client = Client(text("early"))
    await client.send(text("later"))
    assert await client.lane.receive_some() == HEAD
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read)
        await wait_all_tasks_blocked()
        assert client.log == []
        client.open()
        await wait_all_tasks_blocked()
        assert client.log == [[b"early"], [b"later"]]
        await client.send(PING)
    client.open()  # a second opener takes over
    assert client.log[-1] == PING


async def test_all_messages_of_one_read_are_handed_over_as_one() -> None:
    client = await Client().opened()
    await client.send(text("a"), client_frame(Op.BINARY, b"b"), text(""), PING, text("c"), text("d"))
    await client.read()
    assert client.log == [[b"a", b"b", b""], PING]
    assert [type(message) for message in client.log[0]] == [bytes, Binary, bytes]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read)
        await wait_all_tasks_blocked()
        assert client.log[2:] == [[b"c", b"d"]]
        nursery.cancel_scope.cancel()


async def test_while_messages_are_being_handed_over_nothing_is_read() -> None:
    client = await Client().opened()
    client.busy = trio.Event()
    await client.send(text("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await wait_all_tasks_blocked()
        await client.send(text("b"))
        await wait_all_tasks_blocked()
        client.busy.set()
        await client.stream.send_eof()
    assert client.log == [[b"a"], [b"b"]]


async def test_a_message_that_was_passed_on_is_handed_over_before_the_next_is_lifted() -> None:
    client = await Client().opened()
    first, last = fragments(Op.TEXT, [b"frag", b"ments"])
    await client.send(first, PING, last, text("whole"))
    await client.stream.send_eof()
    client.passed = ["fragments"]
    await client.read_on()
    assert client.log == [first, PING, last, [b"fragments"], [b"whole"]]


async def test_a_binary_message_that_was_passed_on_is_told_apart() -> None:
    client = await Client().opened()
    await client.send(*fragments(Op.BINARY, [b"a", b"b"]))
    await client.stream.send_eof()
    client.passed = [b"ab"]
    await client.read_on()
    assert client.log[-1] == [b"ab"]
    assert isinstance(client.log[-1][0], Binary)


async def test_the_library_may_ask_again_after_a_cancelled_read() -> None:
    client = await Client().opened()
    await client.send(text("whole")[:3])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not client.lane.ended
    await client.send(text("whole")[3:], PING)
    await client.read()
    assert client.log == [[b"whole"], PING]


class Recorded(NoStream, trio.abc.Stream):
    """Gives prepared chunks and notes how much was asked for."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = iter(chunks)
        self.asked: list[int | None] = []

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self.asked.append(max_bytes)
        return next(self.chunks)


async def test_a_read_that_was_full_is_followed_by_a_larger_one() -> None:
    full = client_frame(Op.PING) * (READ_BYTES // 6 + 1)
    stream = Recorded([text("a"), full[:READ_BYTES], full[:READ_BYTES], full[: READ_BYTES - 1], b""])
    client = await Client(stream=stream).opened()
    await client.read_on()
    assert stream.asked == [READ_BYTES, READ_BYTES, FULL_READ_BYTES, FULL_READ_BYTES, READ_BYTES]


# The end


async def test_the_end_of_the_input_is_the_end_of_the_connection() -> None:
    client = await Client().opened()
    await client.send(text("whole"), text("half")[:5])
    await client.stream.send_eof()
    await client.read_on()
    assert client.log == [[b"whole"]]
    assert client.lane.ended
    assert client.wakes.count == 1
    assert await client.lane.receive_some() == b""


@pytest.mark.parametrize("error", [trio.BrokenResourceError, trio.ClosedResourceError])
async def test_a_connection_that_breaks_ends_as_one_that_is_shut(error: type[Exception]) -> None:
    class Breaking(Recorded):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise error

    client = await Client(stream=Breaking([])).opened()
    assert await client.lane.receive_some() == b""
    assert client.lane.ended


async def test_once_the_library_has_closed_it_reads_nothing() -> None:
    client = await Client().opened()
    left: list[bool] = []
    client.lane.on_left = lambda: left.append(client.lane.left)
    await client.lane.aclose()
    assert left == [True]
    assert client.wakes.count == 1
    await client.send(text("late"))
    with pytest.raises(trio.ClosedResourceError):
        await client.lane.receive_some()


# Closing


async def test_a_message_that_is_too_big_closes_1009_behind_those_before_it() -> None:
    client = await Client().opened()
    await client.send(text("before"), text("x" * 1001), text("after"), PING, close(1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await wait_all_tasks_blocked()
        assert client.log == [[b"before"]], "nothing goes on before our close frame"
        assert client.lane.close_request == (CloseCode.MESSAGE_TOO_BIG, "message over 1000 bytes")
        await client.lane.send_all(CLOSE)
        await client.stream.send_eof()
    assert client.log == [[b"before"], close(1000)]


async def test_fragments_that_are_too_big_together_close_1009() -> None:
    client = await Client().opened()
    parts = fragments(Op.TEXT, [b"x" * 600, b"x" * 600])
    await client.send(*parts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await wait_all_tasks_blocked()
        await client.lane.send_all(CLOSE)
        await client.stream.send_eof()
    assert client.log == [parts[0]]
    assert client.lane.close_request is not None


async def test_a_ping_that_crosses_our_close_does_not_reach_the_library() -> None:
    """It came in one read with a message whose delivery lasted until the close frame was out."""
    client = await Client().opened()
    client.busy = trio.Event()
    await client.send(text("a"), PING, text("b"), PING, close(1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await wait_all_tasks_blocked()
        client.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
        await client.lane.send_all(CLOSE)
        client.busy.set()
        await client.stream.send_eof()
    assert client.log == [[b"a"], close(1000)]


async def test_the_peers_close_that_was_read_before_ours_is_asked_for_waits_until_ours_is_out() -> None:
    client = await Client().opened()
    client.busy = trio.Event()
    await client.send(text("a"), close(1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await wait_all_tasks_blocked()
        client.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
        client.busy.set()
        await wait_all_tasks_blocked()
        assert client.log == [[b"a"]]
        await client.lane.send_all(CLOSE)
        await client.stream.send_eof()
    assert client.log == [[b"a"], close(1000)]


async def test_a_message_that_the_library_holds_when_we_close_is_left_to_it() -> None:
    client = await Client().opened()
    parts = fragments(Op.TEXT, [b"a", b"b"])
    await client.send(*parts)
    await client.read()
    await client.read()
    client.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
    await client.lane.send_all(CLOSE)
    await client.stream.send_eof()
    await client.read_on()  # `get_message` has nothing to give
    assert client.log == parts


async def test_a_lane_whose_session_went_elsewhere_passes_on_a_close_frame_alone() -> None:
    client = await Client().opened()
    client.lane.release()
    await client.send(text("a"), PING, close(1000))
    await client.stream.send_eof()
    await client.read_on()
    assert client.log == [close(1000)]


async def test_a_lane_that_lets_go_while_messages_are_handed_over_lifts_no_more() -> None:
    client = await Client().opened()
    client.busy = trio.Event()
    await client.send(text("a"), PING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await wait_all_tasks_blocked()
        client.lane.release()
        await client.send(text("b"), close(1000))
        client.busy.set()
        await client.stream.send_eof()
    assert client.log == [[b"a"], close(1000)]


async def test_a_lane_that_is_to_be_closed_before_it_is_opened_discards_what_comes() -> None:
    client = Client(text("early") + PING)
    client.lane.close(CloseCode.TRY_AGAIN_LATER, "full")
    assert await client.lane.receive_some() == HEAD
    await client.send(text("later"), PING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await wait_all_tasks_blocked()
        await client.lane.send_all(CLOSE)
        await client.send(close(1013))
        await client.stream.send_eof()
    assert client.log == [close(1013)]
    assert summary(client.socket.out) == ["close"]


async def test_a_reader_that_waits_to_be_opened_is_freed_by_the_close() -> None:
    client = Client(PING)
    assert await client.lane.receive_some() == HEAD
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await wait_all_tasks_blocked()
        client.lane.close(CloseCode.POLICY_VIOLATION, "sign-in took too long")
        await client.lane.send_all(CLOSE)
        await client.stream.send_eof()
    assert client.log == []


async def test_a_reader_that_waits_for_our_close_frame_is_freed_by_the_end() -> None:
    client = await Client().opened()
    client.lane.close(CloseCode.POLICY_VIOLATION, "no")
    await client.stream.send_eof()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        client.lane.end()


# What the watch over all connections looks at


async def test_any_bytes_are_a_sign_of_life(autojump_clock: MockClock) -> None:
    client = await Client().opened()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await trio.sleep(5)
        assert client.lane.silent_for_s() == 5
        await client.send(text("whole")[:1])
        await wait_all_tasks_blocked()
        assert client.lane.heard_at == trio.current_time()
        await trio.sleep(3)
        assert client.lane.silent_for_s() == 3
        await client.stream.send_eof()
    assert client.lane.silent_for_s() == 3, "the end is no sign of life"


A, B = fragments(Op.TEXT, [b"a", b"b"])
HALF = text("whole")[:6], text("whole")[6:]
HALF_PING = PING[:3], PING[3:]


@pytest.mark.parametrize(
    ("came", "begun_at"),
    [
        ([(1, text("whole"))], None),
        ([(1, HALF[0])], 1),
        ([(1, HALF[0]), (2, HALF[1])], None),
        ([(1, HALF[0][:1]), (2, HALF[0][1:])], 1),
        ([(1, text("a") + HALF[0])], 1),
        ([(1, HALF[0]), (2, HALF[1] + HALF[0])], 2),
        ([(1, A)], 1),
        ([(1, A), (2, PING), (3, HALF_PING[0])], 1),
        ([(1, A), (2, HALF_PING[0]), (3, HALF_PING[1])], 1),
        ([(1, A), (2, B)], None),
        ([(1, A), (2, B + A)], 2),
        ([(1, PING)], None),
        ([(1, HALF_PING[0])], 1),
        ([(1, HALF_PING[0]), (2, HALF_PING[1] + HALF_PING[0]), (3, HALF_PING[1] + HALF_PING[0])], 3),
        ([(1, client_frame(Op.BINARY, bytes(500), fin=False)[:50])], 1),
        ([(1, close(1000) + HALF[0])], None),
    ],
)
async def test_since_when_a_message_is_unfinished(
    came: list[tuple[float, bytes]], begun_at: float | None, autojump_clock: MockClock
) -> None:
    client = await Client().opened()
    client.passed = ["ab"] * 9
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        for at, data in came:
            await trio.sleep_until(began + at)
            await client.send(data)
        await wait_all_tasks_blocked()
        assert client.unfinished_since() == (None if begun_at is None else began + begun_at)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("first", [text("a"), A + B], ids=["lifted", "passed on"])
async def test_while_nothing_is_read_no_message_is_late(first: bytes, autojump_clock: MockClock) -> None:
    client = await Client().opened()
    client.busy = trio.Event()
    client.passed = ["ab"]
    await client.send(first, HALF[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.read_on)
        await trio.sleep(40)
        assert client.unfinished_since() is None
        client.busy.set()
        await wait_all_tasks_blocked()
        assert client.unfinished_since() == trio.current_time()
        nursery.cancel_scope.cancel()


# The stream's other sides


async def test_to_wait_for_the_socket_one_needs_the_lock() -> None:
    class Ready(Recorded):
        async def wait_send_all_might_not_block(self) -> None:
            self.asked.append(None)

    stream = Ready([])
    client = Client(stream=stream)
    client.socket.room = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.lane.send_all, pong(1))
        await wait_all_tasks_blocked()
        nursery.start_soon(client.lane.wait_send_all_might_not_block)
        await wait_all_tasks_blocked()
        assert stream.asked == []
        client.socket.make_room()
    assert stream.asked == [None]


async def test_hanging_up_reads_on_until_the_peer_closes() -> None:
    client = await Client().opened()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.lane.hang_up, 10)
        for _ in range(3):
            await client.send(text("late") * 1000)
            await wait_all_tasks_blocked()
        assert await client.stream.receive_some() == b"", "our sending side is shut at once"
        await client.stream.send_eof()
    assert client.log == []


async def test_hanging_up_lasts_so_long_at_most(autojump_clock: MockClock) -> None:
    client = await Client().opened()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def babble() -> None:
            while True:
                await client.send(b"more")
                await trio.sleep(0.3)

        nursery.start_soon(babble)
        await client.lane.hang_up(1.0)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(1.0)


async def test_hanging_up_on_a_stream_that_cannot_be_half_closed() -> None:
    stream = Recorded([text("late"), b""])
    await Client(stream=stream).lane.hang_up(1.0)
    assert stream.asked == [READ_BYTES, READ_BYTES]


async def test_hanging_up_on_a_connection_that_is_gone_is_no_error() -> None:
    client = Client()
    await client.lane.drop()
    await client.lane.hang_up(1.0)
    with pytest.raises(trio.BrokenResourceError):
        await client.stream.send_all(b"anybody there?")
