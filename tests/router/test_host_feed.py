"""The host's queue and its feed: bounds, order, batches, waking, going down and crashes, from many threads."""

import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import structlog
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from trio.testing import MockClock

from actors import ActorRef, ChildSpec, Mailbox
from router.channels import Channels
from router.config import Config
from router.feeds.host import LETTER_BYTES, LETTER_EVENTS, HostFeed, HostQueue, RouterClosedError
from router.letters import Events, HostEvents, Message, SendTo
from router.protocol import EventIn
from tests.router.harness import World, events, running, seqs

DEADLINE_S = 30


def event(number: int = 0) -> EventIn:
    return EventIn("x", Raw(b'{"n":%d}' % number))


def put(queue: HostQueue, number: int = 0, channel: str = "signals", size: int = 10) -> bool:
    return queue.put(channel, event(number), size)


def send_to_all(queue: HostQueue, number: int, size: int = 10) -> bool:
    return queue.put(None, SendTo("x", b'{"n":%d}' % number), size)


def number_of(taken: Any) -> int:
    return int(bytes(taken.data).removeprefix(b'{"n":').removesuffix(b"}"))


def items_of(letter: HostEvents) -> list[tuple[str | None, list[int]]]:
    """Each item's channel and the numbers of its events."""
    return [
        (None, [number_of(item)]) if isinstance(item, SendTo) else (item.channel, [*map(number_of, item.events)])
        for item in letter.items
    ]


def opened(**limits: Any) -> HostQueue:
    """A queue that takes events, within a Trio run."""
    queue = HostQueue(Config(**limits))
    queue.open(Channels())
    return queue


async def drained(queue: HostQueue) -> list[HostEvents]:
    """The letters that the feed would send now."""
    letters = []
    with trio.fail_after(DEADLINE_S):
        while len(queue):
            await queue.wait()
            letter = queue.letter()
            letters.append(HostEvents([item for run in letter for item in run.items()]))
            queue.forget(letter)
    return letters


# Bounds


async def test_the_bound_in_events_is_exact() -> None:
    queue = opened(host_queue_events=3)
    assert [put(queue, n) for n in range(5)] == [True, True, True, False, False]
    assert (len(queue), queue.dropped) == (3, 2)
    assert [items_of(letter) for letter in await drained(queue)] == [[("signals", [0, 1, 2])]]
    assert put(queue)
    assert queue.dropped == 2


async def test_the_bound_in_bytes_is_exact() -> None:
    queue = opened(host_queue_bytes=100)
    assert put(queue, size=60)
    assert put(queue, size=40)
    assert not put(queue, size=1)
    assert put(queue, size=0)
    assert len(await drained(queue)) == 1
    assert put(queue, size=100)


async def test_what_the_router_has_not_taken_yet_counts() -> None:
    queue = opened(host_queue_events=2)
    put(queue)
    put(queue)
    await queue.wait()
    letter = queue.letter()
    assert not put(queue)
    assert len(queue) == 2
    queue.forget(letter)
    assert put(queue)


# Letters


async def test_events_of_one_channel_make_a_run_and_order_is_kept() -> None:
    queue = opened()
    for number, channel in enumerate(["signals", "signals", "logs", "signals"]):
        put(queue, number, channel)
    send_to_all(queue, 4)
    send_to_all(queue, 5)
    put(queue, 6)
    (letter,) = await drained(queue)
    assert items_of(letter) == [
        ("signals", [0, 1]), ("logs", [2]), ("signals", [3]), (None, [4]), (None, [5]), ("signals", [6]),
    ]  # fmt: skip


async def test_a_letter_holds_no_more_events_than_it_may() -> None:
    queue = opened()
    for number in range(2 * LETTER_EVENTS + 1):
        put(queue, number, size=0)
    letters = await drained(queue)
    assert [len(items_of(letter)[0][1]) for letter in letters] == [LETTER_EVENTS, LETTER_EVENTS, 1]


async def test_a_letter_of_many_channels_holds_no_more_events_than_it_may() -> None:
    queue = opened()
    for number in range(LETTER_EVENTS + 1):
        put(queue, number, "signals" if number % 2 else "logs", size=0)
    assert [len(items_of(letter)) for letter in await drained(queue)] == [LETTER_EVENTS, 1]


async def test_a_letter_holds_no_more_bytes_than_it_may_but_for_a_single_event() -> None:
    queue = opened()
    half = LETTER_BYTES // 2
    for number, size in enumerate([half, half, 1, LETTER_BYTES + 1, 1]):
        put(queue, number, size=size)
    send_to_all(queue, 5, size=LETTER_BYTES)
    letters = await drained(queue)
    assert [items_of(letter) for letter in letters] == [
        [("signals", [0, 1])], [("signals", [2])], [("signals", [3])], [("signals", [4])], [(None, [5])],
    ]  # fmt: skip


# Open and closed


async def test_it_takes_nothing_before_it_is_open_and_after_it_is_closed() -> None:
    queue = HostQueue(Config())
    with pytest.raises(RouterClosedError, match="has not started yet: enter its context"):
        put(queue)
    queue.open(Channels())
    assert put(queue, 1)
    queue.close("it is over")
    with pytest.raises(RouterClosedError, match="it is over"):
        put(queue, 2)
    queue.open(Channels())
    with pytest.raises(RouterClosedError, match="it is over"):
        queue.check_open()
    assert queue.dropped == 0
    assert [items_of(letter) for letter in await drained(queue)] == [[("signals", [1])]]


def test_an_event_that_was_taken_as_the_loop_ended_harms_nobody() -> None:
    """The loop has ended between the two halves of a `put`: who closes the queue sees to the event."""
    queue = HostQueue(Config())

    async def main() -> None:
        queue.open(Channels())
        with trio.move_on_after(0):
            await queue.wait()  # asleep: the next event wakes it

    trio.run(main)
    assert put(queue)
    assert len(queue) == 1


def test_a_loop_is_woken_once_for_many_events() -> None:
    woken = []

    async def main() -> None:
        queue = opened()
        token = trio.lowlevel.current_trio_token()

        class Token:
            def run_sync_soon(self, function: Callable[[], object]) -> None:
                woken.append(function)
                token.run_sync_soon(function)

        queue._token = Token()  # type: ignore[assignment]
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(queue.wait)
                await trio.testing.wait_all_tasks_blocked()
                for number in range(100):
                    put(queue, number)
        for number in range(100):
            put(queue, number)  # it is awake
        await drained(queue)

    trio.run(main)
    assert len(woken) == 1


async def test_a_wake_up_that_comes_late_is_borne() -> None:
    queue = opened()
    with trio.move_on_after(0):
        await queue.wait()
    put(queue)
    await queue.wait()
    queue.forget(queue.letter())
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.wait)
            await trio.testing.wait_all_tasks_blocked()  # by now it has come, for nothing
            put(queue)


# From within


async def test_a_signal_handler_may_broadcast_amid_a_broadcast() -> None:
    queue = opened()

    class Amid(int):
        """A size whose every sum is interrupted by a signal, in the middle of `put`."""

        def __radd__(self, other: int) -> int:
            signal.raise_signal(signal.SIGUSR1)
            return other + int(self)

    taken: list[bool] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: taken.append(put(queue, 2)))
    try:
        taken.append(put(queue, 1, size=Amid(10)))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(taken) > 2
    assert all(taken)
    assert len(queue) == len(taken)
    (letter,) = await drained(queue)
    ((_, numbers),) = items_of(letter)
    assert sorted(numbers) == [1] + [2] * (len(taken) - 1)
    assert queue._bytes == 0


# The feed


def feed(queue: HostQueue) -> Callable[[World], Sequence[ChildSpec]]:
    def feeds(world: World) -> Sequence[ChildSpec]:
        return [ChildSpec("host", lambda: HostFeed(queue, world.state.channels, world.router))]

    return feeds


async def test_what_the_host_says_is_fanned_out(autojump_clock: MockClock) -> None:
    queue = HostQueue(Config())
    async with running(feeds=feed(queue)) as world:
        client = await world.subscriber("signals")
        other = await world.subscriber("logs")
        for number in range(3):
            put(queue, number)
        send_to_all(queue, 3)
        queue.put(None, SendTo("x", b'{"n":4}', client_id=other.client_id), 10)
        got = [await client.expect(None) for _ in range(4)]
        assert [message["data"]["n"] for message in events(got, "signals")] == [0, 1, 2]
        assert seqs(got) == [1, 2, 3]
        (to_all,) = events(got, "global")
        assert to_all["data"] == {"n": 3}
        assert "seq" not in to_all
        got = [await other.expect(None) for _ in range(2)]
        assert [(message["channel"], message["data"]["n"]) for message in got] == [("global", 3), ("personal", 4)]
        await world.settle()
        assert len(queue) == 0


async def test_while_the_router_is_busy_the_queue_fills(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(router_mailbox=1, host_queue_events=5)
    queue = HostQueue(config)
    async with running(config, feeds=feed(queue)) as world:
        client = await world.subscriber("signals")
        gate = await world.hold(monkeypatch)
        taken = 0
        for number in range(20):
            taken += put(queue, number)
            await world.settle()  # the feed hands over what the mailbox has room for
        assert taken == 6, "one in the mailbox, five in the queue"
        assert queue.dropped == 14
        gate.set()
        numbers = [(await client.expect(None))["data"]["n"] for _ in range(6)]
        assert numbers == [*range(6)]
        await world.settle()
        assert put(queue, 99)
        await client.expect(None, data={"n": 99})


async def test_a_feed_that_crashes_loses_and_repeats_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = HostQueue(Config())
    send = ActorRef.send

    async def fail_once(self: ActorRef[Message], message: Message) -> None:
        if not isinstance(message, HostEvents):
            return await send(self, message)
        monkeypatch.setattr(ActorRef, "send", send)
        raise RuntimeError("poisoned")

    async with running(feeds=feed(queue)) as world:
        client = await world.subscriber("signals")
        monkeypatch.setattr(ActorRef, "send", fail_once)
        put(queue, 1)
        await world.settle()
        put(queue, 2)
        assert [(await client.expect(None))["data"]["n"] for _ in range(2)] == [1, 2]
        await world.settle()
        assert client.take() == []


async def test_stopped_in_order_the_feed_has_handed_everything_over(autojump_clock: MockClock) -> None:
    queue = HostQueue(Config())
    async with running(feeds=feed(queue)) as world:
        client = await world.subscriber("signals")
        world.services.ref("host").tell(None)  # of no meaning to it
        for number in range(3 * LETTER_EVENTS):
            put(queue, number)
        queue.close("the router is going down")
        with trio.fail_after(DEADLINE_S):
            await queue.wait_empty()
            await queue.wait_empty()
        world.services.stop()
        await world.settle()
        assert [event["data"]["n"] for event in events(client.take())] == [*range(3 * LETTER_EVENTS)]


async def test_a_feed_that_must_go_with_events_in_the_queue_says_so(
    autojump_clock: MockClock,
) -> None:
    queue = opened()
    send, receive = trio.open_memory_channel[Message](0)
    mail, mailbox = trio.open_memory_channel[None](0)
    router = ActorRef("router", send)
    with structlog.testing.capture_logs() as logged, receive:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(HostFeed(queue, Channels(), router).run, Mailbox(mailbox)))
            put(queue)
            await trio.testing.wait_all_tasks_blocked()
            mail.close()
    assert [record["events"] for record in logged] == [1]


# Threads


@settings(deadline=None, max_examples=60)
@given(
    plans=st.lists(
        st.lists(st.tuples(st.sampled_from(["signals", "logs", ""]), st.integers(0, 60)), max_size=40),
        min_size=1, max_size=4,
    ),
    events_bound=st.integers(1, 30),
    bytes_bound=st.integers(60, 400),
    pauses=st.lists(st.booleans(), max_size=20),
)  # fmt: skip
def test_from_any_threads_nothing_is_lost_unless_it_was_refused_and_each_thread_keeps_its_order(
    plans: list[list[tuple[str, int]]], events_bound: int, bytes_bound: int, pauses: list[bool]
) -> None:
    queue = HostQueue(Config(host_queue_events=events_bound, host_queue_bytes=bytes_bound))
    taken: dict[int, list[int]] = {number: [] for number in range(len(plans))}
    refused = [0] * len(plans)
    got: dict[int, list[int]] = defaultdict(list)
    start = threading.Barrier(len(plans))

    def produce(thread: int) -> None:
        start.wait(DEADLINE_S)
        for step, (channel, size) in enumerate(plans[thread]):
            number = thread * 1000 + step
            if put(queue, number, channel, size) if channel else send_to_all(queue, number, size):
                taken[thread].append(number)
            else:
                refused[thread] += 1

    async def consume() -> None:
        turn = iter(pauses)
        while True:
            await queue.wait()
            assert 0 < len(queue) <= events_bound
            assert 0 <= queue._bytes <= bytes_bound
            letter = queue.letter()
            if next(turn, False):
                await trio.lowlevel.checkpoint()
            for run in letter:
                for item in run.items():
                    for each in item.events if isinstance(item, Events) else [item]:
                        got[number_of(each) // 1000].append(number_of(each))
            queue.forget(letter)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        queue.open(Channels())
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(consume)
                async with trio.open_nursery() as producing:
                    for thread in range(len(plans)):
                        producing.start_soon(trio.to_thread.run_sync, produce, thread)
                queue.close("over")
                await queue.wait_empty()
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert dict(got) == {thread: numbers for thread, numbers in taken.items() if numbers}
    assert queue.dropped == sum(refused)
    assert queue._bytes == 0


async def test_a_thread_that_is_held_up_amid_a_put_lets_no_other_past_the_bound() -> None:
    queue = opened(host_queue_events=3)

    class Slow(int):
        """A size whose sums take so long that another thread gets its turn."""

        def __radd__(self, other: int) -> int:
            time.sleep(0.005)
            return other + int(self)

    taken: list[bool] = []
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(
                    trio.to_thread.run_sync, lambda: taken.append(queue.put("signals", event(), Slow(10)))
                )
    assert sorted(taken) == [False] * 5 + [True] * 3
    assert (len(queue), queue.dropped, queue._bytes) == (3, 5, 30)


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often_switched")
async def test_a_queue_closed_amid_many_threads_hands_over_exactly_what_it_took() -> None:
    queue = opened(host_queue_events=100)
    taken: list[set[int]] = [set() for _ in range(8)]
    ended = []

    def produce(thread: int) -> None:
        number = thread
        try:
            while True:
                if put(queue, number):
                    taken[thread].add(number)
                number += 8
        except RouterClosedError:
            ended.append(thread)

    got: list[int] = []
    async with trio.open_nursery() as nursery:
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as producing:
                for thread in range(8):
                    producing.start_soon(trio.to_thread.run_sync, produce, thread)
                while len(got) < 1000:
                    await queue.wait()
                    letter = queue.letter()
                    got += [number_of(each) for run in letter for each in run.events]
                    queue.forget(letter)
                    await trio.lowlevel.checkpoint()
                queue.close("over")
            for letter_ in await drained(queue):
                got += [number for _, numbers in items_of(letter_) for number in numbers]
        nursery.cancel_scope.cancel()
    assert sorted(ended) == [*range(8)]
    assert sorted(got) == sorted(set.union(*taken))
