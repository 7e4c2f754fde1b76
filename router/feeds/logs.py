"""The log feed: the program's log records become events of the `logs` channel.

Records come from any thread. They wait in a bounded deque, the oldest going first where it is full, and one
wake-up serves for many. What those log that publish a record is not fed: logging about logging would never end.
"""

from __future__ import annotations

import logging
from collections import deque

import trio

from actors import ActorRef, Mailbox
from router.letters import Emit, Message
from router.protocol import encode

#: Loggers on the way that a record takes to its readers.
_ON_THE_WAY = ("actors", "router.hub", "router.feeds.logs")
_LEVELS = {"warn": "warning", "notset": "debug"}


class LogHandler(logging.Handler):
    """Collects records for the feed. The mutable state is the deque, whose appends are atomic, and the token."""

    def __init__(self, capacity: int = 1000, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self._waiting: deque[dict[str, str | None]] = deque(maxlen=capacity)
        self._token: trio.lowlevel.TrioToken | None = None
        self._arrived: trio.Event | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, unless it is about publishing. Never waits."""
        if record.name.startswith(_ON_THE_WAY):
            return
        level = record.levelname.lower()
        self._waiting.append(
            {
                "level": _LEVELS.get(level, level),
                "message": self.format(record),
                "service": record.name,
                "correlation_id": getattr(record, "correlation_id", None),
            }
        )
        token = self._token
        if token is not None:
            try:
                token.run_sync_soon(self._wake, idempotent=True)
            except trio.RunFinishedError:
                self._token = None

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()

    def listen(self) -> None:
        """Records wake the caller's `wait` from now on."""
        self._token = trio.lowlevel.current_trio_token()
        self._arrived = trio.Event()

    async def wait(self) -> None:
        """Wait until there are records. Cancellation: safe."""
        assert self._arrived is not None
        if not self._waiting:
            await self._arrived.wait()
        self._arrived = trio.Event()

    def take(self) -> list[dict[str, str | None]]:
        """All that wait."""
        taken = []
        while self._waiting:
            taken.append(self._waiting.popleft())
        return taken


class LogFeed:
    """The actor that publishes what the handler collects."""

    def __init__(self, handler: LogHandler, router: ActorRef[Message]) -> None:
        self._handler = handler
        self._router = router

    async def run(self, mailbox: Mailbox[None], *, task_status: trio.TaskStatus[None]) -> None:
        """Publish records as they come, until the mailbox ends."""
        self._handler.listen()
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish)
            async for _ in mailbox:
                pass
            nursery.cancel_scope.cancel()

    async def _publish(self) -> None:
        while True:
            await self._handler.wait()
            for data in self._handler.take():
                await self._router.send(Emit("logs", f"log.{data['level']}", encode(data)))
