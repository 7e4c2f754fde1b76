"""Supervisors: they own their children's tasks and mailboxes, restart what fails, and give up aloud.

The words are those of Erlang/OTP (https://www.erlang.org/doc/system/sup_princ.html). What differs is Trio's:
every child is a task in the supervisor's nursery, so nothing outlives its supervisor, and a supervisor past its
restart limit raises into whoever runs it.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable
from typing import Any, NoReturn

import trio

from actors.actor import ChildSpec, Restart, Strategy
from actors.child import Child, State, stop_together
from actors.errors import ActorGoneError, RestartLimitError, StartTimeoutError
from actors.mailbox import ActorRef, Call, Mailbox
from actors.tree import ActorNode

logger = logging.getLogger("actors.supervisor")


class Supervisor:
    """Runs children by their specs; itself an actor, so supervisors nest. It runs once: each start takes a fresh one.

    The mutable state is the tables of children, the exits not yet dealt with and the times of past restarts; it is
    changed by `run`'s task, the children's own and the sync functions `spawn` and `stop`.
    """

    def __init__(
        self,
        name: str,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 5,
        period_s: float = 10.0,
        backoff_s: float = 0.1,
    ) -> None:
        """Make a supervisor; nothing starts before `run`.

        Args:
            name: For logs and the tree.
            children: Started in this order, stopped in reverse.
            strategy: Who is restarted when one has failed.
            max_restarts: Restarts allowed within `period_s`; one more and `run` raises `RestartLimitError`.
                Limits multiply over nested supervisors: an inner one that gives up is one failure of the outer.
            period_s: The window for `max_restarts`, in seconds.
            backoff_s: Pause before a restart, in seconds.

        Raises:
            ValueError: Two children have the same name.
        """
        self.name = name
        self._strategy = strategy
        self._max_restarts = max_restarts
        self._period_s = period_s
        self._backoff_s = backoff_s
        self._static: dict[str, Child] = {}
        self._spawned: dict[str, Child] = {}
        for spec in children:
            self._static[spec.name] = self._make(spec)
        # No bound of its own: it holds one exit for each child that is not spawned.
        self._exits, self._next_exit = trio.open_memory_channel[tuple[Child, Exception | None]](math.inf)
        self._restart_times: deque[float] = deque()
        self._nursery: trio.Nursery | None = None
        #: Around all that `run` does before it stops the children; to cancel it is to stop.
        self._supervising = trio.CancelScope()
        #: Set when no spawned child is left; made by whoever waits for that.
        self._emptied: trio.Event | None = None

    # What others call

    def ref(self, name: str) -> ActorRef[Any]:
        """The address of a child; it can be had before `run`, so that children can be given one another's.

        Raises:
            LookupError: There is no such child.
        """
        child = self._static.get(name) or self._spawned.get(name)
        if child is None:
            known = ", ".join(self._static) or "none"
            raise LookupError(f"supervisor {self.name!r} has no child {name!r}; its own are: {known}")
        return child.box.ref

    def spawn(self, spec: ChildSpec) -> ActorRef[Any]:
        """Start a temporary child without waiting for it, and forget it when it ends.

        Raises:
            ActorGoneError: This supervisor does not run (yet, or any more).
            ValueError: The child is not temporary, or the name is taken.
        """
        if spec.restart is not Restart.TEMPORARY:
            raise ValueError(f"child {spec.name!r}: only temporary children can be spawned; list others as children")
        if self._nursery is None or self._supervising.cancel_called:
            raise ActorGoneError(self.name)
        child = self._spawned[spec.name] = self._make(spec)
        child.begin()
        self._nursery.start_soon(self._run_spawned, child, name=child.label)
        return child.box.ref

    def stop(self) -> None:
        """Tell `run` to stop the children and to return. What is just starting is cancelled."""
        self._supervising.cancel()

    async def wait_empty(self) -> None:
        """Wait until no spawned child is left. Cancellation: safe."""
        await trio.lowlevel.checkpoint()
        while self._spawned:
            if self._emptied is None:
                self._emptied = trio.Event()
            await self._emptied.wait()

    def __len__(self) -> int:
        return len(self._static) + len(self._spawned)

    def tree(self) -> tuple[ActorNode, ...]:
        """A snapshot of the children in start order, nested supervisors with theirs."""
        return tuple(_node(child) for child in (*self._static.values(), *self._spawned.values()))

    # The life

    async def run(
        self,
        mailbox: Mailbox[Any] | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Start the children in order, keep them alive until told to stop, stop them in reverse.

        Args:
            mailbox: Given by an outer supervisor; its end means `stop`.
            task_status: Told once every child has started, or `stop` came before that.

        Raises:
            RestartLimitError: A child ended too often.
            RuntimeError: It has run before, or a child returned before it called `started()`.
            Exception: A child's first start failed; its own error.

        Cancellation: children are cancelled at once and in no order.
        """
        if self._nursery is not None:
            raise RuntimeError(f"supervisor {self.name!r} has run before; make a fresh one")
        failure: Exception | None = None
        async with trio.open_nursery() as self._nursery:
            try:
                all_started = False
                with self._supervising:
                    for child in self._static.values():
                        await self._start(child)
                    all_started = True
                    task_status.started()
                    if mailbox is not None:
                        self._nursery.start_soon(self._stop_at_end_of, mailbox)
                    await self._supervise()
                if not all_started:
                    task_status.started()
            except Exception as error:  # handed on below, bare: the nursery would wrap it in a group
                failure = error
            finally:
                self.stop()
                with trio.CancelScope(shield=True):
                    await self._stop_all()
                self._nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _supervise(self) -> NoReturn:
        while True:
            await self._handle_exit(*await self._next_exit.receive())

    async def _stop_at_end_of(self, mailbox: Mailbox[Any]) -> None:
        async for message in mailbox:
            logger.warning("supervisor %s takes no messages; dropped %s", self.name, type(message).__name__)
            if isinstance(message, Call):
                message.reply.abandon()
        self.stop()

    def _make(self, spec: ChildSpec) -> Child:
        if spec.name in self._static or spec.name in self._spawned:
            raise ValueError(f"supervisor {self.name!r} has a child {spec.name!r} already")
        return Child(spec, f"{self.name}/{spec.name}")

    # One incarnation

    async def _start(self, child: Child) -> None:
        assert self._nursery is not None
        await trio.lowlevel.checkpoint_if_cancelled()  # told to stop: not even begin
        child.begin()
        with trio.move_on_after(child.spec.start_timeout_s) as deadline:
            await self._nursery.start(self._run_static, child, name=child.label)
        if deadline.cancelled_caught:
            raise StartTimeoutError(child.spec.name, child.spec.start_timeout_s)

    async def _run_static(self, child: Child, *, task_status: trio.TaskStatus[None]) -> None:
        error = await child.live(lambda: task_status.started())
        if error is not None:
            if child.state is State.STARTING:
                raise error  # to `_start`, as it is
            child.log_crash(error)
        if self._supervising.cancel_called:
            child.close()  # at once: those that stop after it may be asking it
        elif child.state is State.RUNNING:
            self._note_exit(child, error)

    async def _run_spawned(self, child: Child) -> None:
        try:
            error = await child.live()
            if error is not None:
                child.log_crash(error)
        finally:
            child.close()
            del self._spawned[child.spec.name]
            if not self._spawned and self._emptied is not None:
                self._emptied.set()
                self._emptied = None

    # Exits and restarts

    def _note_exit(self, child: Child, error: Exception | None) -> None:
        child.state = State.EXITED
        self._exits.send_nowait((child, error))

    async def _handle_exit(self, child: Child, error: Exception | None) -> None:
        if child.state is not State.EXITED:
            return  # a restart of those before it has dealt with it
        restart = child.spec.restart
        if restart is Restart.TEMPORARY or (restart is Restart.TRANSIENT and error is None):
            child.close()
            return
        child.state = State.RESTARTING
        self._count_restart(child, error)
        await trio.sleep(self._backoff_s)
        await self._restart(child)

    def _count_restart(self, child: Child, error: Exception | None) -> None:
        now = trio.current_time()
        while self._restart_times and self._restart_times[0] <= now - self._period_s:
            self._restart_times.popleft()
        self._restart_times.append(now)
        if len(self._restart_times) > self._max_restarts:
            raise RestartLimitError(self.name, child.spec.name, self._max_restarts, self._period_s) from error

    async def _restart(self, ended: Child) -> None:
        affected = [ended]
        if self._strategy is Strategy.REST_FOR_ONE:
            later = list(self._static.values())
            del later[: later.index(ended) + 1]
            for sibling in reversed(later):
                await self._halt(sibling)
            affected += [sibling for sibling in later if sibling.state is not State.ENDED]
        logger.warning("%s restarts %s", self.name, ", ".join(child.spec.name for child in affected))
        for child in affected:
            try:
                await self._start(child)
            except Exception as error:
                child.log_crash(error)
                # In its turn: a sibling that has ended too may be what it needs. Those after it wait for it.
                self._note_exit(child, error)
                return

    async def _halt(self, sibling: Child) -> None:
        """End an incarnation for a restart; its mailbox stays as it is."""
        if sibling.state is State.ENDED:
            return
        sibling.state = State.RESTARTING
        sibling.cancel()
        await sibling.wait_gone()
        if sibling.spec.restart is Restart.TEMPORARY:
            sibling.close()

    # The end

    async def _stop_all(self) -> None:
        for child in self._static.values():
            if child.scope is None:
                child.close()  # at once: those that stop first may be asking it
        await stop_together(self._spawned.values())
        for child in reversed(self._static.values()):
            await stop_together([child])


def _node(child: Child) -> ActorNode:
    nested = child.actor if isinstance(child.actor, Supervisor) else None
    return ActorNode(
        name=child.spec.name,
        kind=child.spec.restart.value if nested is None else "supervisor",
        state=child.state.value,
        restarts=max(0, child.starts - 1),
        mailbox_depth=child.box.ref.depth,
        mailbox_size=child.spec.mailbox_size,
        children=() if nested is None else nested.tree(),
    )
