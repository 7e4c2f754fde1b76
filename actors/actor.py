"""What an actor is, and how a supervisor is told to run one."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from actors.mailbox import Mailbox


class Actor(Protocol):
    """A plain object with one coroutine. Its `__init__` is sync, takes what it needs and starts nothing.

    `run` is the actor's whole life: it acquires what it needs, calls `task_status.started()` once it can do its
    work, reads the mailbox to the end and returns. An exception out of it is a crash. Handlers should be sync:
    an `await` in the middle is a promise that others may run there.
    """

    async def run(self, mailbox: Mailbox[Any], *, task_status: trio.TaskStatus[None]) -> None:
        """Run the actor until its mailbox ends. Cancellation: the actor ends at once, without draining its mailbox."""
        ...


class Strategy(enum.Enum):
    """Who is restarted when one child has failed."""

    #: That child alone.
    ONE_FOR_ONE = "one_for_one"
    #: That child and all that are listed after it, since they may depend on it: these are cancelled in reverse
    #: order, keep their mailboxes, and are started again in order. Spawned children are left alone.
    REST_FOR_ONE = "rest_for_one"


class Restart(enum.Enum):
    """When a child that has ended is started again."""

    #: Always, also when it merely returned.
    PERMANENT = "permanent"
    #: Only when it ended by an error.
    TRANSIENT = "transient"
    #: Never.
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to run one child.

    A child that is itself a supervisor should have `math.inf` for both timeouts: its children have their own.

    Attributes:
        name: Unique among its supervisor's children.
        factory: Makes a fresh actor for each start.
        restart: When to start it again.
        mailbox_size: Messages that its mailbox holds.
        start_timeout_s: Seconds it may take to call `started()`; a spawned child is not waited for.
        stop_timeout_s: Seconds it may take to read its mailbox to the end when told to stop, then it is cancelled.
    """

    name: str
    factory: Callable[[], Actor]
    restart: Restart = Restart.PERMANENT
    mailbox_size: int = 1024
    start_timeout_s: float = 10.0
    stop_timeout_s: float = 5.0
