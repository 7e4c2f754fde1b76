"""`pub` at work: batches on their way, several at a time, and an account of each line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio
from msgspec import Raw, Struct
from neurograph_ws_client import ClosedError, NeurographError, PublishUncertainError, RequestRefusedError, State
from neurograph_ws_client import Publication as Receipt

from router.cli.account import Account
from router.cli.lines import Batch, EventMaker, Lines, Source
from router.cli.target import Target, explain
from router.cli.terminal import Notes
from router.errors import ErrorCode
from router.protocol import encode

#: Leaves room in a message for all but the events and the channel's name.
_ENVELOPE_BYTES = 120
#: Of messages to a server that takes longer ones.
_MAX_MESSAGE_BYTES: Final = 16 << 20
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
        """Prepare.

        Raises:
            router.cli.target.TargetError: The target cannot be used.
        """
        what = publication
        self._what = what
        self._notes = notes
        self._window = 1 if what.stop_on_error else what.in_flight
        # It does not come back: whoever feeds us is told how far we got, and decides.
        self._client = target.client(
            auto_reconnect=False, publish_queue=self._window, publish_queue_bytes=self._window * _MAX_MESSAGE_BYTES
        )
        self._lines: Lines | None = None
        #: The batch that waits for its turn.
        self._next: Batch | None = None
        #: Each without what was refused of it.
        self._in_flight: list[Batch] = []
        self._changed = trio.Event()
        self._stopped = False
        #: The first line of a refused batch that was not sent again, since it comes after the bad one.
        self._left_out: int | None = None
        self._taking = trio.CancelScope()
        self._working = trio.CancelScope()
        self._failure = ""
        self.account = Account(notes, what.channel, what.name, numbered=what.numbered)

    async def run(self) -> int:
        """Publish all there is.

        Returns:
            The exit code: 0 if every event was accepted, and nothing else stood in the input.

        Raises:
            ConnectError: There was no connection to begin with.

        Cancellation: `tell_open` knows what became of the lines.
        """
        self._client.on("connected", self._begin)
        self._client.on("error", self._check_error)
        self._client.on("goodbye", self._tell_goodbye)
        async with self._client:
            with self._working:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_connection)
                    nursery.start_soon(self._show_progress)
                    await self._publish_all(nursery)
                    nursery.cancel_scope.cancel()
        if self._failure:
            self._notes.error(self._failure)
        self.tell_open()
        return 1 if self._failure or self.account.refused else 0

    def tell_open(self) -> None:
        """Tell which lines were sent and not acknowledged, and which were not sent."""
        unsent: int | None = 1
        if self._left_out is not None:
            unsent = self._left_out
        elif self._next is not None:
            unsent = self._next.lines[0]
        elif self._lines is not None:
            unsent = self._lines.next_line
        self.account.tell_open((line for batch in self._in_flight for line in batch.lines), unsent)

    async def _watch_connection(self) -> None:
        try:
            await self._client.run_forever()
        except ClosedError as error:
            self._fail(explain(error))

    async def _show_progress(self) -> None:
        while self._notes.on_terminal:
            await trio.sleep(_PROGRESS_S)
            self._notes.progress(f"{self.account.accepted:,} events published")

    def _fail(self, reason: str) -> None:
        """End it; the first reason is the one that is told."""
        self._failure = self._failure or reason
        self._working.cancel()

    # What the server says of itself

    def _begin(self, connected: Mapping[str, Any]) -> None:
        what = self._what
        room = min(connected["max_message_bytes"], _MAX_MESSAGE_BYTES) - _ENVELOPE_BYTES - len(encode(what.channel))
        self._lines = Lines(what.source, what.make, self.account.refuse, room, stop_at_bad=what.stop_on_error)
        self._changed.set()

    def _check_error(self, error: NeurographError) -> None:
        if isinstance(error, RequestRefusedError):
            self._fail(f"the server did not take a message: {error}")

    def _tell_goodbye(self, goodbye: Mapping[str, Any]) -> None:
        self._notes.say(f"the server says goodbye: {goodbye.get('reason') or 'no reason given'}")

    # Publishing

    async def _publish_all(self, nursery: trio.Nursery) -> None:
        try:
            await self._until(lambda: self._lines is not None)
            while (batch := await self._take_next()) is not None:
                receipt = self._publish(batch)
                self._next = None
                self._in_flight.append(batch)
                nursery.start_soon(self._follow, batch, receipt)
            await self._until(lambda: not self._in_flight)
        except ClosedError as error:
            self._fail(explain(error))
        except OSError as error:
            self._fail(f"{self._what.name} cannot be read: {error.strerror}")

    async def _take_next(self) -> Batch | None:
        """The next batch, once there is one and room for it; None: nothing more is to be sent."""
        assert self._lines is not None
        with self._taking:
            self._next = await self._lines.take()
            await self._until(lambda: len(self._in_flight) < self._window)
        self._taking = trio.CancelScope()
        return None if self._stopped else self._next

    def _publish(self, batch: Batch) -> Receipt:
        return self._client.publish_batch(self._what.channel, [Raw(event) for event in batch.events])

    async def _follow(self, batch: Batch, receipt: Receipt) -> None:
        """Wait for what becomes of a batch; what of it is not to blame for a refusal goes again."""
        try:
            while not await self._is_accepted(batch, receipt) and batch.events:
                receipt = self._publish(batch)
        except (ClosedError, PublishUncertainError) as error:
            if self._client.state is not State.CLOSED:  # otherwise it is told why
                self._fail(str(error))
            return
        self._in_flight.remove(batch)
        self._changed.set()

    async def _is_accepted(self, batch: Batch, receipt: Receipt) -> bool:
        try:
            published = await receipt
        except RequestRefusedError as error:
            self._take_out_bad(batch, error)
            return False
        self.account.accept(published, len(batch.events))
        return True

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed = trio.Event()
            await self._changed.wait()

    def _stop(self) -> None:
        """Publish nothing more, and wait for no more input."""
        self._stopped = True
        self._taking.cancel()

    def _take_out_bad(self, batch: Batch, error: RequestRefusedError) -> None:
        """Tell what is wrong with a refused batch; what stays in it is still to be published."""
        reason = f"{_IN_BATCH.sub('', error.message)} ({error.code})"
        if self._what.stop_on_error or error.code in _HOPELESS:
            self._stop()
        index = error.index
        if index is None or index >= len(batch.events):
            self.account.refuse(batch.lines, reason)
            batch.lines, batch.events = [], []
            return
        self.account.refuse([batch.lines[index]], reason)
        after = index + 1
        if self._what.stop_on_error and after < len(batch.events):
            self._left_out, after = batch.lines[after], len(batch.events)
        batch.lines[index:after] = []
        batch.events[index:after] = []
