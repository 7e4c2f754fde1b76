"""The outbound lane: whatever comes between, whole frames in order, and what is not out is in the outbox."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from router.batches import Slice
from router.errors import CloseCode, GapReason
from router.frames import text_frame
from router.lanes.outbound import CHUNK_BYTES, OutboundLane
from router.outbox import Outbox, Past
from router.queues import Gap
from tests.router.lanes.streams import (
    CLOSE,
    GOODBYE,
    ROOMY,
    NoStream,
    Wakes,
    World,
    event_batch,
    event_frame,
    expect_broken,
    pong,
    reply,
    summary,
    write_when_woken,
)

# Writing at once


def test_what_finds_nothing_before_it_is_written_at_once_and_wakes_nobody() -> None:
    world = World()
    world.offer("a", 0, 0)
    world.lane.send_control(reply(1))
    world.offer("b")
    assert world.out == ["a1", "a2", "reply1", "b1"]
    assert world.wakes.count == 0
    assert world.lane.finished


async def test_what_the_socket_does_not_take_is_left_to_the_writer() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.offer("b")
    world.lane.send_control(reply(1))
    assert summary(world.socket.out, cut=True) == []
    assert world.wakes.count == 1
    assert not world.lane.finished
    world.socket.make_room()
    await world.lane.write_waiting()
    assert world.out == ["a1", "a2", "reply1", "b1"]
    assert world.lane.finished


async def test_a_reply_that_is_partly_out_is_finished_before_events() -> None:
    world = World(room=3)
    world.lane.send_control(reply(1))
    world.offer()
    world.lane.send_control(reply(2))
    world.socket.make_room()
    await world.lane.write_waiting()
    assert world.out == ["reply1", "reply2", "a1"]


async def test_replies_overtake_events_that_wait() -> None:
    world = World(room=0)
    world.offer()
    world.offer()
    world.socket.make_room()
    world.lane.send_control(reply(1))
    await world.lane.write_waiting()
    assert world.out == ["a1", "reply1", "a2"]


async def test_a_reply_that_finds_only_events_waiting_goes_at_once() -> None:
    world = World()
    world.outbox.put(world.queues["a"], event_batch("a", 1))
    world.lane.send_control(reply(1))
    world.offer("b")  # not before what waits, though of another channel
    assert world.out == ["reply1"]
    await world.lane.write_waiting()
    assert world.out == ["reply1", "a1", "b1"]


async def test_a_gap_that_is_put_straight_into_the_outbox_goes_before_what_is_offered_next() -> None:
    world = World()
    world.outbox.put_gap(world.queues["a"], Gap("a", "e", 1, 4, 4, GapReason.SLOW_CONSUMER))
    world.seqs["a"] = 4
    world.offer()
    await world.lane.write_waiting()
    assert world.out == ["a:1-4", "a5"]


def test_a_lane_that_finds_events_waiting_wakes_the_writer() -> None:
    world = World()
    for events, wakes in [([], 0), ([event_batch("b", 1)], 1)]:
        lane_wakes = Wakes()
        lane = OutboundLane(NoStream(), wake=lane_wakes)
        outbox = Outbox(10, ROOMY)
        for batch in events:
            outbox.put(world.queues["b"], batch)
        lane.attach(outbox)
        assert lane_wakes.count == wakes


# Waking


def test_the_writer_is_woken_once_until_it_looks() -> None:
    world = World(room=0)
    for _ in range(5):
        world.offer()
        world.lane.send_control(reply(1))
    assert world.wakes.count == 1


async def test_a_wake_that_comes_while_the_writer_writes_is_not_lost() -> None:
    world = World(room=0)
    world.offer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.write_waiting)
        await wait_all_tasks_blocked()
        world.offer()
        assert world.wakes.count == 2
        world.socket.make_room()
    assert world.out == ["a1", "a2"]


async def test_long_frames_are_written_by_themselves_and_short_ones_together() -> None:
    world = World(room=0)
    for size in [20, 30, 20_000, 40, 50, 40_000]:
        world.offer("a", size)
    for _ in range(60):
        world.offer("b", 3000)
    world.socket.make_room()
    await world.lane.write_waiting()
    assert [word for word in world.out if word[0] == "a"] == [f"a{n}" for n in range(1, 7)]
    assert [word for word in world.out if word[0] == "b"] == [f"b{n}" for n in range(1, 61)]
    assert world.socket.writes < 12
    assert world.socket.most_given < 80_000, "what is joined is copied, so it is not much"


async def test_a_reply_waits_behind_one_chunk_of_events_at_most() -> None:
    world = World(room=0)
    for _ in range(600):
        world.offer("a", 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.write_waiting)
        await wait_all_tasks_blocked()
        world.lane.send_control(reply(1))
        world.socket.make_room()
    before = len(b"x" * 1000) * world.out.index("reply1")
    assert before < 2 * CHUNK_BYTES
    assert len(world.out) == 601


# The library's own frames


async def test_a_pong_does_not_come_inside_a_frame() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.offer("b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.send_all, pong(1))
        await wait_all_tasks_blocked()
        world.socket.make_room()
    assert world.out == ["a1", "a2", "pong1"]


async def test_a_pong_waits_for_whoever_awaits_the_socket() -> None:
    world = World(room=10)
    world.offer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.write_waiting)
        await wait_all_tasks_blocked()
        nursery.start_soon(world.lane.send_all, pong(1))
        await wait_all_tasks_blocked()
        world.offer()
        world.lane.send_control(reply(1))
        world.socket.make_room()
    assert world.out == ["a1", "pong1", "reply1", "a2"]


async def test_while_a_pong_waits_for_the_socket_nothing_is_written_past_it() -> None:
    world = World(room=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.send_all, pong(1))
        await wait_all_tasks_blocked()
        world.socket.room = ROOMY  # there is room, and nobody has been told so far
        world.offer()
        world.lane.send_control(reply(1))
        world.socket.stir()
    assert world.out == ["pong1"]
    await world.lane.write_waiting()
    assert world.out == ["pong1", "reply1", "a1"]


async def test_an_event_does_not_slip_past_a_reply_that_had_to_wait_for_a_pong() -> None:
    """As `subscribed` and the first event that it grants."""
    world = World(room=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.send_all, pong(1))
        await wait_all_tasks_blocked()
        world.lane.send_control(reply(1))
        world.socket.make_room()
    world.offer()
    world.lane.send_control(reply(2))
    await world.lane.write_waiting()
    assert world.out == ["pong1", "reply1", "reply2", "a1"]


async def test_a_close_frame_follows_replies_but_no_events() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.offer("b")
    world.lane.send_control(reply(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.send_all, CLOSE)
        await wait_all_tasks_blocked()
        world.offer()
        world.lane.send_control(reply(2))  # too late
        world.socket.make_room()
    world.offer("c")
    await world.lane.write_waiting()
    assert world.out == ["a1", "a2", "reply1", "close"]
    assert world.waiting == ["b1", "a3", "c1"]


async def test_events_that_wait_do_not_slip_behind_a_close_frame_that_the_writer_let_by() -> None:
    """The writer has the lock, then the close frame; when the writer's turn comes again, it must look anew."""
    world = World(room=10)
    world.offer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_when_woken, world.lane, world.wakes)
        await wait_all_tasks_blocked()
        world.offer("b")
        nursery.start_soon(world.lane.send_all, CLOSE)
        await wait_all_tasks_blocked()
        world.socket.make_room()
    assert world.out == ["a1", "close"]
    assert world.waiting == ["b1"]


async def test_nothing_follows_a_close_frame() -> None:
    world = World()
    await world.lane.send_all(CLOSE)
    for late in [pong(1), CLOSE]:
        with pytest.raises(trio.BrokenResourceError):
            await world.lane.send_all(late)
    world.lane.send_control(reply(1))
    world.offer()
    await world.lane.write_waiting()
    assert world.out == ["close"]
    assert world.waiting == ["a1"]


# The last word


async def test_the_last_word_follows_all_else_and_what_is_offered_behind_it_stays() -> None:
    world = World()
    world.outbox.put(world.queues["a"], event_batch("a", 1))
    world.lane.finish(GOODBYE)
    world.offer("b")
    world.lane.send_control(reply(1))
    await world.lane.write_waiting()
    assert world.lane.said_last
    world.offer("c")
    world.lane.send_control(reply(2))
    await world.lane.send_all(pong(1))
    await world.lane.send_all(CLOSE)
    assert world.out == ["reply1", "a1", "b1", "goodbye0", "pong1", "close"]
    assert world.waiting == ["c1"]


async def test_the_last_word_comes_before_the_close_frame_though_events_still_wait() -> None:
    world = World(room=0)
    world.offer()
    world.offer()
    world.lane.finish(GOODBYE)
    world.lane.close(CloseCode.GOING_AWAY, "no time left")
    world.socket.make_room()
    await world.lane.send_all(CLOSE)
    assert world.out == ["a1", "goodbye0", "close"]
    assert world.waiting == ["a2"]
    assert not world.lane.said_last, "what was before it is not all out"


async def test_the_last_word_waits_for_what_is_in_flight() -> None:
    world = World(room=3)
    world.lane.send_control(reply(1))
    world.lane.finish(GOODBYE)
    world.socket.make_room()
    await world.lane.write_waiting()
    assert world.out == ["reply1", "goodbye0"]


# Closing


def test_the_first_reason_to_close_holds() -> None:
    world = World()
    world.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")
    world.lane.close(CloseCode.INTERNAL_ERROR, "more")
    assert world.lane.close_request == (CloseCode.HEARTBEAT_MISSED, "silence")
    assert world.lane.closing
    assert world.wakes.count == 1


async def test_closing_frees_a_writer_that_waits_for_the_socket() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.offer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_when_woken, world.lane, world.wakes)
        await wait_all_tasks_blocked()
        world.lane.close(CloseCode.SESSION_TAKEN_OVER, "taken over")
    world.socket.make_room()
    await world.lane.write_waiting()
    assert summary(world.socket.out, cut=True) == []
    await world.lane.send_all(CLOSE)
    assert world.out == ["a1", "a2", "close"]
    assert world.waiting == ["a3"]


async def test_closing_frees_a_writer_that_waits_for_the_lock() -> None:
    world = World(room=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.send_all, pong(1))
        await wait_all_tasks_blocked()
        world.offer()
        nursery.start_soon(write_when_woken, world.lane, world.wakes)
        await wait_all_tasks_blocked()
        world.lane.close(CloseCode.SESSION_TAKEN_OVER, "taken over")
        await wait_all_tasks_blocked()
        world.socket.make_room()
    assert world.out == ["pong1"]


async def test_the_end_frees_a_writer_that_waits_for_the_socket() -> None:
    """As when the peer has shut its sending side and reads nothing: the socket never becomes writable."""
    world = World(room=10)
    world.offer("a", 0, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_when_woken, world.lane, world.wakes)
        await wait_all_tasks_blocked()
        world.lane.end()
    world.lane.release()
    assert world.waiting == ["a1", "a2"]


async def test_replies_are_bounded_in_number() -> None:
    world = World(room=0)
    for number in range(51):
        world.lane.send_control(reply(number))
    assert world.asked_to_close() is None  # one of them is in flight
    world.lane.send_control(reply(51))
    assert world.asked_to_close() is CloseCode.CONTROL_OVERFLOW
    world.socket.make_room()
    await world.lane.send_all(CLOSE)
    assert world.out == [*(f"reply{number}" for number in range(51)), "close"]


async def until_taken(world: World, then: Callable[[], object]) -> list[str]:
    """What is out when nobody waits any more for the replies to be taken, `then` having been done."""
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as waiters:
            waiters.start_soon(world.lane.until_control_taken)
            await wait_all_tasks_blocked()
            assert waiters.child_tasks
            then()
            nursery.start_soon(write_when_woken, world.lane, world.wakes)
        nursery.cancel_scope.cancel()
    return world.out


async def test_who_waits_for_the_replies_to_be_taken_waits_until_the_client_has_read_those_before() -> None:
    world = World(room=0)
    for number in range(3):
        world.lane.send_control(reply(number))
    assert (await until_taken(world, world.socket.make_room))[0] == "reply0"


@pytest.mark.parametrize(
    "ending",
    [lambda lane: lane.end(), lambda lane: lane.close(CloseCode.GOING_AWAY, ""), lambda lane: lane.release()],
    ids=["end", "close", "release"],
)
async def test_nobody_waits_for_replies_that_will_not_be_taken(ending: Callable[[OutboundLane], None]) -> None:
    world = World(room=0)
    for number in range(3):
        world.lane.send_control(reply(number))
    await until_taken(world, lambda: ending(world.lane))


async def test_nobody_waits_where_no_reply_does() -> None:
    with trio.testing.assert_no_checkpoints():
        await World().lane.until_control_taken()


def test_replies_are_bounded_in_bytes() -> None:
    world = World(room=0)
    world.offer()
    world.lane.send_control(bytes(1000))
    world.lane.send_control(bytes(1000))
    assert world.asked_to_close() is None
    world.lane.send_control(b"1")
    assert world.asked_to_close() is CloseCode.CONTROL_OVERFLOW


async def test_replies_that_are_out_do_not_count() -> None:
    world = World(room=0)
    for _ in range(5):
        world.offer()
        world.lane.send_control(text_frame(b'"%b"' % bytes(1500).replace(b"\0", b"r")))
        world.socket.make_room()
        await world.lane.write_waiting()
        world.socket.room = 0
    assert world.asked_to_close() is None


async def test_someone_may_wait_until_the_close_frame_has_its_place() -> None:
    world = World(room=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.until_close_sent)
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        nursery.start_soon(world.lane.send_all, CLOSE)
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1, "it stands behind what is in flight; that is enough"
        world.socket.make_room()
    await world.lane.until_close_sent()


async def test_whoever_waits_for_the_close_frame_is_freed_by_the_end() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.until_close_sent)
        await wait_all_tasks_blocked()
        world.lane.end()
    await world.lane.until_close_sent()


# The end of the connection

GONE = [OSError(number, "gone") for number in (errno.EPIPE, errno.ECONNRESET, errno.EBADF, errno.ETIMEDOUT)]


@pytest.mark.parametrize("error", GONE, ids=lambda error: errno.errorcode[error.errno])
async def test_an_error_of_the_socket_ends_the_lane_and_is_not_raised_into_the_router(error: OSError) -> None:
    world = World()
    world.socket.fail(error)
    world.offer("a", 0, 0)
    world.offer("b")
    assert world.lane.ended
    assert world.wakes.count == 1
    await world.lane.write_waiting()
    world.lane.release()
    assert world.waiting == ["a1", "a2", "b1"]


@pytest.mark.parametrize("error", GONE, ids=lambda error: errno.errorcode[error.errno])
async def test_an_error_ends_the_lane_from_wherever_it_comes(error: OSError) -> None:
    world = World()
    world.socket.fail(error)
    world.lane.send_control(reply(1))
    world.lane.send_control(reply(2))
    assert world.lane.ended

    world = World()
    world.outbox.put(world.queues["a"], event_batch("a", 1))
    world.socket.fail(error)
    await world.lane.write_waiting()
    assert world.lane.ended
    assert world.wakes.count == 1
    world.lane.release()
    assert world.waiting == ["a1"]

    world = World(room=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_broken, world.lane, pong(1))
        await wait_all_tasks_blocked()
        world.socket.fail(error)
    assert world.lane.ended


async def test_a_lane_that_has_ended_writes_nothing_though_the_socket_would_take_it() -> None:
    world = World()
    world.lane.end()
    world.offer()
    world.lane.send_control(reply(1))
    await world.lane.write_waiting()
    assert world.out == []
    assert world.waiting == ["a1"]


async def test_on_a_lane_that_has_ended_nothing_piles_up() -> None:
    world = World(room=0)
    world.lane.end()
    for _ in range(100):
        await expect_broken(world.lane, pong(1))
    assert world.lane.finished


async def test_a_socket_that_is_closed_under_a_waiter_ends_the_lane() -> None:
    async def wait_writable() -> None:
        await trio.lowlevel.checkpoint()
        raise trio.ClosedResourceError

    lane = OutboundLane(NoStream(), wake=Wakes(), try_write=lambda buffer: 0, wait_writable=wait_writable)
    with pytest.raises(trio.BrokenResourceError):
        await lane.send_all(pong(1))
    assert lane.ended


# Letting go of a session


async def test_what_was_not_handed_whole_to_the_socket_goes_back() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.offer("b")
    world.lane.release()
    assert world.waiting == ["a2", "b1"]
    world.socket.make_room()
    await world.lane.send_all(CLOSE)
    assert world.out == ["a1", "close"], "the frame that was partly out is finished"


async def test_where_the_connection_is_over_a_frame_that_is_partly_out_goes_back() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.offer("b")
    world.lane.end()
    world.lane.release()
    assert world.waiting == ["a1", "a2", "b1"]


async def test_a_frame_that_is_claimed_counts_as_out_and_what_is_behind_it_is_written_as_ever() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.offer("b")
    world.lane.claim_frame()
    world.lane.claim_frame()
    assert world.lane.waiting_for(world.queues["a"]) == (1, 0)
    world.socket.make_room()
    await world.lane.write_waiting()
    assert world.out == ["a1", "a2", "b1"]


async def test_letting_go_takes_the_end_of_a_replay_with_it_unless_that_is_partly_out() -> None:
    for room, comes in ((0, []), (10, ["a1"]), (len(event_frame("a", 1)) + 3, ["a1", "reply1"])):
        world = World(room=room)
        past = event_batch("a", 1)
        world.outbox.replay([Past(world.queues["a"], Slice(past, 0, 1)), Past(None, reply(1))])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.lane.write_waiting)
            await wait_all_tasks_blocked()
            world.lane.release()
            world.socket.make_room()
        assert world.out == comes


async def test_a_gap_that_is_partly_out_does_not_go_back() -> None:
    world = World(room=0)
    world.outbox.put_gap(world.queues["a"], Gap("a", "e", 1, 3, 3, GapReason.SLOW_CONSUMER))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.write_waiting)
        await wait_all_tasks_blocked()
        world.socket.make_room(10)
        await wait_all_tasks_blocked()
        world.lane.release()
        assert not world.outbox
        world.socket.make_room()
    assert world.out == ["a:1-3"]


async def test_a_frame_that_is_whole_out_does_not_go_back() -> None:
    world = World(room=len(event_batch("a", 1).buffer))
    world.offer("a", 0, 0)
    world.lane.release()
    assert world.waiting == ["a2"]
    world.socket.make_room()
    await world.lane.send_all(CLOSE)
    assert world.out == ["a1", "close"]


async def test_letting_go_while_the_writer_waits_for_the_socket() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.offer("b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_when_woken, world.lane, world.wakes)
        await wait_all_tasks_blocked()
        world.lane.release()
        assert world.waiting == ["a2", "b1"]
        world.socket.make_room()
    assert world.out == ["a1"]


async def test_letting_go_keeps_the_close_frame_and_replies_that_were_taken() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.lane.send_control(reply(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.send_all, CLOSE)
        await wait_all_tasks_blocked()
        world.lane.release()
        assert world.waiting == ["a2"]
        world.socket.make_room()
    assert world.out == ["a1", "reply1", "close"]


async def test_letting_go_keeps_a_reply_that_is_partly_out() -> None:
    world = World(room=3)
    world.lane.send_control(reply(1))
    world.lane.send_control(reply(2))
    world.lane.release()
    world.socket.make_room()
    await world.lane.send_all(CLOSE)
    assert world.out == ["reply1", "reply2", "close"]


async def test_the_last_word_is_not_said_to_a_client_whose_session_went_elsewhere() -> None:
    world = World()
    world.lane.finish(GOODBYE)
    world.lane.release()
    await world.lane.write_waiting()
    await world.lane.send_all(CLOSE)
    assert world.out == ["close"]


def test_a_lane_without_a_session_can_be_let_go() -> None:
    world = World()
    lane = OutboundLane(NoStream(), wake=world.wakes)
    lane.release()
    assert lane.closing
    assert not lane.ended


# Cancellation


async def test_a_writer_that_is_cancelled_leaves_all_as_it_is() -> None:
    world = World(room=10)
    world.offer("a", 0, 0)
    world.offer("b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.write_waiting)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    world.lane.close(CloseCode.GOING_AWAY, "")  # nobody is there to be freed
    world.socket.make_room()
    await world.lane.send_all(CLOSE)
    assert world.out == ["a1", "a2", "close"]
    assert world.waiting == ["b1"]
    assert not world.lane.ended


async def test_a_pong_that_is_cancelled_does_not_harm_what_follows() -> None:
    world = World(room=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.lane.send_all, pong(1))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    world.offer()
    world.socket.make_room()
    await world.lane.write_waiting()
    assert world.out == ["pong1", "a1"]
