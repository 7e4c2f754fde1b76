"""The snapshot of supervisors and actors."""

from __future__ import annotations

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import ActorNode, ChildSpec, Restart, Supervisor
from tests.actors.stage import Boom, Leave, Work, player, running


async def test_the_tree_shows_every_child_with_its_state_and_mailbox(autojump_clock: MockClock) -> None:
    log: list[str] = []
    empty = ChildSpec("empty", lambda: Supervisor("empty"))
    full = ChildSpec("full", lambda: Supervisor("full", [player("inside", log)]))
    supervisor = Supervisor(
        "test",
        [player("busy", log, mailbox_size=8), player("done", log, Restart.TRANSIENT), empty, full],
        backoff_s=10,
    )
    async with running(supervisor):
        supervisor.spawn(player("spawned", log, Restart.TEMPORARY))
        supervisor.ref("busy").tell(Work(1))
        supervisor.ref("busy").tell("waits")
        supervisor.ref("done").tell(Leave())
        await wait_all_tasks_blocked()
        assert supervisor.tree() == (
            ActorNode("busy", "permanent", "running", 0, 1, 8),
            ActorNode("done", "transient", "ended", 0, 0, 1024),
            ActorNode("empty", "supervisor", "running", 0, 0, 1024),
            ActorNode(
                "full",
                "supervisor",
                "running",
                0,
                0,
                1024,
                (ActorNode("inside", "permanent", "running", 0, 0, 1024),),
            ),
            ActorNode("spawned", "temporary", "running", 0, 0, 1024),
        )


async def test_the_tree_follows_a_child_through_crash_restart_and_stop(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test", [player("a", [])], backoff_s=10)

    def seen() -> tuple[str, int]:
        (node,) = supervisor.tree()
        return node.state, node.restarts

    assert seen() == ("starting", 0)
    async with running(supervisor):
        assert seen() == ("running", 0)
        supervisor.ref("a").tell(Boom())
        await wait_all_tasks_blocked()
        assert seen() == ("restarting", 0)
        supervisor.ref("a").tell(Work(1))
        await wait_all_tasks_blocked(cushion=0.01)
        supervisor.stop()
    assert seen() == ("ended", 0)


async def test_while_it_reads_its_mailbox_to_the_end_a_child_is_seen_to_stop(autojump_clock: MockClock) -> None:
    supervisor = Supervisor("test", [player("a", [])])
    async with running(supervisor):
        supervisor.ref("a").tell(Work(1))
        await wait_all_tasks_blocked()
        supervisor.stop()
        await wait_all_tasks_blocked()
        assert supervisor.tree()[0].state == "stopping"


LEAF = ActorNode("leaf", "temporary", "starting", 0, 1, 2)
INNER = ActorNode("inner", "supervisor", "running", 3, 0, 4, (LEAF,))
ROOT = ActorNode("root", "supervisor", "running", 0, 0, 4, (INNER, LEAF))


def test_a_walk_shows_parents_before_their_children_with_their_depth() -> None:
    assert list(ROOT.walk()) == [(0, ROOT), (1, INNER), (2, LEAF), (1, LEAF)]


def test_a_tree_prints_as_a_tree() -> None:
    assert str(ROOT).splitlines() == [
        "root [supervisor] running mailbox 0/4 restarts 0",
        "  inner [supervisor] running mailbox 0/4 restarts 3",
        "    leaf [temporary] starting mailbox 1/2 restarts 0",
        "  leaf [temporary] starting mailbox 1/2 restarts 0",
    ]


def test_a_snapshot_does_not_change() -> None:
    with pytest.raises(AttributeError):
        LEAF.state = "ended"  # type: ignore[misc]  # that it is frozen is the point
