"""A supervisor as a child of another."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import ActorGoneError, ChildSpec, NoReplyError, Restart, RestartLimitError, Supervisor
from tests.actors.stage import Boom, Leave, Player, Question, Work, fails, in_turn, player, restarts, running


def nested(make: Callable[[], Supervisor], made: list[Supervisor], **more: float) -> ChildSpec:
    """A child `inner` which notes each supervisor that it makes."""

    def factory() -> Supervisor:
        made.append(make())
        return made[-1]

    return ChildSpec(
        "inner",
        factory,
        start_timeout_s=more.get("start_timeout_s", math.inf),
        stop_timeout_s=more.get("stop_timeout_s", math.inf),
    )


async def test_the_end_of_its_mailbox_stops_a_nested_supervisor_with_all_its_children(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []
    made: list[Supervisor] = []
    inner = nested(lambda: Supervisor("inner", [player("b", log), player("c", log)]), made)
    outer = Supervisor("outer", [player("a", log), inner, player("d", log)])
    async with running(outer):
        assert log == ["a starts", "b starts", "c starts", "d starts"]
        log.clear()
        made[0].ref("c").tell(Work(4))
        made[0].ref("c").tell("the last")
    assert log == ["d ends", "c: the last", "c ends", "b ends", "a ends"]


async def test_a_nested_supervisor_is_cut_off_at_its_own_deadline_with_all_below(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    made: list[Supervisor] = []
    inner = nested(
        lambda: Supervisor("inner", [player("a", log, stop_timeout_s=60), player("b", log, stop_timeout_s=60)]),
        made,
        stop_timeout_s=2,
    )
    outer = Supervisor("outer", [inner])
    async with running(outer):
        made[0].ref("a").tell(Work())
        made[0].ref("b").tell(Work())
        await wait_all_tasks_blocked()
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(2)
    assert sorted(log[2:]) == ["a ends", "b ends"]
    assert caplog.messages == ["outer/inner did not stop within 2 s, cancelled"]


async def test_one_that_gives_up_is_one_failure_of_the_outer_and_is_made_afresh(autojump_clock: MockClock) -> None:
    log: list[str] = []
    made: list[Supervisor] = []
    inner = nested(lambda: Supervisor("inner", [player("a", log)], max_restarts=1), made)
    outer = Supervisor("outer", [inner], max_restarts=1)
    async with running(outer):
        old = made[0].ref("a")
        old.tell(Boom())
        old.tell(Boom())
        await trio.sleep(1)
        assert len(made) == 2
        assert restarts(outer) == {"inner": 1}
        assert log == ["a starts", "a ends", "a starts", "a ends", "a starts"]
        with pytest.raises(ActorGoneError):
            old.tell("to the child of the one before")
        assert await made[1].ref("a").ask(Question) == "a"


async def test_limits_multiply_and_the_last_to_give_up_names_the_first(autojump_clock: MockClock) -> None:
    log: list[str] = []
    boom = Boom("always")

    class Hopeless(Player):
        async def run(self, mailbox: object, *, task_status: trio.TaskStatus[None]) -> None:
            self.log.append(self.name)
            task_status.started()
            raise boom

    inner = nested(
        lambda: Supervisor("inner", [ChildSpec("a", lambda: Hopeless("a", log))], max_restarts=2), list[Supervisor]()
    )
    with pytest.raises(RestartLimitError, match="supervisor 'outer' gives up: child 'inner'") as caught:
        await Supervisor("outer", [inner], max_restarts=1).run()
    cause = caught.value.__cause__
    assert isinstance(cause, RestartLimitError)
    assert (cause.supervisor, cause.child, cause.__cause__) == ("inner", "a", boom)
    assert len(log) == 3 * 2


async def test_an_error_at_the_first_start_deep_below_is_the_very_error_shown_above() -> None:
    boom, log = Boom("deep below"), list[str]()
    inner = nested(lambda: Supervisor("inner", [ChildSpec("b", lambda: fails(boom))]), [])
    with pytest.raises(Boom) as caught:
        await Supervisor("outer", [player("a", log), inner]).run()
    assert caught.value is boom
    assert log == ["a starts", "a ends"]


async def test_a_nested_supervisor_that_cannot_be_restarted_is_tried_again(autojump_clock: MockClock) -> None:
    log: list[str] = []
    made: list[Supervisor] = []
    factory = in_turn(lambda: Player("b", log), lambda: fails(Boom("not yet")), lambda: Player("b", log))
    inner = nested(lambda: Supervisor("inner", [player("a", log), ChildSpec("b", factory)], max_restarts=0), made)
    outer = Supervisor("outer", [inner])
    async with running(outer):
        made[0].ref("a").tell(Boom())
        await trio.sleep(1)
        assert restarts(outer) == {"inner": 2}
        assert [node.state for node in made[1].tree()] == ["ended", "ended"]
        assert [node.state for node in made[2].tree()] == ["running", "running"]


async def test_a_nested_supervisor_that_is_stopped_by_itself_is_restarted_by_its_policy(
    autojump_clock: MockClock,
) -> None:
    made: list[Supervisor] = []
    outer = Supervisor("outer", [nested(lambda: Supervisor("inner", [player("a", [])]), made)])
    async with running(outer):
        made[0].stop()
        await trio.sleep(1)
        assert restarts(outer) == {"inner": 1}


async def test_a_supervisor_takes_no_messages_and_leaves_no_asker_waiting(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Supervisor] = []
    outer = Supervisor("outer", [nested(lambda: Supervisor("inner", [player("a", [])]), made)])
    async with running(outer):
        outer.ref("inner").tell("hello")
        with pytest.raises(NoReplyError):
            await outer.ref("inner").ask(Question)
        assert await made[0].ref("a").ask(Question) == "a"
    assert caplog.messages == [
        "supervisor inner takes no messages; dropped str",
        "supervisor inner takes no messages; dropped Question",
    ]


async def test_a_nested_supervisor_can_be_spawned(autojump_clock: MockClock) -> None:
    log: list[str] = []
    inner = Supervisor("inner", [player("a", log, Restart.TRANSIENT)])
    outer = Supervisor("outer")
    async with running(outer):
        outer.spawn(ChildSpec("inner", lambda: inner, Restart.TEMPORARY))
        await wait_all_tasks_blocked()
        inner.ref("a").tell(Leave())
        await wait_all_tasks_blocked()
        inner.stop()
        await outer.wait_empty()
    assert log == ["a starts", "a ends"]
