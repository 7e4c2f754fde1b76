"""Hands what was received to handlers, and tells callbacks. What they raise is reported and goes no further."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from neurograph_ws_client.backend import Backend, Wake
from neurograph_ws_client.core import Core
from neurograph_ws_client.errors import HandlerError, NeurographError
from neurograph_ws_client.events import Callback, State
from neurograph_ws_client.inbox import Item, Mark
from neurograph_ws_client.iterating import Buffer
from neurograph_ws_client.log import log

#: Handlers that never wait run no longer than this before others run.
_SLICE_S: Final = 0.01

#: What `on` knows.
NAMES: Final = (
    "connected", "disconnected", "error", "pong", "gap", "reconnecting", "token_expiring", "goodbye",
)  # fmt: skip


class Dispatcher:
    """Works off the inbox and the notices of a core.

    Args:
        core: Whose.
        callbacks: By name.
        backend: The event loop.
        on_room: Called when the inbox has become shorter.
    """

    def __init__(
        self, core: Core, callbacks: dict[str, tuple[Callback, ...]], backend: Backend, on_room: Callable[[], None]
    ) -> None:
        self._core = core
        self._callbacks = callbacks
        self._backend = backend
        self._on_room = on_room
        self._arrived = Wake(backend)
        self._told = Wake(backend)
        #: Nothing more will come in.
        self._last = False

    def wake(self) -> None:
        """Events have come."""
        self._arrived.set()

    def wake_all(self) -> None:
        """Anything may have come."""
        self._arrived.set()
        self._told.set()

    def finish(self) -> None:
        """Nothing more will come: end with what is there."""
        self._last = True
        self.wake_all()

    async def handle(self) -> None:
        """Hand out events and gaps, in order, until `finish`. Cancellation: a handler may be cut off."""
        inbox = self._core.inbox
        while True:
            items = inbox.first()
            if items is not None:
                await self._hand_out(items)
                inbox.done()
                self._on_room()
            elif self._last:
                return
            else:
                await self._arrived.wait()

    async def _hand_out(self, items: list[Item]) -> None:
        """The loop that each event passes."""
        core, now = self._core, self._backend.now
        until = now() + _SLICE_S
        for subscription, item in items:
            if core.state is State.CLOSED and core.final is None:
                return  # `disconnect` was called
            if subscription is None:
                await self._pass(item)
                continue
            for handler in subscription.handlers:
                try:
                    result = handler(item)
                    if result is not None and isinstance(result, Coroutine):  # not a publish that a lambda gives back
                        await result
                except BaseException as error:  # noqa: ASYNC103 - a cancellation is raised again
                    self._caught(subscription.channel, error)
            seq = item.get("seq")
            if seq is not None:
                subscription.done_seq = seq
            if now() > until:
                await self._backend.breathe()
                until = now() + _SLICE_S

    async def _pass(self, mark: Mark) -> None:
        """The stream has moved on, or there is a gap."""
        subscription = mark.subscription
        if subscription is not None:
            for handler in subscription.handlers:
                if isinstance(handler, Buffer) and (room := handler(mark)) is not None:
                    await room
        if mark.gap is not None:
            await self._tell("gap", mark.gap)
        if subscription is not None and mark.at is not None:
            subscription.done_epoch, subscription.done_seq = mark.at.epoch, mark.at.seq

    async def tell(self) -> None:
        """Tell callbacks of what happens to the connection, until `finish`. Cancellation: one may be cut off."""
        notices = self._core.notices
        while True:
            notice = notices.take()
            if notice is not None:
                name, argument = notice
                if name == "error" and not self._callbacks["error"]:
                    _log(argument)
                await self._tell(name, argument)
            elif self._last:
                return
            else:
                await self._told.wait()

    async def _tell(self, name: str, argument: Any) -> None:
        for callback in self._callbacks[name]:
            try:
                result = callback(argument)
                if isinstance(result, Coroutine):
                    await result
            except BaseException as error:  # noqa: ASYNC103 - a cancellation is raised again
                if name == "error" and isinstance(error, Exception):
                    log.error("a callback for 'error' raised", exc_info=error)  # to report it might never end
                else:
                    self._caught(name, error)

    def _caught(self, name: str, error: BaseException) -> None:
        """A handler or callback has raised: report it, or let through what is no mistake of its own."""
        if not isinstance(error, Exception) and not self._backend.is_stray(error):
            raise error
        self._core.notices.error(HandlerError(name, error))


def _log(error: NeurographError) -> None:
    log.warning("%s", error, exc_info=error.__cause__)
