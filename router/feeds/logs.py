"""The log feed: the program's log records become events of the `logs` channel.

Records come from any thread. They wait in a bounded deque, the oldest going first where it is full, and one
wake-up serves for many. What those log that publish a record is not fed: logging about logging would never end.
Tokens are redacted, whatever formatter the handler was given.
"""

from __future__ import annotations

import logging
from collections import deque

import trio

from actors import ActorRef, Mailbox
from router.feeds.working import work_until_end
from router.letters import Emit, Message
from router.logs import redact
from router.protocol import encode

#: Loggers on the way that a record takes to its readers, with those below them.
_ON_THE_WAY = ("actors", "router.hub", "router.feeds")
#: Records may have any number for a level; the channel has five, each from its number on.
_LEVELS = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"))
#: A longer message is cut, so that no record is larger than an event may be.
MAX_MESSAGE_CHARACTERS = 8000


class LogHandler(logging.Handler):
    """Collects records for the feed. The mutable state is the deque, whose appends are atomic, and the token."""

    def __init__(self, capacity: int = 1000, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self._waiting: deque[dict[str, str | None]] = deque(maxlen=capacity)
        self._token: trio.lowlevel.TrioToken | None = None
        self._arrived: trio.Event | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record, unless it is about publishing. Never waits, and never raises into whoever logs."""
        if any(record.name == name or record.name.startswith(f"{name}.") for name in _ON_THE_WAY):
            return
        try:
            message = redact(self.format(record))
            correlation_id = getattr(record, "correlation_id", None)
            self._waiting.append(
                {
                    "level": next((name for number, name in _LEVELS if record.levelno >= number), "debug"),
                    "message": _text(message),
                    "service": _text(record.name),
                    "correlation_id": None if correlation_id is None else _text(str(correlation_id)),
                }
            )
        except Exception:  # whatever a record's arguments raise; as in the standard library's own handlers
            self.handleError(record)
        token = self._token
        if token is not None:
            try:
                token.run_sync_soon(self._wake, idempotent=True)
            except trio.RunFinishedError:
                self._token = None

    def _wake(self) -> None:
        assert self._arrived is not None
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


def _text(text: str) -> str:
    """A text of bounded length that can be sent: file names, for instance, may hold bytes that are not characters."""
    if len(text) > MAX_MESSAGE_CHARACTERS:
        text = text[:MAX_MESSAGE_CHARACTERS] + "…"
    return text.encode(errors="replace").decode()


class LogFeed:
    """The actor that publishes what the handler collects."""

    def __init__(self, handler: LogHandler, router: ActorRef[Message]) -> None:
        self._handler = handler
        self._router = router

    async def run(self, mailbox: Mailbox[None], *, task_status: trio.TaskStatus[None]) -> None:
        """Publish records as they come, until the mailbox ends."""
        self._handler.listen()
        task_status.started()
        await work_until_end(self._publish, mailbox)

    async def _publish(self) -> None:
        while True:
            await self._handler.wait()
            for data in self._handler.take():
                await self._router.send(Emit("logs", f"log.{data['level']}", encode(data)))
