"""The host feed: events of the program that the router is embedded in go to the router in batches.

Any thread may put events into the queue, and none ever waits for anything but the few instructions of another `put`.
Events of one channel that follow one another lie there as one run already, so that handing them over costs next to
nothing for each; the feed is woken once for all that come before it has looked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

import structlog
import trio

from actors import ActorRef, Mailbox
from router.channels import Channels
from router.config import Config
from router.errors import RouterError
from router.feeds.working import work_until_end
from router.letters import Events, HostEvents, Message, SendTo
from router.protocol import EventIn

log = structlog.get_logger("router.feeds.host")

#: What one letter to the router holds at most; a single event may be larger.
LETTER_EVENTS = 1000
LETTER_BYTES = 128 * 1024

_NOT_STARTED = "the router has not started yet: enter its context, or call start(), first"


class RouterClosedError(RouterError, RuntimeError):
    """The router takes nothing from its host: it has not started, is going down, has ended or has failed."""


class _Run:
    """Events of one channel, or (of none) events for clients, users or all, that go to the router together."""

    __slots__ = ("channel", "events", "size")

    def __init__(self, channel: str | None, event: EventIn | SendTo, size: int) -> None:
        self.channel = channel
        self.events: list[Any] = [event]
        self.size = size

    def items(self) -> Iterable[Events | SendTo]:
        """As the router takes them."""
        return self.events if self.channel is None else (Events(self.channel, self.events),)


class HostQueue:
    """What the host has broadcast and the router has not taken yet, bounded in events and bytes.

    The mutable state is the runs, their sums and why nothing is taken, all under one lock; besides, in the hand of
    the feed's task, the runs that are on their way. The lock is reentrant because a signal handler or a finalizer
    may broadcast amid a broadcast of its own thread.

    Attributes:
        channels: What channels there may be; the router's, once it has started.
    """

    def __init__(self, config: Config) -> None:
        self._max_events = config.host_queue_events
        self._max_bytes = config.host_queue_bytes
        self._lock = threading.RLock()
        self._runs: list[_Run] = []
        self._last: _Run | None = None
        self._events = 0
        self._bytes = 0
        self._closed: str | None = _NOT_STARTED
        self._dropped = 0
        # The feed's side
        self._taken: deque[_Run] = deque()
        self.channels = Channels()
        self._token: trio.lowlevel.TrioToken | None = None
        self._asleep = False
        self._arrived: trio.Event | None = None
        self._emptied: trio.Event | None = None

    # The host's side, from any thread

    @property
    def dropped(self) -> int:
        """Events that were refused because the queue was full."""
        return self._dropped

    def __len__(self) -> int:
        return self._events

    def check_open(self) -> None:
        """See whether events are taken.

        Raises:
            RouterClosedError: They are not; the message says why.
        """
        if self._closed is not None:
            raise RouterClosedError(self._closed)

    def put(self, channel: str | None, event: EventIn | SendTo, size: int) -> bool:
        """Take an event, judged; False: the queue is full.

        Args:
            channel: Where it is published; None: it is for a client, a user or all.
            event: The event.
            size: Of its data, in bytes.

        Raises:
            RouterClosedError: The router does not run.
        """
        with self._lock:
            if self._closed is not None or self._events >= self._max_events or self._bytes + size > self._max_bytes:
                return self._refuse()
            self._events += 1
            self._bytes += size
            run = self._last
            if (
                run is not None
                and run.channel == channel
                and len(run.events) < LETTER_EVENTS
                and run.size + size <= LETTER_BYTES
            ):
                run.events.append(event)
                run.size += size
            else:
                self._last = _Run(channel, event, size)
                self._runs.append(self._last)
            wake, self._asleep = self._asleep, False
        if wake:
            self._wake()
        return True

    def _refuse(self) -> bool:
        """Count an event that finds no room; under the lock."""
        self.check_open()
        self._dropped += 1
        return False

    def _wake(self) -> None:
        assert self._token is not None
        try:
            self._token.run_sync_soon(self._say_arrived)
        except trio.RunFinishedError:
            pass  # the queue was closed meanwhile, and who closed it has seen to the event

    def _say_arrived(self) -> None:
        assert self._arrived is not None
        self._arrived.set()

    def close(self, reason: str) -> None:
        """Take no more, and tell those who come why; what is in the queue stays."""
        with self._lock:
            self._closed = reason

    # The feed's side

    def open(self, channels: Channels) -> None:
        """Take events from now on, unless the queue was closed; they wake the caller's Trio."""
        with self._lock:
            self.channels = channels
            self._token = trio.lowlevel.current_trio_token()
            if self._closed == _NOT_STARTED:
                self._closed = None

    async def wait(self) -> None:
        """Wait until there is something. Cancellation: safe."""
        while not self._taken:
            with self._lock:
                self._taken.extend(self._runs)
                self._runs.clear()
                self._last = None
                self._asleep = not self._taken
                arrived = self._arrived = trio.Event()
            if not self._taken:
                await arrived.wait()

    def letter(self) -> list[_Run]:
        """What comes next: as many runs as a letter may hold, and at least one. They stay until `forget`."""
        letter: list[_Run] = []
        events = size = 0
        for run in self._taken:
            events += len(run.events)
            size += run.size
            if letter and (events > LETTER_EVENTS or size > LETTER_BYTES):
                break
            letter.append(run)
        return letter

    def forget(self, letter: Iterable[_Run]) -> None:
        """The router has taken these."""
        events = size = 0
        for run in letter:
            self._taken.popleft()
            events += len(run.events)
            size += run.size
        with self._lock:
            self._events -= events
            self._bytes -= size
        if not self._events and self._emptied is not None:
            self._emptied.set()

    async def wait_empty(self) -> None:
        """Wait until the router has taken all, for one waiter at a time. Cancellation: safe."""
        await trio.lowlevel.checkpoint()
        while self._events:
            self._emptied = trio.Event()
            await self._emptied.wait()


class HostFeed:
    """The actor that hands over what the queue holds."""

    def __init__(self, queue: HostQueue, channels: Channels, router: ActorRef[Message]) -> None:
        self._queue = queue
        self._channels = channels
        self._router = router

    async def run(self, mailbox: Mailbox[None], *, task_status: trio.TaskStatus[None]) -> None:
        """Hand over events as they come, until the mailbox ends."""
        self._queue.open(self._channels)
        task_status.started()
        await work_until_end(self._hand_over, mailbox)
        if len(self._queue):
            log.warning("events of the host program lost, the router went down first", events=len(self._queue))

    async def _hand_over(self) -> None:
        queue = self._queue
        while True:
            await queue.wait()
            letter = queue.letter()
            await self._router.send(HostEvents([item for run in letter for item in run.items()]))
            queue.forget(letter)
