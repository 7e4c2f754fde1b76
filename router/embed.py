"""The router inside another program: under that program's Trio, or in a separate thread beside anything else.

    from router.embed import Router

    with Router() as router:  # any program: the router runs in a separate thread
        router.broadcast_signal_event("signal.input.text", event_id="evt-1", priority=200)

    async with Router() as router:  # under Trio: in a nursery of the block; under asyncio: in a thread, as above
        router.broadcast_signal_event("signal.input.text", event_id="evt-1", priority=200)

A block is entered once the router accepts connections. When it is left, the router goes down in order: what was
broadcast is sent, then every client gets its goodbye. Signals are never taken, they are the program's. The limit of
open files of the whole process is raised as far as it goes. A process that forks must start its router after the fork.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

import msgspec
import trio

from router import logs
from router.addresses import host_in_url
from router.broadcaster import Broadcaster
from router.config import Config, ConfigError
from router.door.listening import Addresses
from router.errors import RouterError
from router.feeds.host import HostQueue, RouterClosedError
from router.feeds.logs import LogHandler
from router.feeds.metrics import HostNumbers
from router.integrations import dismiss, enlist
from router.loading.checks import check_together
from router.protocol import field_error
from router.server import Server
from router.trio_thread import TrioThread

#: The longest that a start may take: keys may have to be fetched.
START_S = 60.0
#: What going down may take beyond its own deadlines, for the services to stop one after another.
_MORE_FOR_STOPPING_S = 30.0
#: How long a router that was cancelled may take to end.
_ENDING_S = 5.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked for, not bound


class Router(Broadcaster):
    """A router for the program that makes it. It runs once: each start takes a fresh one.

    The mutable state is where it listens and what it failed of: the task that runs the server sets them before it
    tells whoever waits. Everything else belongs to whoever enters and leaves.
    """

    def __init__(self, config: Config | None = None) -> None:
        """Make a router; nothing starts yet.

        Args:
            config: The settings; None: the defaults. `router.loading.load` reads a file and the environment.

        Raises:
            ConfigError: A setting cannot be used, alone or beside another.
        """
        self._config = _checked(config or Config())
        self._host, numbers = HostQueue(self._config), HostNumbers()
        super().__init__(self._config, self._host, numbers)
        self._log_handler = LogHandler()
        self._server = Server(self._config, self._log_handler, self._host, numbers)
        self._addresses: Addresses = []
        self._failure: Exception | None = None
        self._used = False
        self._thread: TrioThread | None = None
        self._block: AbstractAsyncContextManager[None] | None = None

    # What there is to know

    @property
    def addresses(self) -> Addresses:
        """Host and port of each socket that it listens on; none before it has started."""
        return [*self._addresses]

    @property
    def url(self) -> str:
        """Where clients on this machine open a WebSocket."""
        return f"{self._base('ws')}/ws"

    @property
    def http_url(self) -> str:
        """Where its HTTP interface begins, for clients on this machine."""
        return self._base("http")

    def _base(self, scheme: str) -> str:
        if not self._addresses:
            raise RouterClosedError("the router has not started, so it has no address yet")
        host, port = self._addresses[0]
        host = _ANY_ADDRESS.get(host, host)
        secure = "s" if self._config.tls_certificate_file else ""
        return f"{scheme}{secure}://{host_in_url(host)}:{port}"

    def log_handler(self) -> LogHandler:
        """A handler for the program's own loggers: their records become events of the channel `logs`.

        It never waits, loops or raises, before the start and after the end neither. The newest 1,000 records wait for
        the router. Tokens are redacted.
        """
        return self._log_handler

    # In a separate thread

    def start(self) -> None:
        """Run in a separate thread; returns once connections are accepted. Not to be called from a Trio task.

        Raises:
            ConfigError: A key cannot be used, or the address cannot be bound.
            router.auth.KeyConfigError: Likewise.
            RouterError: It did not start within a minute, or its thread did not end.
            RuntimeError: It has run before.
        """
        if trio.lowlevel.in_trio_task():
            raise RuntimeError("a Trio task must not wait for a thread: say `async with Router(…) as router:`")
        self._use()
        thread = TrioThread("neurograph-router", self._run, self._server.stop, ending_s=_ENDING_S)
        thread.start(START_S)
        if not self._addresses:
            thread.end(_ENDING_S)
            raise self._failure or RouterError(f"the router did not start within {START_S:g} s")
        self._thread = thread
        enlist(self)

    def stop(self) -> None:
        """Go down in order; returns once that is done. Where the router does not run, it does nothing.

        Raises:
            RouterError: Its thread does not end.
            Exception: What the router failed of, if it did.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                thread.end(self._config.drain_s + self._config.close_s + _MORE_FOR_STOPPING_S)
            finally:
                dismiss(self)
            if self._failure is not None:
                raise self._failure

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.stop()
        except Exception as failure:
            _conclude(error, failure)

    # Under Trio; under asyncio, in a thread, which the loop waits for only at the start

    async def __aenter__(self) -> Self:
        if trio.lowlevel.in_trio_task():
            self._use()
            self._block = self._under_trio()
            await self._block.__aenter__()
        else:
            self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool | None:
        if self._block is not None:
            return await self._block.__aexit__(kind, error, at)  # noqa: ASYNC102 - it sees to that itself
        return await asyncio.to_thread(self.__exit__, kind, error, at)  # noqa: ASYNC102 - under asyncio

    @asynccontextmanager
    async def _under_trio(self) -> AsyncIterator[None]:
        """Run while the block does.

        Cancellation: everything ends at once, without goodbye. The block is cancelled where the router fails.
        """
        failed: BaseException | None = None
        block, ended = trio.CancelScope(), trio.Event()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            await self._run(task_status.started)
            ended.set()
            block.cancel()
            if not self._addresses:
                task_status.started()  # it failed, as is said below

        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(run)
                if self._addresses:
                    enlist(self)
                    try:
                        with block:
                            yield
                    finally:
                        self._server.stop()
                        dismiss(self)
                        await ended.wait()  # noqa: ASYNC102 - cancelled, it is to end at once
        except BaseExceptionGroup as group:  # the nursery's
            failed = group.exceptions[0] if len(group.exceptions) == 1 else group
        if self._failure is not None:
            _conclude(failed, self._failure)
        if failed is not None:
            raise failed

    # Both

    def _use(self) -> None:
        if self._used:
            raise RuntimeError("this router has run before; make a fresh one")
        self._used = True
        logs.keep_to_the_host()

    async def _run(self, started: Callable[[], None]) -> None:
        """Run the server to its end, and keep the error that it fails with; without addresses, it never started."""
        reason = "the router has ended"
        try:
            async with trio.open_nursery() as nursery:
                self._addresses = await nursery.start(self._server.run)
                started()
        except Exception as error:
            self._failure = _innermost(error)
            reason = f"the router has failed: {self._failure!r}"
        finally:
            self._host.close(reason)


def _checked(config: Config) -> Config:
    """Check a configuration that was made in code; in what is returned the name of a policy is a `Policy`."""
    try:
        checked = msgspec.convert(msgspec.to_builtins(config), Config)
    except msgspec.ValidationError as error:
        raise ConfigError(field_error(error)) from None
    except TypeError as error:
        raise ConfigError(f"a value of a type that no setting has: {error}") from None
    check_together(checked)
    return checked


def _innermost(error: Exception) -> Exception:
    """The error itself, out of the groups that nurseries wrap it in."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        (error,) = error.exceptions
    return error


def _conclude(error: BaseException | None, failure: Exception) -> None:
    """Raise the router's error, and with it the block's, where that is a different one.

    An interrupt, or the like, goes on as it is: the failure has been logged.
    """
    if error is None or isinstance(error, RouterClosedError):
        raise failure
    if isinstance(error, Exception):
        raise ExceptionGroup("the router failed, and so did the block that it ran for", [failure, error])
