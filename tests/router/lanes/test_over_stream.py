"""The outbound lane over a stream that can only be sent to by waiting, as with TLS."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from router.errors import CloseCode
from router.lanes.outbound import LAST_WRITE_S, SEND_ALL_BYTES, OutboundLane
from tests.router.lanes.streams import CLOSE, NoStream, World, expect_broken, pong, reply, summary


class HalfwayStream(NoStream):
    """Sends the first half of what it is given, and the second half when it is let."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.let = trio.Event()
        self.broken = False
        self._busy = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._busy, "two writers at once"
        self._busy = True
        try:
            if self.broken:
                raise trio.BrokenResourceError
            half = len(data) // 2
            self.out += data[:half]
            await self.let.wait()
            self.out += data[half:]
        finally:
            self._busy = False


def over_stream() -> tuple[World, HalfwayStream]:
    world, stream = World(), HalfwayStream()
    world.lane = OutboundLane(stream, wake=world.wakes)
    world.lane.attach(world.outbox)
    return world, stream


async def test_over_a_stream_the_writer_alone_writes() -> None:
    world, stream = over_stream()
    world.offer("a", 0, 0)
    world.lane.send_control(reply(1))
    world.offer("b")
    assert stream.out == b""
    assert world.wakes.count == 1
    stream.let.set()
    await world.lane.write_waiting()
    assert summary(stream.out) == ["reply1", "a1", "a2", "b1"]


async def test_over_a_stream_a_pong_waits_for_the_writer() -> None:
    world, stream = over_stream()
    world.offer("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.write_waiting)
        await wait_all_tasks_blocked()
        nursery.start_soon(world.lane.send_all, pong(1))
        await wait_all_tasks_blocked()
        world.offer("b")
        stream.let.set()
    assert summary(stream.out) == ["a1", "pong1", "b1"]


async def test_over_a_stream_a_write_may_end_before_the_close(autojump_clock: MockClock) -> None:
    world, stream = over_stream()
    world.offer("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.write_waiting)
        await wait_all_tasks_blocked()
        world.offer("b")
        world.lane.close(CloseCode.SESSION_TAKEN_OVER, "taken over")
        await trio.sleep(LAST_WRITE_S - 0.1)
        stream.let.set()
    assert not world.lane.ended
    await world.lane.send_all(CLOSE)
    assert summary(stream.out) == ["a1", "close"]
    assert world.waiting == ["b1"]


async def test_over_a_stream_a_write_that_does_not_end_is_the_end(autojump_clock: MockClock) -> None:
    world, _ = over_stream()
    world.offer("a")
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.write_waiting)
        await wait_all_tasks_blocked()
        world.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
        await trio.sleep(LAST_WRITE_S / 2)
        world.lane.close(CloseCode.HEARTBEAT_MISSED, "still")  # gives it no more time
    assert trio.current_time() - began == pytest.approx(LAST_WRITE_S)
    assert world.lane.ended
    await expect_broken(world.lane, CLOSE)


async def test_over_a_stream_a_cancelled_write_is_the_end() -> None:
    for write in ("write_waiting", "send_all"):
        world, _ = over_stream()
        world.offer("a")
        async with trio.open_nursery() as nursery:
            if write == "send_all":
                nursery.start_soon(world.lane.send_all, pong(1))
            else:
                nursery.start_soon(world.lane.write_waiting)
            await wait_all_tasks_blocked()
            world.offer("b")
            nursery.cancel_scope.cancel()
        assert world.lane.ended
        world.lane.release()
        assert world.waiting == (["a1", "b1"] if write == "send_all" else ["b1"]), "what it was given is out"


async def test_over_a_stream_that_breaks_the_lane_ends() -> None:
    world, stream = over_stream()
    stream.broken = True
    world.offer("a", 0, SEND_ALL_BYTES)
    world.offer("b")
    await world.lane.write_waiting()
    assert world.lane.ended
    await expect_broken(world.lane, pong(1))
    world.lane.release()
    assert world.waiting == ["a2", "b1"], "it was given the first event, and a part of the second"


async def test_over_a_stream_what_it_is_given_is_out_and_the_rest_of_a_frame_is_the_old_ones() -> None:
    """How much of it is out cannot be known: none of it goes back."""
    world, stream = over_stream()
    world.offer("a", 0, SEND_ALL_BYTES)
    world.offer("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.write_waiting)
        await wait_all_tasks_blocked()
        assert world.lane.waiting_for(world.queues["a"]) == (2, 0)
        world.lane.release()
        assert world.waiting == ["a3"]
        stream.let.set()
    assert not world.lane.ended
    await world.lane.send_all(CLOSE)
    assert summary(stream.out) == ["a1", "a2", "close"]


async def test_over_a_stream_letting_go_between_writes_leaves_room_for_a_close_frame() -> None:
    world, stream = over_stream()
    world.offer("a")
    world.lane.release()
    stream.let.set()
    await world.lane.send_all(CLOSE)
    assert summary(stream.out) == ["close"]
    assert world.waiting == ["a1"]
