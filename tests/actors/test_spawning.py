"""Temporary children: started without waiting, forgotten when they end, thousands of them."""

from __future__ import annotations

import gc
import logging
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from actors import ActorGoneError, ChildSpec, Mailbox, NoReplyError, Restart, Supervisor
from tests.actors.stage import (
    Boom,
    Leave,
    Player,
    Question,
    Scripted,
    Work,
    fails,
    never_starts,
    player,
    running,
    scripted,
    states,
)


def passer_by(name: str, log: list[str], **more: Any) -> ChildSpec:
    return player(name, log, Restart.TEMPORARY, **more)


async def test_a_spawned_child_is_not_waited_for_and_has_its_address_at_once() -> None:
    log: list[str] = []
    supervisor = Supervisor("test")
    async with running(supervisor):
        with assert_no_checkpoints():
            ref = supervisor.spawn(passer_by("a", log))
            ref.tell("hello")
        assert log == []
        assert supervisor.ref("a") is ref
        assert await ref.ask(Question) == "a"
        assert states(supervisor) == {"a": "running"}
    assert log == ["a starts", "a: hello", "a ends"]


async def test_a_spawned_child_that_never_says_that_it_has_started_lives_on(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test")
    async with running(supervisor):
        supervisor.spawn(scripted("a", never_starts, restart=Restart.TEMPORARY, start_timeout_s=1))
        await trio.sleep(3600)
        assert states(supervisor) == {"a": "starting"}


async def test_the_factory_of_a_spawned_child_can_have_its_address() -> None:
    log: list[str] = []

    def make() -> Player:
        supervisor.ref("a").tell("from the factory")
        return Player("a", log)

    supervisor = Supervisor("test")
    async with running(supervisor):
        supervisor.spawn(ChildSpec("a", make, Restart.TEMPORARY))
        await wait_all_tasks_blocked()
    assert log == ["a starts", "a: from the factory", "a ends"]


async def test_a_spawned_child_that_ends_is_forgotten_and_its_name_is_free() -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("static", log)])
    async with running(supervisor):
        log.clear()
        ref = supervisor.spawn(passer_by("a", log))
        assert len(supervisor) == 2
        ref.tell(Leave())
        await supervisor.wait_empty()
        assert len(supervisor) == 1
        assert states(supervisor) == {"static": "running"}
        with pytest.raises(LookupError):
            supervisor.ref("a")
        with pytest.raises(ActorGoneError):
            ref.tell("anybody there?")
        supervisor.spawn(passer_by("a", log)).tell(Leave())
        await supervisor.wait_empty()
    assert log == ["a starts", "a ends", "a starts", "a ends", "static ends"]


@pytest.mark.parametrize("end", [Leave(), Boom("no")])
async def test_nothing_keeps_what_has_ended(end: Boom | Leave, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        logging.getLogger("actors.child"), "disabled", True
    )  # pytest keeps every record, with its error
    actors: list[weakref.ref[Player]] = []

    def make() -> Player:
        actor = Player("a", [])
        actors.append(weakref.ref(actor))
        return actor

    supervisor = Supervisor("test")
    async with running(supervisor):
        for _ in range(3):
            supervisor.spawn(ChildSpec("a", make, Restart.TEMPORARY)).tell(end)
            await supervisor.wait_empty()
        if isinstance(end, Boom):
            end.__traceback__ = None
        gc.collect()
        assert [actor() for actor in actors] == [None, None, None]


async def test_a_spawned_childs_crash_is_heard_and_touches_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("static", log)], max_restarts=0)
    async with running(supervisor):
        supervisor.spawn(passer_by("other", log))
        supervisor.spawn(passer_by("a", log)).tell(Boom("in run"))
        await wait_all_tasks_blocked()
        supervisor.spawn(ChildSpec("b", lambda: fails(Boom("in the factory")), Restart.TEMPORARY))
        await trio.sleep(60)
        assert states(supervisor) == {"static": "running", "other": "running"}
    assert caplog.messages == ["test/a crashed: Boom: in run", "test/b crashed: Boom: in the factory"]


async def test_who_asks_a_spawned_child_is_told_when_it_ends(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test")
    async with running(supervisor):
        ref = supervisor.spawn(passer_by("a", []))
        ref.tell(Leave())
        with pytest.raises(NoReplyError):
            await ref.ask(Question)
        with pytest.raises(ActorGoneError):
            await ref.ask(Question)


async def test_what_a_spawned_child_leaves_unread_is_nobodys_affair(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor("test")
    async with running(supervisor):
        ref = supervisor.spawn(passer_by("a", []))
        ref.tell(Leave())
        ref.tell("unread")
    assert caplog.messages == []


# When it is refused


async def test_only_temporary_children_can_be_spawned() -> None:
    supervisor = Supervisor("test")
    async with running(supervisor):
        with pytest.raises(ValueError, match="'a': only temporary children can be spawned"):
            supervisor.spawn(player("a", []))


async def test_a_name_that_is_taken_cannot_be_spawned() -> None:
    supervisor = Supervisor("test", [player("static", [])])
    async with running(supervisor):
        supervisor.spawn(passer_by("a", []))
        for name in ("static", "a"):
            with pytest.raises(ValueError, match=f"has a child '{name}' already"):
                supervisor.spawn(passer_by(name, []))


async def test_a_supervisor_that_does_not_run_spawns_nothing() -> None:
    supervisor = Supervisor("test")
    with pytest.raises(ActorGoneError, match="'test'"):
        supervisor.spawn(passer_by("a", []))
    async with running(supervisor):
        pass
    with pytest.raises(ActorGoneError, match="'test'"):
        supervisor.spawn(passer_by("a", []))


async def test_nothing_is_spawned_once_the_supervisor_was_told_to_stop(autojump_clock: MockClock) -> None:
    log: list[str] = []
    supervisor = Supervisor("test")
    async with running(supervisor):
        supervisor.spawn(passer_by("a", log)).tell(Work(1))
        await wait_all_tasks_blocked()
        supervisor.stop()
        with pytest.raises(ActorGoneError):
            supervisor.spawn(passer_by("b", log))
        await trio.sleep(0.5)
        with pytest.raises(ActorGoneError):
            supervisor.spawn(passer_by("b", log))
    assert log == ["a starts", "a ends"]


async def test_a_supervisor_that_gives_up_spawns_nothing_more(autojump_clock: MockClock) -> None:
    refused: list[str] = []

    async def spawns_at_its_end(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        started()
        async for _ in mailbox:
            pass
        with pytest.raises(ActorGoneError):
            supervisor.spawn(passer_by("b", []))
        refused.append("b")

    supervisor = Supervisor("test", [scripted("a", spawns_at_its_end), ChildSpec("c", lambda: fails(Boom()))])
    with pytest.raises(Boom):
        await supervisor.run()
    assert refused == ["b"]


# Stopping them


async def test_a_child_spawned_in_the_moment_of_the_stop_still_lives_and_ends(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What its factory was given, a socket perhaps, would be nobody's otherwise."""
    log: list[str] = []
    supervisor = Supervisor("test")
    async with running(supervisor):
        ref = supervisor.spawn(passer_by("a", log))
        ref.tell("hello")
        ref.tell(Work(1))
        supervisor.stop()
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"a": "stopping"}
    assert log == ["a starts", "a: hello", "a ends"]
    assert caplog.messages == []


async def test_spawned_children_stop_first_and_without_waiting_for_one_another(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("static", log)])
    async with running(supervisor):
        for name, stop_timeout_s in {"a": 3, "b": 1, "c": 2}.items():
            supervisor.spawn(passer_by(name, log, stop_timeout_s=stop_timeout_s)).tell(Work())
        supervisor.spawn(passer_by("d", log)).tell(Work(0.5))
        await wait_all_tasks_blocked()
        log.clear()
        began = trio.current_time()
    assert log == ["d ends", "b ends", "c ends", "a ends", "static ends"]
    assert trio.current_time() - began == pytest.approx(3)
    assert caplog.messages == [
        "test/b did not stop within 1 s, cancelled",
        "test/c did not stop within 2 s, cancelled",
        "test/a did not stop within 3 s, cancelled",
    ]


async def test_a_thousand_stuck_children_take_one_deadline_not_a_thousand(autojump_clock: MockClock) -> None:
    ended: list[str] = []
    supervisor = Supervisor("test")
    async with running(supervisor):
        for number in range(1000):
            supervisor.spawn(passer_by(f"child-{number}", ended, stop_timeout_s=5)).tell(Work())
        await wait_all_tasks_blocked()
        ended.clear()
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(5)
    assert len(ended) == 1000
    assert len(supervisor) == 0


async def test_a_child_is_light() -> None:
    """Each connection is one, so what a child costs beside its actor is to stay small, Trio's task included."""
    count = 200

    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        async for _ in mailbox:
            pass

    actor = Scripted(life)
    supervisor = Supervisor("test")

    async def spawn_all(prefix: str) -> None:
        for number in range(count):
            supervisor.spawn(ChildSpec(f"{prefix}-{number}", lambda: actor, Restart.TEMPORARY))
        await wait_all_tasks_blocked()

    async with running(supervisor):
        await spawn_all("first")  # whatever is made once is made by these
        gc.collect()
        tracemalloc.start()
        try:
            await spawn_all("second")
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert used / count < 10_000


# Waiting for their end


async def test_everyone_who_waits_for_the_last_child_is_woken(nursery: trio.Nursery) -> None:
    woken: list[int] = []
    supervisor = Supervisor("test", [player("static", [])])

    async def wait(number: int) -> None:
        await supervisor.wait_empty()
        woken.append(number)

    async with running(supervisor):
        first, second = supervisor.spawn(passer_by("a", [])), supervisor.spawn(passer_by("b", []))
        for number in range(3):
            nursery.start_soon(wait, number)
        await wait_all_tasks_blocked()
        first.tell(Leave())
        await wait_all_tasks_blocked()
        assert woken == []
        second.tell(Leave())
        await wait_all_tasks_blocked()
        assert sorted(woken) == [0, 1, 2]


async def test_who_waits_for_the_last_child_waits_for_one_that_came_in_between(nursery: trio.Nursery) -> None:
    woken: list[str] = []
    supervisor = Supervisor("test")

    class Successor(trio.abc.Instrument):
        """Spawns b in the step in which a ends: the waiter has been woken, and has not run yet."""

        def task_exited(self, task: trio.lowlevel.Task) -> None:
            if task.name == "test/a":
                supervisor.spawn(passer_by("b", []))

    async def wait() -> None:
        await supervisor.wait_empty()
        woken.append("it is empty")

    async with running(supervisor):
        first = supervisor.spawn(passer_by("a", []))
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(Successor())
        first.tell(Leave())
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"b": "running"}
        assert woken == []
        supervisor.ref("b").tell(Leave())
        await wait_all_tasks_blocked()
        assert woken == ["it is empty"]


async def test_where_there_is_no_child_nobody_waits_but_cancellation_is_seen() -> None:
    supervisor = Supervisor("test", [player("static", [])])
    await supervisor.wait_empty()
    with trio.CancelScope() as scope:
        scope.cancel()
        await supervisor.wait_empty()
    assert scope.cancelled_caught


async def test_a_wait_for_the_last_child_can_be_cancelled(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test")
    async with running(supervisor):
        supervisor.spawn(passer_by("a", []))
        with trio.move_on_after(1) as scope:
            await supervisor.wait_empty()
        assert scope.cancelled_caught
        supervisor.ref("a").tell(Leave())
        await supervisor.wait_empty()
