"""`pub` at work: batches on their way, several at a time, and an account of each line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable

import trio
from msgspec import Struct

from router.cli.account import Account
from router.cli.lines import Batch, EventMaker, Lines, Source
from router.cli.terminal import Notes
from router.errors import ErrorCode
from router.protocol import encode
from router.talk import Conversation, Lost, Return, Target, connect
from router.talk.said import Error, Goodbye, Published

#: Leaves room in a message for all but the events and the channel's name.
_ENVELOPE_BYTES = 100
_PROGRESS_S = 0.5
#: Of these every batch would be refused.
_HOPELESS = (ErrorCode.PERMISSION_DENIED, ErrorCode.UNKNOWN_CHANNEL)
_IN_BATCH = re.compile(r"^events\[\d+\]\.?")


class Publication(Struct, frozen=True):
    """What to publish, and how.

    Attributes:
        channel: Where to.
        source: Has the lines.
        name: What errors call it, for example `stdin`.
        make: Makes an event of a line.
        numbered: Whether errors name lines: not where there is but one.
        in_flight: So many batches are on their way at once.
        stop_on_error: Whether the first bad line ends it; then one batch at a time is on its way.
    """

    channel: str
    source: Source
    name: str
    make: EventMaker
    numbered: bool = True
    in_flight: int = 8
    stop_on_error: bool = False


class Publisher:
    """One run of `pub`. The mutable state is which batches wait for what; the account has what became of the others."""

    def __init__(self, publication: Publication, target: Target, notes: Notes) -> None:
        what = publication
        self._what = what
        self._target = target
        self._notes = notes
        self._window = 1 if what.stop_on_error else what.in_flight
        self._ids = itertools.count(1)
        self._lines: Lines | None = None
        #: The batch that waits for its turn.
        self._next: Batch | None = None
        self._in_flight: dict[int, Batch] = {}
        #: Held while something is sent, so that what has to wait and go again is not overtaken.
        self._sending = trio.Lock()
        self._changed = trio.Event()
        self._stopped = False
        #: The first line of a refused batch that was not sent again, since it stands behind the bad one.
        self._left_out: int | None = None
        self._taking = trio.CancelScope()
        self._failure: Lost | OSError | None = None
        self.account = Account(notes, what.channel, what.name, numbered=what.numbered)

    async def run(self) -> int:
        """Publish all there is.

        Returns:
            The exit code: 0 if every event was accepted, and nothing else stood in the input.

        Raises:
            Lost: There was no connection to begin with.
            router.talk.TalkError: The target cannot be used.

        Cancellation: `tell_open` knows what became of the lines.
        """
        async with connect(self._target, self._target.token()) as conversation:
            connected = await conversation.hear_connected()
            what, room = self._what, connected.max_message_bytes - _ENVELOPE_BYTES - len(self._what.channel)
            self._lines = Lines(what.source, what.make, self.account.refuse, room, stop_at_bad=what.stop_on_error)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._guard, nursery, self._receive, conversation)
                nursery.start_soon(self._show_progress)
                await self._guard(nursery, self._send_all, conversation)
                nursery.cancel_scope.cancel()
        if isinstance(self._failure, OSError):
            self._notes.error(f"{what.name} cannot be read: {self._failure.strerror}")
        elif self._failure is not None:
            self._notes.error(str(self._failure))
        self.tell_open()
        return 1 if self._failure is not None or self.account.refused else 0

    def tell_open(self) -> None:
        """Tell which lines were sent and not acknowledged, and which were not sent."""
        unsent: int | None = 1
        if self._left_out is not None:
            unsent = self._left_out
        elif self._next is not None:
            unsent = self._next.lines[0]
        elif self._lines is not None:
            unsent = self._lines.next_line
        self.account.tell_open((line for batch in self._in_flight.values() for line in batch.lines), unsent)

    async def _guard(
        self, nursery: trio.Nursery, work: Callable[[Conversation], Awaitable[None]], conversation: Conversation
    ) -> None:
        """Do a part of the work; the first that cannot be done ends all of it."""
        try:
            await work(conversation)
        except (Lost, OSError) as error:
            self._failure = self._failure or error
            nursery.cancel_scope.cancel()

    async def _show_progress(self) -> None:
        while self._notes.on_terminal:
            await trio.sleep(_PROGRESS_S)
            self._notes.progress(f"{self.account.accepted:,} events published")

    # Sending

    async def _send_all(self, conversation: Conversation) -> None:
        while (batch := await self._take_next()) is not None:
            async with self._sending:
                self._next = None
                await self._send(conversation, batch)
        await self._until(lambda: not self._in_flight)

    async def _take_next(self) -> Batch | None:
        """The next batch, once there is one and room for it; None: nothing more is to be sent."""
        assert self._lines is not None
        with self._taking:
            self._next = await self._lines.take()
            await self._until(lambda: len(self._in_flight) < self._window)
        self._taking = trio.CancelScope()
        return None if self._stopped else self._next

    async def _send(self, conversation: Conversation, batch: Batch) -> None:
        number = next(self._ids)
        self._in_flight[number] = batch
        head = b'{"type":"publish","id":%d,"channel":%b,"events":[' % (number, encode(self._what.channel))
        await conversation.send(head + b",".join(batch.events) + b"]}")

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed = trio.Event()
            await self._changed.wait()

    def _stop(self) -> None:
        """Send nothing more, and wait for no more input."""
        self._stopped = True
        self._taking.cancel()

    # Answers

    async def _receive(self, conversation: Conversation) -> None:
        while True:
            message, _ = await conversation.receive()
            match message:
                case Published(id=int() as number) if number in self._in_flight:
                    self.account.accept(message, len(self._in_flight.pop(number).events))
                case Error(id=int() as number) if number in self._in_flight:
                    await self._go_on(conversation, number, message)
                case Error():
                    raise Lost(f"the server did not take a message: {message.message} ({message.code})", Return.NO)
                case Goodbye():
                    self._notes.say(f"the server says goodbye: {message.reason or 'no reason given'}")
                case _:
                    pass
            self._changed.set()

    async def _go_on(self, conversation: Conversation, number: int, error: Error) -> None:
        """Send a refused batch again: all of it where it came too early, else without its bad event."""
        if error.retry_after is not None:
            async with self._sending:
                await trio.sleep(error.retry_after)
                await self._send(conversation, self._in_flight.pop(number))
            return
        batch = self._in_flight.pop(number)
        again = self._without_bad(batch, error)
        if again.events:
            await self._send(conversation, again)

    def _without_bad(self, batch: Batch, error: Error) -> Batch:
        """Tell what is wrong with a refused batch; what of it is still to be published."""
        reason = f"{_IN_BATCH.sub('', error.message)} ({error.code})"
        if self._what.stop_on_error or error.code in _HOPELESS:
            self._stop()
        index = error.index
        if index is None or index >= len(batch.events):
            self.account.refuse(batch.lines, reason)
            return Batch([], [])
        self.account.refuse([batch.lines[index]], reason)
        after = index + 1
        if self._what.stop_on_error and after < len(batch.events):
            self._left_out, after = batch.lines[after], len(batch.events)
        return Batch(batch.lines[:index] + batch.lines[after:], batch.events[:index] + batch.events[after:])
