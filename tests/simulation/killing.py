"""Ends an actor at one of its checkpoints: by an error there, or by cancelling it, as a supervisor does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest import mock

import trio
from trio.lowlevel import Task

from router.batches import Batch
from router.lanes import Lane
from router.queues import Queue
from router.sessions import Session

#: Cancels an actor.
Cancel = Callable[[], None]

_checkpoint = trio.lowlevel.checkpoint


class KilledError(Exception):
    """An actor's end, as ordered."""


class Killer(trio.abc.Instrument):
    """Kills one task, or amid one fan-out, at a time.

    An error strikes where a cancellation could: in a task that waits, by the same way, so that whatever it waits for
    is as it would be then; and in a bare checkpoint.

    Attributes:
        struck: How often it did.
    """

    def __init__(self) -> None:
        self._task: Task | None = None
        self._left = 0
        self._cancel: Cancel | None = None
        self._offers: int | None = None
        self.struck = 0

    def doom(self, task: Task, checkpoints: int, cancel: Cancel | None = None) -> None:
        """Kill a task that waits at present, at its n-th checkpoint from here on; 0: now.

        Args:
            task: Which.
            checkpoints: How many it passes.
            cancel: Cancels its actor; None: it is to fail.
        """
        self.spare()
        self._task, self._left, self._cancel = task, checkpoints, cancel
        trio.lowlevel.add_instrument(self)
        self._pass_by(task, 0)

    def break_off(self, offers: int) -> None:
        """Fail amid a fan-out, when so many readers have got it."""
        self.spare()
        self._offers = offers

    def spare(self) -> None:
        """Kill nobody, after all."""
        if self._task is not None:
            trio.lowlevel.remove_instrument(self)
        self._task = self._offers = None

    def dooms(self, task: Task) -> bool:
        """Whether it is the one."""
        return self._task is task

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Stand at bare checkpoints, and where events are handed out."""
        lane, session = (mock.patch.object(kind, "offer", self._wrap(kind.offer)) for kind in (Lane, Session))
        with mock.patch.object(trio.lowlevel, "checkpoint", self.checkpoint), lane, session:
            yield

    async def checkpoint(self) -> None:
        """Trio's, for those whom it may strike."""
        task = trio.lowlevel.current_task()
        if self._task is task:
            self._left -= 1
            if self._left < 0:
                cancel = self._strike()
                if cancel is None:
                    raise KilledError
                cancel()
        await _checkpoint()

    def after_task_step(self, task: Task) -> None:
        """Trio calls this."""
        if self._task is task:
            self._pass_by(task, 1)

    def _pass_by(self, task: Task, passed: int) -> None:
        self._left -= passed
        # Nobody waits so in a bare checkpoint, or where to be interrupted would lose something.
        if self._left <= 0 and task._abort_func is not None:
            cancel = self._strike()
            if cancel is None:
                task._attempt_abort(_fail)
            else:
                cancel()

    def _strike(self) -> Cancel | None:
        self.struck += 1
        self._task = None  # the instrument stays until `spare`: this may be amid a call of it
        return self._cancel

    def _wrap(self, offer: Callable[[Any, Queue, Batch], None]) -> Callable[[Any, Queue, Batch], None]:
        def offer_or_fail(outlet: Any, queue: Queue, batch: Batch) -> None:
            if self._offers is not None and batch.seqs is not None:
                self._offers -= 1
                if self._offers < 0:
                    self._offers = None
                    self.struck += 1
                    raise KilledError
            offer(outlet, queue, batch)

        return offer_or_fail


def _fail() -> NoReturn:
    raise KilledError


def tasks_of(actor: str) -> list[Task]:
    """The tasks of an actor, itself first; none where it does not run.

    Args:
        actor: Its supervisor's name and its own.
    """
    root = trio.lowlevel.current_root_task()
    assert root is not None
    for task in _below(root):
        if task.name == actor:
            return [task, *_below(task)]
    return []


def _below(task: Task) -> Iterator[Task]:
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda each: each.name):
            yield child
            yield from _below(child)
