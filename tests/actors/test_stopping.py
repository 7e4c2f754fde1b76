"""How a supervisor stops its children: in reverse order, each with its deadline, and nothing is left running."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import ActorGoneError, ChildSpec, Mailbox, NoReplyError, Restart, Strategy, Supervisor
from tests.actors.stage import (
    Boom,
    Leave,
    Player,
    Question,
    Scripted,
    Work,
    fails,
    in_turn,
    never_starts,
    player,
    restarts,
    running,
    scripted,
    states,
)


async def sleeps(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
    """Does not look at its mailbox, so it does not see that it is to stop."""
    started()
    await trio.sleep_forever()


async def cleans_up(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
    """Takes a second to end, whoever cancels it."""
    started()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)


async def test_children_stop_in_reverse_order_each_having_read_its_mailbox(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log), player("b", log), player("c", log)])
    async with running(supervisor):
        log.clear()
        for name, work_s in {"a": 1, "b": 2, "c": 3}.items():
            supervisor.ref(name).tell(Work(work_s))
            supervisor.ref(name).tell("the last")
    assert log == ["a: the last", "b: the last", "c: the last", "c ends", "b ends", "a ends"]
    assert states(supervisor) == {"a": "ended", "b": "ended", "c": "ended"}


async def test_a_child_can_ask_those_before_it_while_it_stops_and_not_those_after_it(
    autojump_clock: MockClock,
) -> None:
    answers: list[str] = []

    async def asks(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        started()
        async for name in mailbox:
            try:
                answers.append(await supervisor.ref(name).ask(Question))
            except ActorGoneError:
                answers.append(f"{name} is gone")

    supervisor = Supervisor("test", [player("a", []), scripted("b", asks), player("c", [])])
    async with running(supervisor):
        supervisor.ref("c").tell(Work(1))
        supervisor.stop()
        await trio.sleep(0.5)
        supervisor.ref("b").tell("a")
        supervisor.ref("b").tell("c")
    assert answers == ["a", "c is gone"]


async def test_each_child_has_its_own_deadline_and_is_cancelled_after_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    supervisor = Supervisor(
        "test",
        [
            player("a", log),
            scripted("b", sleeps, stop_timeout_s=2),
            scripted("c", sleeps, stop_timeout_s=3),
            player("d", log),
        ],
    )
    async with running(supervisor):
        supervisor.ref("a").tell(Work(4))
        supervisor.ref("d").tell(Work(4))
        began = trio.current_time()
    # d works four seconds, then c has three and b two; a has long been through with its work.
    assert trio.current_time() - began == pytest.approx(4 + 3 + 2)
    assert log == ["a starts", "d starts", "d ends", "a ends"]
    assert caplog.messages == [
        "test/c did not stop within 3 s, cancelled",
        "test/b did not stop within 2 s, cancelled",
    ]


async def test_a_child_that_takes_its_time_over_cancellation_is_waited_for(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test", [scripted("a", cleans_up, stop_timeout_s=2)])
    async with running(supervisor):
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(2 + 1)


async def test_what_a_cancelled_child_has_not_read_is_counted_and_its_askers_are_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor("test", [player("a", [], stop_timeout_s=1)])
    async with running(supervisor):
        supervisor.ref("a").tell(Work())
        supervisor.ref("a").tell("unread")
        supervisor.stop()
        await wait_all_tasks_blocked()
        with pytest.raises(ActorGoneError):
            await supervisor.ref("a").ask(Question)
    assert caplog.messages == [
        "test/a did not stop within 1 s, cancelled",
        "test/a has ended with 1 messages unread",
    ]


async def test_a_question_that_waits_behind_endless_work_is_given_up_at_the_deadline(
    autojump_clock: MockClock,
) -> None:
    supervisor = Supervisor("test", [player("a", [], stop_timeout_s=1)])
    times: list[float] = []

    async def ask() -> None:
        with pytest.raises(NoReplyError):
            await supervisor.ref("a").ask(Question)
        times.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery, running(supervisor):
        supervisor.ref("a").tell(Work())
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        began = trio.current_time()
    assert times == pytest.approx([1])


async def test_a_child_that_ended_before_does_not_disturb_the_stop(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor(
        "test", [player("a", log, Restart.TRANSIENT), player("b", log), player("c", log, Restart.TEMPORARY)]
    )
    async with running(supervisor):
        supervisor.ref("a").tell(Leave())
        supervisor.ref("c").tell(Boom())
        await wait_all_tasks_blocked()
        log.clear()
    assert log == ["b ends"]


async def test_a_crash_while_stopping_is_heard_and_nobody_is_restarted(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log), player("b", log)])
    async with running(supervisor):
        supervisor.ref("b").tell(Work(1))
        supervisor.ref("b").tell(Boom("of the one that is stopping"))
        supervisor.ref("a").tell(Boom("of the one whose turn has not come"))
        supervisor.stop()
    assert log == ["a starts", "b starts", "a ends", "b ends"]
    assert restarts(supervisor) == {"a": 0, "b": 0}
    assert caplog.messages == [
        "test/a crashed: Boom: of the one whose turn has not come",
        "test/b crashed: Boom: of the one that is stopping",
    ]


@pytest.mark.parametrize("crash_after_stop", [False, True])
async def test_callers_of_a_crashed_child_are_told_at_once_though_others_stop_before_it(
    crash_after_stop: bool, autojump_clock: MockClock
) -> None:
    times: list[float] = []

    async def asks_a(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        started()
        async for _ in mailbox:
            with pytest.raises(NoReplyError):
                await supervisor.ref("a").ask(Question)
            times.append(trio.current_time() - began)

    supervisor = Supervisor("test", [player("a", []), scripted("b", asks_a, stop_timeout_s=60)], backoff_s=30)
    async with running(supervisor):
        began = trio.current_time()
        if crash_after_stop:
            supervisor.ref("a").tell(Work(1))
        supervisor.ref("a").tell(Boom())
        if not crash_after_stop:
            await wait_all_tasks_blocked()
        supervisor.ref("b").tell("ask it")
        await wait_all_tasks_blocked()
        assert times == []
        supervisor.stop()
    assert times == pytest.approx([1 if crash_after_stop else 0])


async def test_a_stop_cuts_the_pause_before_a_restart_short(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log)], backoff_s=60)
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        await trio.sleep(1)
        began = trio.current_time()
    assert trio.current_time() == began
    assert log == ["a starts", "a ends"]


async def test_a_stop_cuts_a_restart_short(autojump_clock: MockClock) -> None:
    spec = ChildSpec("a", in_turn(lambda: Player("a", []), lambda: Scripted(never_starts)), start_timeout_s=60)
    supervisor = Supervisor("test", [spec])
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        await trio.sleep(1)
        assert states(supervisor) == {"a": "starting"}
        began = trio.current_time()
    assert trio.current_time() == began


async def test_a_child_that_fails_as_its_restart_is_cut_short_by_a_stop_is_heard_and_raises_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails_when_cancelled(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("in its cleanup")

    spec = ChildSpec("a", in_turn(lambda: Player("a", []), lambda: Scripted(fails_when_cancelled)))
    supervisor = Supervisor("test", [spec])
    async with running(supervisor):
        supervisor.ref("a").tell(Leave())
        await trio.sleep(1)
    assert "test/a crashed: Boom: in its cleanup" in caplog.messages


async def test_a_stop_while_siblings_are_cancelled_for_a_restart_waits_for_them_and_restarts_nobody(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []
    supervisor = Supervisor(
        "test",
        [player("a", log), player("b", log), scripted("c", cleans_up)],
        strategy=Strategy.REST_FOR_ONE,
        backoff_s=0,
    )
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        await trio.sleep(0.5)
        assert states(supervisor) == {"a": "restarting", "b": "running", "c": "restarting"}
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(0.5)
    assert log == ["a starts", "b starts", "a ends", "b ends"]


async def test_when_it_gives_up_it_stops_the_others_as_usual(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log), ChildSpec("b", lambda: fails(Boom()))])
    supervisor.ref("a").tell(Work(1))
    supervisor.ref("a").tell("the last")
    with pytest.raises(Boom):
        await supervisor.run()
    assert log == ["a starts", "a: the last", "a ends"]


async def test_a_stop_can_be_told_twice(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test", [player("a", [])])
    async with running(supervisor):
        supervisor.stop()
        supervisor.stop()


async def test_infinite_deadlines_are_allowed(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log, stop_timeout_s=math.inf, start_timeout_s=math.inf)])
    async with running(supervisor):
        supervisor.ref("a").tell(Work(3600))
    assert log == ["a starts", "a ends"]
