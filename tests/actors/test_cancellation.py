"""A supervisor that is cancelled from outside: all ends at once, and no error on the way out gets lost or does harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import ActorGoneError, Mailbox, Restart, Supervisor
from tests.actors.stage import (
    Boom,
    Life,
    Work,
    never_starts,
    player,
    scripted,
    states,
)


async def cleans_up(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
    """Takes a second to end, whoever cancels it."""
    started()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)


def fails_in_cleanup(error: Exception) -> Life:
    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        started()
        try:
            await trio.sleep_forever()
        finally:
            raise error

    return life


def fails_in_part(error: Exception) -> Life:
    """Of its two tasks one fails as it is cancelled, which makes a group of an error and a cancellation."""

    async def part() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(part)
            nursery.start_soon(trio.sleep_forever)
            started()

    return life


async def test_a_cancelled_supervisor_ends_at_once_and_leaves_nothing_running(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log), player("b", log)])
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.spawn(player("c", log, Restart.TEMPORARY))
        for name in "abc":
            supervisor.ref(name).tell(Work())
        await wait_all_tasks_blocked()
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == began
    assert sorted(log[3:]) == ["a ends", "b ends", "c ends"]
    assert states(supervisor) == {"a": "ended", "b": "ended"}
    with pytest.raises(ActorGoneError):
        supervisor.ref("a").tell("anybody there?")


async def test_a_supervisor_cancelled_while_it_starts_leaves_nothing_running(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log), scripted("b", never_starts), player("c", log)])
    with trio.move_on_after(1):
        await supervisor.run()
    assert log == ["a starts", "a ends"]
    assert states(supervisor) == {"a": "ended", "b": "ended", "c": "ended"}


async def test_a_cancelled_supervisor_waits_for_the_cleanup_of_its_children(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test", [scripted("a", cleans_up), scripted("b", cleans_up)])
    began = trio.current_time()
    with trio.move_on_after(5):
        await supervisor.run()
    assert trio.current_time() - began == pytest.approx(5 + 1)
    assert states(supervisor) == {"a": "ended", "b": "ended"}
    with pytest.raises(ActorGoneError):
        supervisor.ref("a").tell("anybody there?")


@pytest.mark.parametrize("how", [fails_in_cleanup, fails_in_part])
async def test_an_error_of_a_cancelled_child_is_heard_and_touches_nobody(
    how: Callable[[Exception], Life], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor("test", [scripted("a", how(Boom("a")))])
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            supervisor.spawn(scripted("b", how(Boom("b")), restart=Restart.TEMPORARY))
    assert scope.cancelled_caught
    assert sorted(message.partition(":")[0] for message in caplog.messages) == ["test/a crashed", "test/b crashed"]


async def test_a_cancelled_child_of_several_tasks_ends_without_a_word(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    with trio.move_on_after(1):
        await Supervisor("test", [scripted("a", life)]).run()
    assert caplog.messages == []


async def test_what_is_no_ordinary_error_is_not_a_crash_but_ends_everything() -> None:
    log: list[str] = []

    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        started()
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    supervisor = Supervisor("test", [player("a", log), scripted("b", life)])
    with pytest.RaisesGroup(KeyboardInterrupt):
        await supervisor.run()
    assert log == ["a starts", "a ends"]
