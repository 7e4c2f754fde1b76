"""Who is restarted when a child has ended, how often, and what becomes of its messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import (
    ActorGoneError,
    Mailbox,
    NoReplyError,
    Restart,
    RestartLimitError,
    Supervisor,
)
from tests.actors.stage import (
    Boom,
    Leave,
    Question,
    Riddle,
    Work,
    player,
    restarts,
    running,
    scripted,
    states,
)

# By policy


async def test_a_permanent_child_is_restarted_after_a_crash_and_after_it_merely_returned(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log)])
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        supervisor.ref("a").tell(Leave())
        await trio.sleep(1)
        assert restarts(supervisor) == {"a": 2}
    assert log == ["a starts", "a ends"] * 3


async def test_a_transient_child_is_restarted_after_a_crash_alone(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log, Restart.TRANSIENT)])
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        supervisor.ref("a").tell(Leave())
        await trio.sleep(1)
        assert restarts(supervisor) == {"a": 1}
        assert states(supervisor) == {"a": "ended"}
    assert log == ["a starts", "a ends"] * 2


async def test_a_temporary_child_is_never_restarted(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log, Restart.TEMPORARY), player("b", log)])
    async with running(supervisor):
        supervisor.ref("a").tell(Boom("once"))
        await trio.sleep(1)
        assert states(supervisor) == {"a": "ended", "b": "running"}
    assert log == ["a starts", "b starts", "a ends", "b ends"]
    assert [record.getMessage() for record in caplog.records] == ["test/a crashed: Boom: once"]


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
async def test_who_asks_a_child_that_has_ended_for_good_is_told(restart: Restart, autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test", [player("a", [], restart)])
    async with running(supervisor):
        supervisor.ref("a").tell(Leave())
        with pytest.raises(NoReplyError):
            await supervisor.ref("a").ask(Question)
        with pytest.raises(ActorGoneError):
            await supervisor.ref("a").ask(Question)


async def test_a_crash_does_not_touch_siblings(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log), player("b", log), player("c", log)])
    async with running(supervisor):
        supervisor.ref("b").tell(Boom())
        await trio.sleep(1)
        assert restarts(supervisor) == {"a": 0, "b": 1, "c": 0}
    assert log == ["a starts", "b starts", "c starts", "b ends", "b starts", "c ends", "b ends", "a ends"]


async def test_a_group_of_ordinary_errors_is_a_crash_like_another(autojump_clock: MockClock) -> None:
    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            async for message in mailbox:
                raise message

    supervisor = Supervisor("test", [scripted("a", life)])
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        await trio.sleep(1)
        assert restarts(supervisor) == {"a": 1}
        assert states(supervisor) == {"a": "running"}


# Messages


async def test_the_backlog_survives_a_restart_and_the_message_in_hand_is_lost(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log)])
    async with running(supervisor):
        for message in ("first", Boom("in hand"), "second", "third"):
            supervisor.ref("a").tell(message)
        await trio.sleep(1)
    assert log == ["a starts", "a: first", "a ends", "a starts", "a: second", "a: third", "a ends"]


async def test_messages_can_be_sent_while_a_child_is_being_restarted(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log)], backoff_s=1)
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"a": "restarting"}
        supervisor.ref("a").tell("hello")
        assert await supervisor.ref("a").ask(Question) == "a"
    assert log == ["a starts", "a ends", "a starts", "a: hello", "a ends"]


async def test_a_question_in_hand_is_lost_with_its_asker_told_and_one_in_the_backlog_is_answered(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    supervisor = Supervisor("test", [player("a", [])])
    refusals: list[NoReplyError] = []

    async def ask_riddle() -> None:
        with pytest.raises(NoReplyError) as caught:
            await supervisor.ref("a").ask(Riddle)
        refusals.append(caught.value)

    async with running(supervisor):
        nursery.start_soon(ask_riddle)
        await wait_all_tasks_blocked()
        supervisor.ref("a").tell(Boom())
        assert await supervisor.ref("a").ask(Question) == "a"
        assert len(refusals) == 1


# How often


@pytest.mark.parametrize("message", [Boom("again"), Leave()])
async def test_one_restart_too_many_raises_bare_with_the_last_error_as_its_cause(
    message: Boom | Leave, autojump_clock: MockClock
) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log)], max_restarts=2, period_s=10)
    for _ in range(3):
        supervisor.ref("a").tell(message)
    supervisor.ref("a").tell("never read")
    expected = "supervisor 'test' gives up: child 'a' needed more than 2 restarts within 10 s"
    with pytest.raises(RestartLimitError, match=expected) as caught:
        await supervisor.run()
    assert (caught.value.supervisor, caught.value.child) == ("test", "a")
    assert caught.value.__cause__ is (message if isinstance(message, Boom) else None)
    assert log == ["a starts", "a ends"] * 3


async def test_no_restart_is_borne_where_none_is_allowed() -> None:
    supervisor = Supervisor("test", [player("a", [])], max_restarts=0)
    supervisor.ref("a").tell(Boom())
    with pytest.raises(RestartLimitError):
        await supervisor.run()


async def test_restarts_are_counted_in_a_window_of_time(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test", [player("a", []), player("b", [])], max_restarts=2, period_s=10, backoff_s=0)
    failed = trio.Event()

    async def run() -> None:
        with pytest.raises(RestartLimitError):
            await supervisor.run()
        failed.set()

    async def crash(name: str) -> None:
        supervisor.ref(name).tell(Boom())
        await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        for _ in range(5):  # two within any ten seconds, of whichever child
            await crash("a")
            await trio.sleep(5)
            await crash("b")
            await trio.sleep(5)
        assert restarts(supervisor) == {"a": 5, "b": 5}
        await trio.sleep(4.999)
        await crash("a")
        assert not failed.is_set()
        await trio.sleep(5)
        await crash("a")
        assert not failed.is_set()
        await trio.sleep(4.999)
        await crash("b")
        assert failed.is_set()


async def test_a_restart_waits_for_the_pause(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test", [player("a", [])], backoff_s=3)
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        began = trio.current_time()
        await supervisor.ref("a").ask(Question)
        assert trio.current_time() - began == pytest.approx(3)


async def test_callers_of_the_child_given_up_are_told_before_its_siblings_have_stopped(
    autojump_clock: MockClock,
) -> None:
    """Else one that asks it while it reads its mailbox to the end would wait out its own deadline."""
    answers: list[str] = []

    async def asks_a(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        started()
        async for _ in mailbox:
            try:
                await supervisor.ref("a").ask(Question)
            except (ActorGoneError, NoReplyError) as error:
                answers.append(type(error).__name__)

    supervisor = Supervisor("test", [player("a", []), scripted("b", asks_a)], max_restarts=0)
    supervisor.ref("a").tell(Work(1))
    supervisor.ref("a").tell(Boom())
    supervisor.ref("b").tell("ask it while it is busy")
    supervisor.ref("b").tell("ask it again")
    began = trio.current_time()
    with pytest.raises(RestartLimitError):
        await supervisor.run()
    assert answers == ["NoReplyError", "ActorGoneError"]
    assert trio.current_time() - began == pytest.approx(1)


async def test_giving_up_says_how_many_messages_are_lost(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor("test", [player("a", [])], max_restarts=0)
    for message in (Boom("no"), "lost", "lost"):
        supervisor.ref("a").tell(message)
    with pytest.raises(RestartLimitError):
        await supervisor.run()
    assert [record.getMessage() for record in caplog.records] == [
        "test/a crashed: Boom: no",
        "test/a has ended with 2 messages unread",
    ]


async def test_each_crash_and_restart_is_logged_once_the_crash_with_its_traceback(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    boom = Boom("no")
    supervisor = Supervisor("test", [player("a", [])])
    async with running(supervisor):
        supervisor.ref("a").tell(boom)
        await trio.sleep(1)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "test/a crashed: Boom: no"),
        (logging.WARNING, "test restarts a"),
    ]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is boom
