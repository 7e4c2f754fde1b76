"""The outbound lane with everything at once: router, writer, library, peer and fate, in random order.

The order is drawn from a seed, Trio's own choices among it. A failure names the seed.
"""

from __future__ import annotations

import errno
import json
import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.errors import CloseCode
from router.lanes.outbound import OutboundLane
from tests.conformance.wire import Op, ServerFrame
from tests.router.lanes.streams import CLOSE, GOODBYE, ROOMY, World, frames_of, pong, reply

ROUNDS = 30
STEPS = 45
#: How long the peer may take to read a close frame; then the connection is cut.
CLOSE_S = 1.0


class Round:
    """One connection's life, all of it drawn from one seed."""

    def __init__(self, seed: int, at_once: int) -> None:
        self.dice = random.Random(seed)
        self.world = World(
            at_once=at_once, room=self.dice.choice([0, 10, 500]), max_events=self.dice.choice([15, 1000])
        )
        self.lane: OutboundLane = self.world.lane
        self.replies = 0
        self.replies_taken = 0
        self.pongs_begun = 0
        self.pongs_out = 0
        self.close_out = False
        self.released = False
        self.routed = False
        self.fate = self.dice.choice(
            [self.none, self.close, self.finish, self.take_over, self.fail, self.half_close, self.cancel, self.answer]
        )
        #: Where the session was let go: so much was out.
        self.out_at_release = 0

    # Those who take part

    async def run(self) -> None:
        fates = [
            self.none,
            self.close,
            self.finish,
            self.take_over,
            self.fail,
            self.half_close,
            self.cancel,
            self.answer,
        ]
        self.fate = self.dice.choice(fates)
        async with trio.open_nursery() as everybody:
            self.everybody = everybody
            everybody.start_soon(self.peer)
            everybody.start_soon(self.library)
            everybody.start_soon(self.router)
            everybody.start_soon(self.decide)
            await self.writer()
            everybody.cancel_scope.cancel()
        if not self.released:
            self.lane.end()
            self.lane.release()

    async def router(self) -> None:
        for _ in range(STEPS):
            await self.pause()
            for _ in range(self.dice.randint(1, 3)):
                self.offer_or_reply()
        self.routed = True
        self.lane.wake()

    def offer_or_reply(self) -> None:
        if self.dice.random() < 0.3:
            if self.replies - self.replies_taken < 40:
                self.replies += 1
                taken = not (self.lane.closing or self.lane.ended)
                self.replies_taken += taken
                self.lane.send_control(reply(self.replies))
        elif not self.released:
            self.world.offer(self.dice.choice("abc"), *self.dice.choices([0, 3, 40, 120], k=self.dice.randint(1, 4)))

    async def writer(self) -> None:
        """As a connection: write when woken, and then take care of the close."""
        lane = self.lane
        while not (lane.close_request or lane.ended or self.close_out):
            if self.fate == self.none and self.routed and lane.finished:
                return
            await self.world.wakes.wait()
            await lane.write_waiting()
            if lane.said_last:
                lane.close(CloseCode.GOING_AWAY, "the server is going down")
        if lane.close_request and not lane.ended:
            with trio.move_on_after(CLOSE_S):
                await self.send_close()

    async def send_close(self) -> None:
        try:
            await self.lane.send_all(CLOSE)
        except trio.BrokenResourceError:
            return
        self.close_out = True
        self.lane.wake()

    async def library(self) -> None:
        while True:
            await self.pause()
            try:
                self.pongs_begun += 1
                await self.lane.send_all(pong(self.pongs_begun))
                self.pongs_out += 1
            except trio.BrokenResourceError:
                return

    async def peer(self) -> None:
        while True:
            await self.pause()
            self.world.socket.make_room(self.dice.choice([0, 1, 7, 60, 300]))

    async def pause(self) -> None:
        if self.dice.random() < 0.5:
            await trio.lowlevel.checkpoint()
        else:
            await trio.sleep(self.dice.choice([0, 0.01, 0.05]))

    # What may become of it

    async def decide(self) -> None:
        await trio.sleep(self.dice.random() * 2)
        await self.fate()

    async def none(self) -> None:
        self.world.socket.make_room()

    async def close(self) -> None:
        self.lane.close(CloseCode.HEARTBEAT_MISSED, "silence")

    async def finish(self) -> None:
        self.lane.finish(GOODBYE)
        self.world.socket.make_room(self.dice.choice([0, ROOMY]))
        await trio.sleep(3)
        self.lane.close(CloseCode.GOING_AWAY, "no time left")

    async def take_over(self) -> None:
        self.out_at_release = len(self.world.socket.out)
        self.released = True
        if self.dice.random() < 0.5:
            self.lane.close(CloseCode.SESSION_TAKEN_OVER, "taken over")
            self.lane.release()
        else:
            self.lane.release()
            await self.pause()
            self.lane.close(CloseCode.SESSION_TAKEN_OVER, "taken over")

    async def fail(self) -> None:
        self.world.socket.fail(OSError(self.dice.choice([errno.EPIPE, errno.ECONNRESET, errno.EBADF]), "gone"))
        self.lane.send_control(b"notices")

    async def half_close(self) -> None:
        self.lane.end()

    async def cancel(self) -> None:
        self.everybody.cancel_scope.cancel()

    async def answer(self) -> None:
        """The peer has sent a close frame: the library answers it."""
        await self.send_close()
        if not self.close_out:
            self.lane.end()

    # What must hold

    def check(self) -> None:
        frames = frames_of(self.world.socket.out, cut=True)
        self.check_kinds(frames)
        self.check_events(frames)
        if self.close_out:
            assert frames_of(self.world.socket.out) == frames, "a close frame that is out is whole"

    def check_kinds(self, frames: list[ServerFrame]) -> None:
        pongs = [frame.payload for frame in frames if frame.opcode is Op.PONG]
        assert pongs == [b"%d" % (n + 1) for n in range(len(pongs))]
        assert len(pongs) >= self.pongs_out
        replies = [number for frame in frames if (number := message(frame).get("reply"))]
        assert replies == list(range(1, len(replies) + 1))
        assert len(replies) <= self.replies_taken
        last = [n for n, frame in enumerate(frames) if "goodbye" in message(frame)]
        closes = [n for n, frame in enumerate(frames) if frame.opcode is Op.CLOSE]
        assert closes in ([], [len(frames) - 1])
        assert bool(closes) >= self.close_out
        if closes:
            assert len(replies) == self.replies_taken
        if last:
            assert [frame.opcode for frame in frames[last[0] + 1 :] if frame.opcode not in (Op.PONG, Op.CLOSE)] == []

    def check_events(self, frames: list[ServerFrame]) -> None:
        back = frames_of(b"".join(bytes(piece.buffer) for piece in self.world.outbox.take(ROOMY)))
        unfinished = self.released and not self.close_out
        for name, offered in self.world.seqs.items():
            out = positions(frames, name)
            waiting = positions(back, name)
            if self.released:
                kept = positions(frames_of(self.world.socket.out[: self.out_at_release], cut=True), name)
                assert out[: len(kept)] == kept
                assert len(out) <= len(kept) + 1, "one frame may be finished"
            seq = 0
            for number, (first, end) in enumerate([*out, *waiting, (offered + 1, offered)]):
                if first != seq + 1:  # a frame was partly out, and the connection ended before its rest was
                    assert unfinished
                    assert number == len(out)
                    unfinished = False
                seq = end
        if self.fate == self.none:
            assert back == []


def message(frame: ServerFrame) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(frame.payload) if frame.opcode is Op.TEXT else {}
    return said


def positions(frames: list[ServerFrame], name: str) -> list[tuple[int, int]]:
    """First and last seq of what is said of a channel: an event has one, a gap may have many."""
    spans = []
    for frame in frames:
        said = message(frame)
        if said.get("channel") == name:
            spans.append((said["seq"], said["seq"]))
        elif said.get("of") == name:
            assert said["count"] == said["to"] - said["from"] + 1
            spans.append((said["from"], said["to"]))
    return spans


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 7, 11, 64, 100, ROOMY])
def test_whatever_happens_frames_are_whole_and_nothing_is_lost_or_comes_twice(at_once: int) -> None:
    for number in range(ROUNDS):
        seed = number * 1000 + at_once % 1000
        trio._core._run._r.seed(seed)  # Trio has no public way
        one = Round(seed, at_once)
        try:
            trio.run(one.run, clock=MockClock(autojump_threshold=0))
            one.check()
        except BaseException as error:
            error.add_note(f"seed {seed}, {at_once} bytes at once, {one.fate.__name__}")
            raise
