"""One child of a supervisor over all its incarnations: its mailbox, its state and the task that is its life."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterable
from typing import Any

import trio

from actors.actor import Actor, ChildSpec, Restart
from actors.mailbox import Box

logger = logging.getLogger("actors.child")


class State(enum.Enum):
    """What a child is at. `STARTING` to `EXITED` is one incarnation; `ENDED` is for good."""

    STARTING = "starting"
    RUNNING = "running"
    #: Its incarnation ended by itself; the supervisor has not dealt with that yet.
    EXITED = "exited"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    ENDED = "ended"


class Child:
    """What a supervisor knows of one child. There may be thousands: it has slots, and makes what it needs when needed.

    The mutable state is `state`, `starts` and what belongs to the incarnation that runs now (`scope`, `actor`);
    only its own task and the supervisor's change it, in sync code.
    """

    __slots__ = ("_gone", "_on_started", "actor", "box", "label", "scope", "spec", "starts", "state")

    def __init__(self, spec: ChildSpec, label: str) -> None:
        self.spec = spec
        #: Its name with its supervisor's before it, for logs and task lists.
        self.label = label
        self.box: Box[Any] = Box(spec.name, spec.mailbox_size)
        self.state = State.STARTING
        self.starts = 0
        #: Cancels the incarnation that runs now; there is none where this is None.
        self.scope: trio.CancelScope | None = None
        #: The object of the incarnation that runs now, for the tree.
        self.actor: Actor | None = None
        self._on_started: Callable[[], None] | None = None
        self._gone: trio.Event | None = None

    def begin(self) -> None:
        """An incarnation begins here, though its task may not have run yet: it can be cancelled."""
        self.state = State.STARTING
        self.starts += 1
        self.scope = trio.CancelScope()

    def started(self, value: None = None) -> None:
        """What the actor calls through its `task_status`."""
        if self.state is State.STARTING:
            self.state = State.RUNNING
        if self._on_started is not None:
            self._on_started()

    async def live(self, on_started: Callable[[], None] | None = None) -> Exception | None:
        """One incarnation, from the factory to the end of `run`. Returns the error that ended it, if one did.

        Args:
            on_started: Called when the actor calls `started()`; nobody waits for that where a child is spawned.

        Cancellation: the actor is cancelled; errors that come of it are logged and go no further.
        """
        assert self.scope is not None
        self._on_started = on_started
        mailbox = self.box.open()
        try:
            with self.scope:
                self.actor = self.spec.factory()
                await self.actor.run(mailbox, task_status=self)
            return None
        except Exception as error:
            return error
        except BaseExceptionGroup as group:
            # Cancelled from outside, with errors on the way up: they are this child's affair, the rest is not.
            errors, others = group.split(Exception)
            if errors is not None:
                self.log_crash(errors)
            assert others is not None
            raise others from None
        finally:
            mailbox.close()
            self.scope = self.actor = None
            if self._gone is not None:
                self._gone.set()

    def log_crash(self, error: Exception) -> None:
        """Every crash is logged once, by whoever does not pass it on."""
        logger.error("%s crashed: %s: %s", self.label, type(error).__name__, error, exc_info=error)

    def cancel(self) -> None:
        """Cancel the incarnation that runs now, if one does."""
        if self.scope is not None:
            self.scope.cancel()

    async def wait_gone(self) -> None:
        """Wait until no incarnation runs; for one waiter at a time. Cancellation: safe."""
        if self.scope is not None:
            self._gone = trio.Event()
            await self._gone.wait()

    def end_sending(self) -> None:
        """Tell it to stop: its mailbox takes no more and ends when it is read."""
        self.state = State.STOPPING
        self.box.end_sending()

    def close(self) -> None:
        """It is gone for good; may be called more than once. The backlog of a temporary child goes with it."""
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        unread = self.box.close()
        if unread and self.spec.restart is not Restart.TEMPORARY:
            logger.warning("%s has ended with %d messages unread", self.label, unread)


async def stop_together(children: Iterable[Child]) -> None:
    """Stop children without one waiting for another, each with its own deadline, after which it is cancelled."""
    now = trio.current_time()
    living = [child for child in children if child.state is not State.ENDED]
    for child in living:
        child.end_sending()
    for child in sorted(living, key=lambda child: child.spec.stop_timeout_s):
        with trio.move_on_at(now + child.spec.stop_timeout_s) as deadline:
            await child.wait_gone()
        if deadline.cancelled_caught:
            logger.warning("%s did not stop within %g s, cancelled", child.label, child.spec.stop_timeout_s)
            child.cancel()
    for child in living:
        await child.wait_gone()
        child.close()
