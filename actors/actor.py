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
        """Live. Cancellation: the actor ends at once, without draining its mailbox."""
        ...


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

    Attributes:
        name: Unique among its supervisor's children.
        factory: Makes a fresh actor for each start.
        restart: When to start it again.
        mailbox_size: Messages that its mailbox holds.
        start_timeout_s: Seconds it may take to call `started()`.
        stop_timeout_s: Seconds it may take to read its mailbox to the end when told to stop, then it is cancelled.
    """

    name: str
    factory: Callable[[], Actor]
    restart: Restart = Restart.PERMANENT
    mailbox_size: int = 1024
    start_timeout_s: float = 10.0
    stop_timeout_s: float = 5.0
