"""Supervisors: they own their children's tasks and mailboxes, restart what fails, and give up aloud.

The words are those of Erlang/OTP (https://www.erlang.org/doc/system/sup_princ.html). What differs is Trio's:
every child is a task in the supervisor's nursery, so nothing outlives its supervisor, and a supervisor past its
restart limit raises into whoever runs it.
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any

import trio

from actors.actor import Actor, ChildSpec, Restart
from actors.errors import ActorGoneError, RestartLimitError, StartTimeoutError
from actors.mailbox import ActorRef, Box, Mailbox
from actors.tree import ActorNode

logger = logging.getLogger("actors.supervisor")


class Strategy(enum.Enum):
    """Who is restarted when one child has failed."""

    #: That child alone.
    ONE_FOR_ONE = "one_for_one"
    #: That child and all that were started after it.
    REST_FOR_ONE = "rest_for_one"


class _State(enum.Enum):
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    ENDED = "ended"


class _Child:
    """One child over all its incarnations.

    The mutable state is `state`, `scope`, `actor`, `gone` and `restarts`; only the supervisor that holds the
    child changes them, in sync code.
    """

    __slots__ = ("actor", "box", "gone", "restarts", "scope", "spec", "state")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.box: Box[Any] = Box(spec.name, spec.mailbox_size)
        self.state = _State.STARTING
        self.restarts = 0
        #: Cancels the incarnation that runs now.
        self.scope: trio.CancelScope | None = None
        #: The object of the incarnation that runs now, for the tree.
        self.actor: Actor | None = None
        #: Set when the incarnation that runs now has ended; made by whoever waits for that.
        self.gone: trio.Event | None = None

    def started(self, value: None = None) -> None:
        """What a child without a waiting starter has for `task_status`."""
        self.state = _State.RUNNING


class _TaskStatus:
    """Passes a child's `started()` on to `nursery.start`, and notes it."""

    def __init__(self, child: _Child, task_status: trio.TaskStatus[None]) -> None:
        self._child = child
        self._task_status = task_status

    def started(self, value: None = None) -> None:
        self._child.started()
        self._task_status.started()


class Supervisor:
    """Runs children by their specs; itself an actor, so supervisors nest.

    The mutable state is the table of children, the exits not yet dealt with and the times of past restarts. It is
    changed by `run`'s task and the sync functions `spawn` and `stop`.
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
            max_restarts: Restarts borne within `period_s`; one more and `run` raises `RestartLimitError`.
                Limits multiply over nested supervisors: an inner one that gives up is one failure of the outer.
            period_s: The window for `max_restarts`, in seconds.
            backoff_s: Pause before a restart, in seconds.
        """
        self.name = name
        self._strategy = strategy
        self._max_restarts = max_restarts
        self._period_s = period_s
        self._backoff_s = backoff_s
        self._children: dict[str, _Child] = {}
        for spec in children:
            self._add(spec)
        self._static = tuple(self._children.values())
        self._exits: deque[tuple[_Child, Exception | None]] = deque()
        self._exited = trio.Event()
        self._stopping = trio.Event()
        self._restart_times: deque[float] = deque()
        self._nursery: trio.Nursery | None = None
        self._emptied: trio.Event | None = None

    # What others call

    def ref(self, name: str) -> ActorRef[Any]:
        """The address of a child; it can be had before `run`, so that children can be given one another's.

        Raises:
            LookupError: There is no such child.
        """
        try:
            return self._children[name].box.ref
        except KeyError:
            known = ", ".join(self._children) or "none"
            raise LookupError(f"supervisor {self.name!r} has no child {name!r}; it has: {known}") from None

    def spawn(self, spec: ChildSpec) -> ActorRef[Any]:
        """Start a temporary child without waiting for it, and forget it when it ends.

        Raises:
            ActorGoneError: This supervisor does not run (yet, or any more).
            ValueError: The child is not temporary, or the name is taken.
        """
        if spec.restart is not Restart.TEMPORARY:
            raise ValueError(f"child {spec.name!r}: only temporary children can be spawned; list others as children")
        if self._nursery is None or self._stopping.is_set():
            raise ActorGoneError(self.name)
        child = self._add(spec)
        self._nursery.start_soon(self._run_temporary, child, name=f"{self.name}/{spec.name}")
        return child.box.ref

    def stop(self) -> None:
        """Tell `run` to stop the children in reverse order and to return."""
        self._stopping.set()
        self._exited.set()

    async def wait_empty(self) -> None:
        """Wait until there is no child. Cancellation: safe."""
        while self._children:
            self._emptied = trio.Event()
            await self._emptied.wait()

    def __len__(self) -> int:
        return len(self._children)

    def tree(self) -> tuple[ActorNode, ...]:
        """A snapshot of the children, nested supervisors with theirs."""
        return tuple(_node(child) for child in self._children.values())

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
            task_status: Told once every child has started.

        Raises:
            RestartLimitError: A child failed too often.
            Exception: A child's first start failed; its own error.

        Cancellation: children are cancelled at once, without their stop deadlines.
        """
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for child in self._static:
                    await self._start(child)
                task_status.started()
                if mailbox is not None:
                    nursery.start_soon(self._stop_at_end_of, mailbox)
                await self._supervise()
            except Exception as error:  # handed on below, bare: the nursery would wrap it in a group
                failure = error
            finally:
                self._stopping.set()
                await self._stop_all()
                self._nursery = None
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _supervise(self) -> None:
        while not self._stopping.is_set():
            if self._exits:
                await self._handle_exit(*self._exits.popleft())
            else:
                self._exited = trio.Event()
                await self._exited.wait()

    async def _stop_at_end_of(self, mailbox: Mailbox[Any]) -> None:
        async for message in mailbox:
            logger.warning("supervisor %s takes no messages; dropped %s", self.name, type(message).__name__)
        self.stop()

    def _add(self, spec: ChildSpec) -> _Child:
        if spec.name in self._children:
            raise ValueError(f"supervisor {self.name!r} has a child {spec.name!r} already")
        child = self._children[spec.name] = _Child(spec)
        return child

    # One incarnation

    async def _start(self, child: _Child) -> None:
        assert self._nursery is not None
        child.state = _State.STARTING
        with trio.move_on_after(child.spec.start_timeout_s) as deadline:
            await self._nursery.start(self._run_incarnation, child, name=f"{self.name}/{child.spec.name}")
        if deadline.cancelled_caught:
            raise StartTimeoutError(child.spec.name, child.spec.start_timeout_s)

    async def _run_incarnation(self, child: _Child, *, task_status: trio.TaskStatus[None]) -> None:
        error: Exception | None = None
        try:
            await self._live(child, _TaskStatus(child, task_status))
        except Exception as crash:
            if child.state is _State.STARTING:
                raise  # to the starter, as it is
            error = crash
        if not self._stopping.is_set():
            self._exits.append((child, error))
            self._exited.set()

    async def _run_temporary(self, child: _Child) -> None:
        try:
            await self._live(child, child)
        except Exception:
            logger.exception("%s/%s crashed", self.name, child.spec.name)
        finally:
            child.state = _State.ENDED
            child.box.close()
            del self._children[child.spec.name]
            if self._emptied is not None and not self._children:
                self._emptied.set()

    async def _live(self, child: _Child, task_status: trio.TaskStatus[None]) -> None:
        mailbox = child.box.open()
        try:
            with trio.CancelScope() as child.scope:
                child.actor = child.spec.factory()
                await child.actor.run(mailbox, task_status=task_status)
        finally:
            mailbox.close()
            child.scope = child.actor = None
            if child.gone is not None:
                child.gone.set()

    # Ends and restarts

    async def _handle_exit(self, child: _Child, error: Exception | None) -> None:
        if child.state is not _State.RUNNING:
            return  # stopped on purpose, in a restart of its siblings
        restart = child.spec.restart
        if restart is Restart.TEMPORARY or (restart is Restart.TRANSIENT and error is None):
            self._log_end(child, error)
            child.state = _State.ENDED
            child.box.close()
            return
        while True:
            child.state = _State.RESTARTING
            self._count_restart(child, error)
            logger.error("%s/%s %s, restarting", self.name, child.spec.name, _how(error), exc_info=error)
            with trio.move_on_after(self._backoff_s):
                await self._stopping.wait()
                return
            try:
                await self._restart(child)
            except Exception as again:
                error = again
            else:
                return

    def _log_end(self, child: _Child, error: Exception | None) -> None:
        if error is not None:
            logger.error("%s/%s crashed, not restarted", self.name, child.spec.name, exc_info=error)

    def _count_restart(self, child: _Child, error: Exception | None) -> None:
        now = trio.current_time()
        while self._restart_times and self._restart_times[0] <= now - self._period_s:
            self._restart_times.popleft()
        self._restart_times.append(now)
        if len(self._restart_times) > self._max_restarts:
            child.state = _State.ENDED
            raise RestartLimitError(self.name, child.spec.name, self._max_restarts, self._period_s) from error

    async def _restart(self, child: _Child) -> None:
        affected = [child]
        if self._strategy is Strategy.REST_FOR_ONE:
            later = self._static[self._static.index(child) + 1 :]
            affected += [sibling for sibling in later if sibling.state is not _State.ENDED]
            for sibling in reversed(affected[1:]):
                await self._cancel(sibling)
        for each in affected:
            each.restarts += 1
            await self._start(each)

    async def _stop_all(self) -> None:
        with trio.CancelScope(shield=True):  # every wait inside has its own deadline
            for child in reversed(list(self._children.values())):
                child.box.end_sending()
                with trio.move_on_after(child.spec.stop_timeout_s):
                    await self._wait_gone(child)
                await self._cancel(child)
                child.state = _State.ENDED
                child.box.close()

    async def _cancel(self, child: _Child) -> None:
        child.state = _State.STOPPING
        if child.scope is not None:
            child.scope.cancel()
        await self._wait_gone(child)

    async def _wait_gone(self, child: _Child) -> None:
        if child.scope is not None:
            child.gone = trio.Event()
            await child.gone.wait()


def _how(error: Exception | None) -> str:
    return "ended" if error is None else f"crashed ({type(error).__name__}: {error})"


def _node(child: _Child) -> ActorNode:
    nested = child.actor if isinstance(child.actor, Supervisor) else None
    return ActorNode(
        name=child.spec.name,
        kind="supervisor" if nested else child.spec.restart.value,
        state=child.state.value,
        restarts=child.restarts,
        mailbox_depth=child.box.ref.depth,
        mailbox_size=child.spec.mailbox_size,
        children=nested.tree() if nested else (),
    )
