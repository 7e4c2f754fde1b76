"""The lanes over real sockets: descriptors, small buffers, slow readers, peers that vanish."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from router.lanes import Lane, socket_writer
from router.outbox import Outbox
from router.queues import Queue
from tests.router.lanes.streams import (
    CLOSE,
    HEAD,
    ROOMY,
    Wakes,
    event_batch,
    event_frame,
    pong,
    reply,
    summary,
    write_when_woken,
)

#: For each test as a whole; it only passes where something hangs.
DEADLINE_S = 30
SMALL_BYTES = 4096


class Connection:
    """Both ends of a TCP connection with small buffers, and a lane over the server's."""

    def __init__(self, server: trio.SocketStream, client: trio.SocketStream) -> None:
        self.client = client
        self.server = server
        self.wakes = Wakes()
        self.lane = Lane(
            server,
            HEAD,
            wake=self.wakes,
            max_message_bytes=1000,
            try_write=socket_writer(server),
            wait_writable=partial(trio.lowlevel.wait_writable, server.socket),
        )
        self.outbox, self.queue = Outbox(100_000, ROOMY), Queue("a")
        self.lane.attach(self.outbox)
        self.offered = 0

    def offer(self, size: int = 100) -> None:
        self.offered += 1
        self.lane.offer(self.queue, event_batch("a", self.offered, [size]))

    def fill(self) -> None:
        """Offer until the kernel takes no more."""
        while self.lane.finished:
            self.offer()

    async def read_all(self, at_a_time: int = 65_536) -> bytes:
        data = b""
        while part := await self.client.receive_some(at_a_time):
            data += part
        return data

    def vanish(self) -> None:
        """The client goes as a crashed machine would: the server gets a reset."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.socket.close()


@asynccontextmanager
async def connected() -> AsyncIterator[Connection]:
    with trio.fail_after(DEADLINE_S):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BYTES)
            theirs = trio.socket.socket()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BYTES)
            await theirs.connect(listener.socket.getsockname())
            server = await listener.accept()
        async with server, trio.SocketStream(theirs) as client:
            yield Connection(server, client)


@pytest.mark.parametrize("at_a_time", [1000, 3001, 65_536])
async def test_a_slow_reader_gets_everything_in_whole_frames_and_in_order(at_a_time: int) -> None:
    async with connected() as connection, trio.open_nursery() as nursery:
        lane, all_offered = connection.lane, trio.Event()

        async def route() -> None:
            for _ in range(300):
                for size in (0, 50, 700, 2000):
                    connection.offer(size)
                await trio.lowlevel.checkpoint()

        async def answer_pings() -> None:
            for number in range(50):
                await lane.send_all(pong(number))

        async def produce() -> None:
            async with trio.open_nursery() as producers:
                producers.start_soon(route)
                producers.start_soon(answer_pings)
            all_offered.set()
            lane.wake()

        async def write() -> None:
            while not (all_offered.is_set() and lane.finished):
                await connection.wakes.wait()
                await lane.write_waiting()
            await lane.send_all(CLOSE)
            await connection.server.send_eof()

        nursery.start_soon(produce)
        nursery.start_soon(write)
        words = summary(await connection.read_all(at_a_time))
    assert [word for word in words if word[0] == "a"] == [f"a{n + 1}" for n in range(1200)]
    assert [word for word in words if word[0] == "p"] == [f"pong{n}" for n in range(50)]
    assert words[-1] == "close"


async def test_what_the_kernel_does_not_take_waits_and_is_not_lost() -> None:
    async with connected() as connection:
        connection.fill()
        assert connection.wakes.count == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_when_woken, connection.lane, connection.wakes)
            await wait_all_tasks_blocked()
            connection.offer(5000)
            connection.lane.send_control(reply(1))
            data = b""
            while not data.endswith(event_frame("a", connection.offered, 5000)):
                data += await connection.client.receive_some(1000)
            nursery.cancel_scope.cancel()
        events = [f"a{n + 1}" for n in range(connection.offered)]
        assert summary(data) == [*events[:-1], "reply1", events[-1]]


async def test_a_socket_that_was_closed_ends_the_lane_and_its_number_is_not_written_to() -> None:
    """The number of a closed descriptor belongs to whoever opens the next one."""
    async with connected() as connection:
        number = connection.server.socket.fileno()
        mine, other = socket.socketpair()
        connection.server.socket.close()
        with mine, other, socket.socket(fileno=os.dup2(mine.fileno(), number)):
            connection.offer()
            assert connection.lane.ended
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(1)
        connection.lane.release()
        assert connection.outbox.events == 1


async def test_a_socket_that_is_closed_while_the_writer_waits_for_it_ends_the_lane() -> None:
    async with connected() as connection:
        connection.fill()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_when_woken, connection.lane, connection.wakes)
            await wait_all_tasks_blocked()
            connection.server.socket.close()
        assert connection.lane.ended


async def test_a_peer_that_vanishes_ends_the_lane_and_nothing_is_raised_into_the_router() -> None:
    async with connected() as connection:
        connection.vanish()
        await trio.lowlevel.wait_readable(connection.server.socket)  # the reset has come
        connection.offer()
        connection.offer()
        assert connection.lane.ended
        assert connection.wakes.count == 1
        connection.lane.release()
        assert connection.outbox.events == 2


async def test_a_peer_that_vanishes_frees_the_writer_that_waits_for_it() -> None:
    async with connected() as connection:
        connection.fill()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_when_woken, connection.lane, connection.wakes)
            await wait_all_tasks_blocked()
            connection.vanish()
        assert connection.lane.ended


async def test_a_peer_that_shuts_its_side_and_never_reads_does_not_hold_the_writer() -> None:
    async with connected() as connection:
        lane = connection.lane
        connection.fill()
        assert await lane.receive_some() == HEAD
        lane.open(_deliver, _get_message)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_when_woken, lane, connection.wakes)
            await wait_all_tasks_blocked()
            await connection.client.send_eof()
            assert await lane.receive_some() == b""
        assert lane.ended


async def _deliver(messages: list[bytes]) -> None:
    await trio.lowlevel.checkpoint()
    raise AssertionError


async def _get_message() -> str:
    await trio.lowlevel.checkpoint()
    raise AssertionError


async def test_hanging_up_lets_the_peer_read_to_the_end() -> None:
    """Unread input would turn the end into a reset, and what the peer has not read yet would be lost."""
    async with connected() as connection:
        await connection.client.send_all(b"nobody reads this" * 100)
        connection.offer()
        await connection.lane.send_all(CLOSE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.lane.hang_up, DEADLINE_S)
            assert summary(await connection.read_all()) == ["a1", "close"]
            await connection.client.send_eof()
        await connection.lane.drop()
