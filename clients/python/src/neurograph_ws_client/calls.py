"""What all calls of the client stand on."""

from __future__ import annotations

import weakref

from neurograph_ws_client.core import Core
from neurograph_ws_client.driver import Driver
from neurograph_ws_client.events import Callback, State, Token
from neurograph_ws_client.iterating import Buffer

_UNREAD = (
    "{}: nothing reads the connection, so no reply can come. Under asyncio, connect() first; under Trio, a task needs "
    "a nursery: use `async with client:`, or call this in another task while run_forever() runs"
)


class Calls:
    """The state of a client, for the classes that the client is made of."""

    _core: Core
    _token: Token
    #: By name, all that `on` knows.
    _callbacks: dict[str, tuple[Callback, ...]]
    #: Of the iterators that are not left.
    _buffers: weakref.WeakSet[Buffer]
    #: What makes keys of this client's own.
    _key_prefix: str
    #: None before the first connection.
    _driver: Driver | None = None

    def _check_open(self) -> None:
        if self._core.state is State.CLOSED:
            raise self._core.closed_error()

    def _reading(self, name: str) -> Driver:
        """The driver, where it reads the connection, so that a reply can come."""
        driver = self._driver
        if driver is None and self._core.state is State.CLOSED:
            raise self._core.closed_error()
        if driver is None or not (driver.serving or self._core.state is State.CLOSED):
            raise RuntimeError(_UNREAD.format(name))
        return driver

    def _check_events(self) -> None:
        if self._core.state not in (State.CONNECTING, State.CLOSED):
            self._reading("events")
