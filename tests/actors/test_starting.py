"""How a supervisor starts, and what becomes of a start that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import ActorGoneError, ChildSpec, Mailbox, Restart, StartTimeoutError, Supervisor
from tests.actors.stage import Boom, Player, fails, never_starts, player, running, scripted, states


async def test_children_start_in_order_each_once_the_one_before_has_started(autojump_clock: trio.abc.Clock) -> None:
    times: dict[str, float] = {}
    began = trio.current_time()

    def slow(name: str) -> ChildSpec:
        async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
            times[name] = trio.current_time() - began
            await trio.sleep(2)
            started()
            async for _ in mailbox:
                pass

        return scripted(name, life)

    supervisor = Supervisor("test", [slow("a"), slow("b"), slow("c")])
    async with running(supervisor):
        assert trio.current_time() - began == pytest.approx(6)
        assert states(supervisor) == {"a": "running", "b": "running", "c": "running"}
    assert times == pytest.approx({"a": 0, "b": 2, "c": 4})


async def test_while_it_starts_a_child_is_seen_to_start(nursery: trio.Nursery) -> None:
    supervisor = Supervisor("test", [scripted("a", never_starts)])
    nursery.start_soon(supervisor.run)
    await trio.testing.wait_all_tasks_blocked()
    assert states(supervisor) == {"a": "starting"}


async def test_children_can_be_given_one_anothers_addresses_and_messages_before_they_run() -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log), player("b", log)])
    supervisor.ref("b").tell("hello")
    async with running(supervisor):
        pass
    assert log == ["a starts", "b starts", "b: hello", "b ends", "a ends"]


async def test_an_error_of_the_factory_at_the_first_start_is_the_very_error_shown() -> None:
    boom, log = Boom("no"), list[str]()
    supervisor = Supervisor(
        "test", [player("a", log), ChildSpec("b", lambda: fails(boom)), player("c", log)], backoff_s=0
    )
    with pytest.raises(Boom) as caught:
        await supervisor.run()
    assert caught.value is boom
    assert caught.value.__cause__ is None
    assert log == ["a starts", "a ends"]


async def test_an_error_before_started_at_the_first_start_is_the_very_error_shown() -> None:
    boom, log = Boom("no"), list[str]()

    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()
        raise boom

    supervisor = Supervisor("test", [player("a", log), scripted("b", life)])
    with pytest.raises(Boom) as caught:
        await supervisor.run()
    assert caught.value is boom
    assert log == ["a starts", "a ends"]


async def test_after_a_failed_start_callers_of_every_child_are_told() -> None:
    supervisor = Supervisor(
        "test", [player("a", []), ChildSpec("b", lambda: fails(Boom())), player("c", [])], backoff_s=0
    )
    with pytest.raises(Boom):
        await supervisor.run()
    for name in "abc":
        with pytest.raises(ActorGoneError):
            supervisor.ref(name).tell("anybody there?")
    assert states(supervisor) == {"a": "ended", "b": "ended", "c": "ended"}


async def test_a_child_that_never_calls_started_fails_by_its_deadline_and_is_cancelled(
    autojump_clock: trio.abc.Clock,
) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log), scripted("b", never_starts, start_timeout_s=3)])
    began = trio.current_time()
    with pytest.raises(StartTimeoutError, match=r"child 'b' did not call started\(\) within 3 s") as caught:
        await supervisor.run()
    assert (caught.value.child, caught.value.timeout_s) == ("b", 3)
    assert trio.current_time() - began == pytest.approx(3)
    assert log == ["a starts", "a ends"]


async def test_a_child_that_returns_before_it_has_started_has_not_started() -> None:
    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()

    supervisor = Supervisor("test", [scripted("a", life)])
    with pytest.raises(RuntimeError, match=r"without calling task_status\.started"):
        await supervisor.run()


async def test_a_supervisor_told_to_stop_while_it_starts_lets_its_starter_go_and_begins_nothing_more(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    log: list[str] = []

    async def stops_it(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        supervisor.stop()
        await trio.sleep_forever()

    supervisor = Supervisor("test", [player("a", log), scripted("b", stops_it), player("c", log)])
    began = trio.current_time()
    await nursery.start(supervisor.run)
    await trio.testing.wait_all_tasks_blocked()
    assert states(supervisor) == {"a": "ended", "b": "ended", "c": "ended"}
    assert trio.current_time() == began
    assert log == ["a starts", "a ends"]


async def test_a_child_that_stops_its_supervisor_as_it_starts_is_the_last_to_start() -> None:
    log: list[str] = []

    async def stops_it(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        supervisor.stop()
        started()
        await trio.sleep_forever()

    supervisor = Supervisor("test", [scripted("a", stops_it), player("b", log)])
    await supervisor.run()
    assert log == []


async def test_a_supervisor_told_to_stop_before_it_runs_starts_nothing(nursery: trio.Nursery) -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log)])
    supervisor.stop()
    await nursery.start(supervisor.run)
    await trio.testing.wait_all_tasks_blocked()
    assert log == []
    with pytest.raises(ActorGoneError):
        supervisor.ref("a").tell("anybody there?")


async def test_a_supervisor_runs_once() -> None:
    log: list[str] = []
    supervisor = Supervisor("test", [player("a", log)])
    async with running(supervisor):
        with pytest.raises(RuntimeError, match="'test' has run before"):
            await supervisor.run()
        assert states(supervisor) == {"a": "running"}
    with pytest.raises(RuntimeError, match="'test' has run before"):
        await supervisor.run()
    assert log == ["a starts", "a ends"]


async def test_a_child_task_has_the_names_of_its_supervisor_and_its_own() -> None:
    names: list[str] = []

    async def life(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
        names.append(trio.lowlevel.current_task().name)
        started()
        await trio.lowlevel.checkpoint()

    supervisor = Supervisor("test", [scripted("a", life, restart=Restart.TRANSIENT)])
    async with running(supervisor):
        supervisor.spawn(scripted("b", life, restart=Restart.TEMPORARY))
        await supervisor.wait_empty()
    assert names == ["test/a", "test/b"]


def test_two_children_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="supervisor 'test' has a child 'a' already"):
        Supervisor("test", [player("a", []), player("a", [])])


def test_an_unknown_child_is_named_and_so_are_those_there_are() -> None:
    with pytest.raises(LookupError, match="supervisor 'test' has no child 'c'; its own are: a, b"):
        Supervisor("test", [player("a", []), player("b", [])]).ref("c")
    with pytest.raises(LookupError, match="its own are: none"):
        Supervisor("test").ref("c")


async def test_each_start_has_a_fresh_actor() -> None:
    made: list[Player] = []

    def make() -> Player:
        made.append(Player("a", []))
        return made[-1]

    supervisor = Supervisor("test", [ChildSpec("a", make)], backoff_s=0)
    async with running(supervisor):
        supervisor.ref("a").tell(Boom())
        await trio.testing.wait_all_tasks_blocked()
    assert len(made) == 2
    assert made[0] is not made[1]
