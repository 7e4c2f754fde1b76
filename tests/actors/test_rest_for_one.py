"""The strategy that restarts those that depend on the child that ended, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import (
    ActorGoneError,
    ChildSpec,
    Mailbox,
    Restart,
    Strategy,
    Supervisor,
)
from tests.actors.stage import (
    Boom,
    Leave,
    Player,
    Work,
    fails,
    in_turn,
    player,
    restarts,
    running,
    scripted,
    states,
)

BACKOFF_S = 0.5


def rest_for_one(*children: ChildSpec) -> Supervisor:
    return Supervisor("test", children, strategy=Strategy.REST_FOR_ONE, backoff_s=BACKOFF_S)


async def after_restart() -> None:
    await trio.sleep(2 * BACKOFF_S)


async def test_rest_for_one_restarts_the_child_and_those_after_it_in_order(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = rest_for_one(player("a", log), player("b", log), player("c", log), player("d", log))
    async with running(supervisor):
        log.clear()
        supervisor.ref("b").tell(Boom())
        await after_restart()
        assert log == ["b ends", "d ends", "c ends", "b starts", "c starts", "d starts"]
        assert restarts(supervisor) == {"a": 0, "b": 1, "c": 1, "d": 1}


async def test_rest_for_one_counts_one_restart_however_many_follow(autojump_clock: MockClock) -> None:
    supervisor = Supervisor(
        "test", [player(name, []) for name in "abcd"], strategy=Strategy.REST_FOR_ONE, max_restarts=1
    )
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        await trio.sleep(1)
        assert restarts(supervisor) == {"a": 1, "b": 1, "c": 1, "d": 1}


async def test_siblings_that_are_restarted_with_another_keep_their_mailboxes(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = rest_for_one(player("a", log), player("b", log))
    async with running(supervisor):
        log.clear()
        supervisor.ref("b").tell(Work())
        supervisor.ref("b").tell("hello")
        supervisor.ref("a").tell(Boom())
        await after_restart()
        assert log == ["a ends", "b ends", "a starts", "b starts", "b: hello"]


async def test_rest_for_one_leaves_ended_temporary_and_spawned_children_alone(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = rest_for_one(
        player("a", log),
        player("temporary", log, Restart.TEMPORARY),
        player("ended", log, Restart.TRANSIENT),
        player("transient", log, Restart.TRANSIENT),
    )
    async with running(supervisor):
        supervisor.spawn(player("spawned", log, Restart.TEMPORARY))
        supervisor.ref("ended").tell(Leave())
        await wait_all_tasks_blocked()
        log.clear()
        supervisor.ref("a").tell(Boom())
        await after_restart()
        assert log == ["a ends", "transient ends", "temporary ends", "a starts", "transient starts"]
        assert states(supervisor) == {
            "a": "running",
            "temporary": "ended",
            "ended": "ended",
            "transient": "running",
            "spawned": "running",
        }
        with pytest.raises(ActorGoneError):
            supervisor.ref("temporary").tell("anybody there?")


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_a_sibling_that_crashes_in_the_same_moment_has_one_incarnation_after_the_restart(
    order: str, autojump_clock: MockClock
) -> None:
    log: list[str] = []
    supervisor = rest_for_one(player("a", log), player("b", log))
    async with running(supervisor):
        log.clear()
        for name in order:
            supervisor.ref(name).tell(Boom())
            await wait_all_tasks_blocked()
        await trio.sleep(10)
        assert states(supervisor) == {"a": "running", "b": "running"}
        assert log.count("a starts") == 1
        assert log.count("b starts") - log.count("b ends") == 0
        assert log[-2:] == ["a starts", "b starts"]


async def test_a_child_that_crashes_while_those_after_it_are_being_restarted_is_restarted_next(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    async def slow(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        await trio.sleep(2)
        log.append("b starts")
        started()
        try:
            async for _ in mailbox:
                pass
        finally:
            log.append("b ends")

    supervisor = rest_for_one(player("a", log), scripted("b", slow), player("c", log))
    async with running(supervisor):
        log.clear()
        supervisor.ref("a").tell(Boom())
        await trio.sleep(BACKOFF_S + 1)
        assert states(supervisor) == {"a": "running", "b": "starting", "c": "restarting"}
        supervisor.ref("a").tell(Boom())
        await trio.sleep(10)
        assert log == [
            *("a ends", "c ends", "b ends", "a starts", "a ends", "b starts", "c starts"),
            *("c ends", "b ends", "a starts", "b starts", "c starts"),
        ]


async def test_a_sibling_that_cannot_be_restarted_is_tried_again_with_those_after_it_alone(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []
    flaky = ChildSpec("b", in_turn(lambda: Player("b", log), lambda: fails(Boom("not yet")), lambda: Player("b", log)))
    supervisor = rest_for_one(player("a", log), flaky, player("c", log))
    async with running(supervisor):
        log.clear()
        supervisor.ref("a").tell(Boom())
        await trio.sleep(10)
        assert log == ["a ends", "c ends", "b ends", "a starts", "b starts", "c starts"]
        assert restarts(supervisor) == {"a": 1, "b": 2, "c": 1}


async def test_a_sibling_that_fails_as_it_is_cancelled_for_a_restart_is_heard_and_restarted_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    lives: list[str] = []

    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        lives.append("b")
        started()
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("in its cleanup")

    supervisor = rest_for_one(player("a", []), scripted("b", life))
    async with running(supervisor):
        supervisor.ref("a").tell(Leave())
        await after_restart()
        assert restarts(supervisor) == {"a": 1, "b": 1}
        assert lives == ["b", "b"]
        assert "test/b crashed: Boom: in its cleanup" in caplog.messages
