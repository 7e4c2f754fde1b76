"""The client, as programs see it."""

from __future__ import annotations

import asyncio
import random
import ssl
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from neurograph_ws_client.asking import Asking
from neurograph_ws_client.backend import current
from neurograph_ws_client.core import Core
from neurograph_ws_client.dispatching import NAMES
from neurograph_ws_client.driver import Driver
from neurograph_ws_client.events import ConnectionInfo, Position, State, Token
from neurograph_ws_client.log import show_debug
from neurograph_ws_client.settings import Settings
from neurograph_ws_client.subscribing import Subscribing
from neurograph_ws_client.wire import Address

if TYPE_CHECKING:  # Trio is optional
    from neurograph_ws_client._trio import Owner

T = TypeVar("T")


class NeurographWSClient(Subscribing, Asking):
    """A client of the router, under asyncio or Trio, whichever runs where it connects.

    Calls that are no coroutines may be made at any time, but from the thread of the event loop only.

    Args:
        url: `ws://` or `wss://`; without a path it is `/ws`. A `token` in its query is taken out, and used where no
            other is given.
        token: The JWT to sign in with, or a function, sync or async, that gives one. A function is asked at each
            connection, and again before the token ends.
        auto_reconnect: Come back whenever the connection is lost.
        max_reconnect_attempts: Give up after so many attempts in a row; None: never.
        connect_timeout: For one attempt, from the token to `connected`, in seconds.
        request_timeout: For a reply, in seconds.
        close_timeout: For the server's part of a close, in seconds.
        queue_events: As soon as so many received events wait for handlers,
        queue_bytes: or so many bytes, the socket is not read until they have worked. Twice as much where a reply is
            waited for.
        publish_queue: At most so many publishes wait for their answers,
        publish_queue_bytes: and so many bytes.
        ssl_context: For `wss://`, in place of the system's certificates.
        keep_text: Events are `TextEvent`s, which have the bytes that they came in: for programs that pass them on.
        debug: Write what happens to stderr, by the logger `neurograph_ws_client`.

    Raises:
        ValueError: An argument cannot be used; the message names it.
        TypeError: `url` is no string.
    """

    def __init__(
        self,
        url: str = "ws://127.0.0.1:8000/ws",
        token: Token = None,
        auto_reconnect: bool = True,
        *,
        max_reconnect_attempts: int | None = None,
        connect_timeout: float = 10.0,
        request_timeout: float = 10.0,
        close_timeout: float = 2.0,
        queue_events: int = 10_000,
        queue_bytes: int = 16 << 20,
        publish_queue: int = 1_000,
        publish_queue_bytes: int = 1 << 20,
        ssl_context: ssl.SSLContext | None = None,
        keep_text: bool = False,
        debug: bool = False,
    ) -> None:
        self._address = Address(url)
        if ssl_context is not None and not self._address.uri.secure:
            raise ValueError(f"ssl_context: it goes with wss:// only, not with {self._address.shown}")
        self._tls = (ssl_context or ssl.create_default_context()) if self._address.uri.secure else None
        self._settings = Settings(
            auto_reconnect,
            _positive("max_reconnect_attempts", max_reconnect_attempts),
            _positive("connect_timeout", connect_timeout),
            _positive("request_timeout", request_timeout),
            _positive("close_timeout", close_timeout),
            _positive("queue_events", queue_events),
            _positive("queue_bytes", queue_bytes),
            _positive("publish_queue", publish_queue),
            _positive("publish_queue_bytes", publish_queue_bytes),
            fresh_tokens=callable(token),
            keep_text=keep_text,
        )
        self._token = self._address.token if token is None else token
        self._callbacks = dict.fromkeys(NAMES, ())
        self._random = random.SystemRandom()
        self._core = Core(self._address, self._settings, self._random.random)
        self._key_prefix = f"{self._random.getrandbits(64):016x}"
        self._task: asyncio.Task[None] | None = None
        self._owner: Owner | None = None
        self._buffers = weakref.WeakSet()
        if debug:
            show_debug()

    def __repr__(self) -> str:
        return f"<NeurographWSClient {self._address.shown} {self._core.state}>"

    # Connecting

    async def connect(self) -> None:
        """Connect once. From then on the client comes back by itself; `run_forever` waits for its end.

        Under Trio, outside of `async with client:`, nothing reads the connection before `run_forever`.

        Raises:
            ConnectError: It failed; nothing goes on then.
            ClosedError: The client is closed, for good.
            RuntimeError: It is connected already, or about to be.

        Cancellation: safe; nothing goes on then.
        """
        self._check_new("connect()")
        driver = self._driver = self._new_driver()
        try:
            await driver.open()
        except BaseException:
            self._driver = None
            raise
        self._start(driver)

    async def run_forever(self) -> None:
        """Wait until the client is closed by `disconnect()`; without `connect()` before, connect, retrying.

        Raises:
            ClosedError: The server closed it in a way after which one stays away; names the code and the reason.
            ConnectError: It cannot be reached, and trying again would not help.

        Cancellation: ends the client, if `connect()` or `async with` does not own it.
        """
        driver = self._driver
        if driver is None:
            self._check_new("run_forever()")
            driver = self._driver = self._new_driver()
        if self._task is not None:
            await asyncio.shield(self._task)
        elif driver.serving:
            await driver.until_ended()
        else:
            await self._serve(driver)
        if self._core.final is not None:
            raise self._core.final

    async def disconnect(self) -> None:
        """Close the client for good. It takes `close_timeout` and two seconds at most, and then nothing is left.

        What was published and not sent yet still goes out. Called in a handler, it does not wait for the end.
        """
        driver, task = self._driver, self._task
        self._core.close(0.0 if driver is None else driver.backend.now())
        self._end_streams()  # a handler may be waiting for one to be read
        if driver is not None:
            await driver.end()
        if task is not None and driver is not None and not driver.is_own_task():
            await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        """Connect; what was started ends with the block.

        Raises:
            ConnectError: It failed; nothing goes on then.
            ClosedError: The client is closed, for good.
            RuntimeError: It is connected already, or about to be.
        """
        self._check_new("async with")  # before there is a nursery, which could not be closed within another one
        if current().needs_nursery:
            from neurograph_ws_client._trio import Owner

            self._owner = await Owner.open()
        try:
            await self.connect()
        except BaseException:
            await self._end_owner()  # noqa: ASYNC102 - it has been cancelled, so it does not wait
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        backend = self._driver.backend if self._driver is not None else current()
        try:
            await backend.shielded(self._settings.close_timeout_s + 4, self.disconnect)  # noqa: ASYNC102 - it is shielded
        finally:
            await self._end_owner()  # noqa: ASYNC102 - it has been cancelled, so it does not wait

    async def _end_owner(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            await owner.close()

    def is_connected(self) -> bool:
        """Whether there is a connection now, on which `connected` was heard."""
        return self._core.state is State.OPEN

    @property
    def state(self) -> State:
        """Where the client is."""
        return self._core.state

    def get_connection_info(self) -> ConnectionInfo:
        """What is known of the connection, also of the last one."""
        core, server = self._core, self._core.connected
        return {
            "url": self._address.shown,
            "state": core.state,
            "client_id": None if server is None else server.client_id,
            "user_id": None if server is None else server.user_id,
            "role": None if server is None else server.role,
            "epoch": None if server is None else server.epoch,
            "connected_at": core.connected_at,
            "subscriptions": self.get_subscriptions(),
            "positions": self._positions(),
            "reconnects": core.reconnects,
            "queued": len(core.publishes),
        }

    # How it is done

    def _new_driver(self) -> Driver:
        return Driver(self._core, self._address, self._settings, self._tls, self._token, self._callbacks, current())

    def _check_new(self, name: str) -> None:
        self._check_open()
        if self._core.state is not State.IDLE or self._driver is not None:
            raise RuntimeError(f"{name}: the client is {self._core.state} already; disconnect() ends it, for good")

    def _start(self, driver: Driver) -> None:
        """Start what goes on from now, if there is somebody to own it."""
        if not driver.backend.needs_nursery:
            driver.serving = True
            self._task = asyncio.create_task(self._serve(driver), name="neurograph_ws_client")
        elif self._owner is not None:
            driver.serving = True
            self._owner.start(lambda: self._serve(driver))

    async def _serve(self, driver: Driver) -> None:
        try:
            await driver.serve()
        finally:
            self._end_streams()

    def _end_streams(self) -> None:
        final = self._core.final
        error = None if final is None else self._core.closed_error()
        for buffer in list(self._buffers):
            buffer.end(error, drop=error is None)

    def _positions(self) -> dict[str, Position]:
        """Where the handlers have got to; where an iterator is behind the others, it counts."""
        found = {name: at for name, one in self._core.subscriptions.wanted.items() if (at := one.done) is not None}
        for buffer in list(self._buffers):
            behind, at = buffer.behind, found.get(buffer.channel)
            if behind is not None and at is not None and (behind.epoch != at.epoch or behind.seq < at.seq):
                found[buffer.channel] = behind
        return {name: {"epoch": at.epoch, "seq": at.seq} for name, at in found.items()}


def _positive(name: str, value: T) -> T:
    if value is not None and not (isinstance(value, (int, float)) and value > 0):
        raise ValueError(f"{name}: it must be above 0 (got {value!r})")
    return value
