"""Restarts that do not succeed, and what becomes of the others meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import (
    ChildSpec,
    Mailbox,
    Restart,
    RestartLimitError,
    StartTimeoutError,
    Supervisor,
)
from tests.actors.stage import (
    Boom,
    Leave,
    Player,
    Question,
    Scripted,
    fails,
    in_turn,
    never_starts,
    player,
    restarts,
    running,
    scripted,
)


async def test_an_error_of_the_factory_at_a_restart_is_the_very_error_shown(autojump_clock: MockClock) -> None:
    boom = Boom("of the factory")
    spec = ChildSpec("a", in_turn(lambda: Player("a", []), lambda: fails(boom)))
    supervisor = Supervisor("test", [spec], max_restarts=3)
    supervisor.ref("a").tell(Boom("of a message"))
    with pytest.raises(RestartLimitError) as caught:
        await supervisor.run()
    assert caught.value.__cause__ is boom
    assert restarts(supervisor) == {"a": 3}


async def test_an_error_before_started_at_a_restart_is_the_very_error_shown(autojump_clock: MockClock) -> None:
    boom = Boom("while starting")

    async def fails_to_start(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()
        raise boom

    spec = ChildSpec("a", in_turn(lambda: Player("a", []), lambda: Scripted(fails_to_start)))
    supervisor = Supervisor("test", [spec], max_restarts=1)
    supervisor.ref("a").tell(Leave())
    with pytest.raises(RestartLimitError) as caught:
        await supervisor.run()
    assert caught.value.__cause__ is boom


async def test_a_restart_that_fails_is_tried_again_and_the_backlog_waits(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    spec = ChildSpec(
        "a",
        in_turn(
            lambda: Player("a", log),
            lambda: fails(Boom("not yet")),
            lambda: Scripted(never_starts),
            lambda: Player("a", log),
        ),
        start_timeout_s=1,
    )
    supervisor = Supervisor("test", [spec])
    async with running(supervisor):
        supervisor.ref("a").tell(Boom("in hand"))
        supervisor.ref("a").tell("hello")
        await trio.sleep(3)
        assert restarts(supervisor) == {"a": 3}
    assert log == ["a starts", "a ends", "a starts", "a: hello", "a ends"]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "test/a crashed: Boom: in hand",
        "test/a crashed: Boom: not yet",
        "test/a crashed: StartTimeoutError: child 'a' did not call started() within 1 s",
    ]


async def test_a_transient_child_that_cannot_be_restarted_is_given_up_aloud(autojump_clock: MockClock) -> None:
    spec = ChildSpec(
        "a",
        in_turn(lambda: Player("a", []), lambda: Scripted(never_starts)),
        Restart.TRANSIENT,
        start_timeout_s=1,
    )
    supervisor = Supervisor("test", [spec], max_restarts=2)
    supervisor.ref("a").tell(Boom())
    with pytest.raises(RestartLimitError) as caught:
        await supervisor.run()
    assert isinstance(caught.value.__cause__, StartTimeoutError)


async def test_a_child_that_returns_before_started_at_a_restart_is_one_failure_not_two(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    async def returns(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()

    spec = ChildSpec("a", in_turn(lambda: Player("a", log), lambda: Scripted(returns), lambda: Player("a", log)))
    supervisor = Supervisor("test", [spec])
    async with running(supervisor):
        supervisor.ref("a").tell(Leave())
        await trio.sleep(2)
        assert restarts(supervisor) == {"a": 2}
    assert log == ["a starts", "a ends", "a starts", "a ends"]


async def test_a_child_that_outlives_its_start_deadline_and_then_starts_and_fails_is_restarted_once(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    async def starts_too_late(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        started()
        raise Boom("at last")

    spec = ChildSpec(
        "a",
        in_turn(lambda: Player("a", log), lambda: Scripted(starts_too_late), lambda: Player("a", log)),
        start_timeout_s=1,
    )
    supervisor = Supervisor("test", [spec])
    async with running(supervisor):
        supervisor.ref("a").tell(Leave())
        await trio.sleep(10)
        assert restarts(supervisor) == {"a": 2}
    assert log == ["a starts", "a ends", "a starts", "a ends"]


async def test_a_crash_right_after_started_is_no_failed_start(autojump_clock: MockClock) -> None:
    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()
        started()
        raise Boom

    supervisor = Supervisor("test", [scripted("a", life)], max_restarts=3)
    with pytest.raises(RestartLimitError) as caught:
        await supervisor.run()
    assert isinstance(caught.value.__cause__, Boom)
    assert restarts(supervisor) == {"a": 3}


async def test_a_child_that_crashes_while_others_are_still_starting_is_restarted_after_them(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    async def slow(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        await trio.sleep(2)
        log.append("b has started")
        started()
        await trio.sleep_forever()

    supervisor = Supervisor("test", [player("a", log), scripted("b", slow)])
    supervisor.ref("a").tell(Boom())
    async with running(supervisor):
        await trio.sleep(1)
        assert log == ["a starts", "a ends", "b has started", "a starts"]
        assert restarts(supervisor) == {"a": 1, "b": 0}


async def test_a_child_that_needs_a_crashed_sibling_to_start_does_not_keep_it_from_its_restart(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    async def asks_b_first(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        log.append(await supervisor.ref("b").ask(Question))
        started()
        async for _ in mailbox:
            pass

    children = [
        ChildSpec("a", in_turn(lambda: Player("a", []), lambda: Scripted(asks_b_first)), start_timeout_s=1),
        player("b", []),
    ]
    supervisor = Supervisor("test", children)
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        await wait_all_tasks_blocked()
        supervisor.ref("b").tell(Boom())
        await trio.sleep(5)
        assert restarts(supervisor) == {"a": 2, "b": 1}
    assert log == ["b"]
