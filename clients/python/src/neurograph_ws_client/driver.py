"""Drives a core on an event loop: opens sockets, reads and writes them, keeps time, and comes back when one is lost."""

from __future__ import annotations

import os
import ssl
from typing import Any, Final, TypeVar

from neurograph_ws_client.backend import Backend, Stream, Wake
from neurograph_ws_client.core import Core
from neurograph_ws_client.dispatching import Dispatcher
from neurograph_ws_client.errors import ConnectError, NeurographError
from neurograph_ws_client.events import Callback, State, Token
from neurograph_ws_client.requests import Reply
from neurograph_ws_client.settings import Settings
from neurograph_ws_client.wire import Address

T = TypeVar("T")

#: More at a time would be slower: what one read brings should stay in the processor's cache until it is worked on.
_READ_BYTES: Final = 1 << 16
#: How long the socket may take to be closed.
_SHUT_S: Final = 1.0


class Driver:
    """The tasks of one client, and its socket.

    Args:
        core: The state machine.
        address: Where to connect to.
        settings: The core's.
        tls: For `wss://`.
        token: Gives the JWT.
        callbacks: By name.
        backend: The event loop.
    """

    def __init__(
        self,
        core: Core,
        address: Address,
        settings: Settings,
        tls: ssl.SSLContext | None,
        token: Token,
        callbacks: dict[str, tuple[Callback, ...]],
        backend: Backend,
    ) -> None:
        self._core = core
        self._address = address
        self._settings = settings
        self._tls = tls
        self.token = token
        self.backend = backend
        self._stream: Stream | None = None
        self._tasks: set[object] = set()
        #: `serve` runs.
        self.serving = False
        self._ended = backend.event()
        self._killed = Wake(backend)
        self._output, self._room, self._time = Wake(backend), Wake(backend), Wake(backend)
        self._state, self._fresh = Wake(backend), Wake(backend)
        self._dispatcher = Dispatcher(core, callbacks, backend, self._room.set)
        core.on_output = self._output.set
        core.on_change = self._wake_all

    def _wake_all(self) -> None:
        for wake in (self._output, self._room, self._time, self._state, self._fresh):
            wake.set()
        self._dispatcher.wake_all()

    # Opening

    async def open(self) -> None:
        """Make one attempt, up to `connected`. Nothing goes on after a failure.

        Raises:
            ConnectError: It failed.
            ClosedError: The client was closed meanwhile.
        """
        error = await self._attempt()
        if self._core.state is State.CLOSED:  # whoever closed it says goodbye
            raise self._core.closed_error()
        if error is not None:
            self._core.stop_connecting()
            raise error

    async def _attempt(self) -> ConnectError | None:
        """Try to connect. Returns what went wrong; where it was closed as soon as it was open, that is left to say."""
        core, failure = self._core, ConnectError("the client was closed")
        core.start()
        ended = False

        async def connect() -> None:
            nonlocal failure
            try:
                await self._connect()
            except ConnectError as error:
                if not self._is_connecting():
                    return  # the core has closed, and knows why
                error.args = (f"cannot connect to {self._address.shown}: {error}",)
                failure = error
            except OSError as error:
                failure = _unreachable(self._address, error)
            except NeurographError:
                pass  # the core has closed, and knows why

        try:
            await self.backend.within(
                self._settings.connect_timeout_s, lambda: self.backend.race(connect, self._until_closed)
            )
            ended = True
        except TimeoutError:
            ended = True
            failure = ConnectError(
                f"no `connected` from {self._address.shown} within {self._settings.connect_timeout_s:g} s"
                + ("" if core.token else "; does it want a token?")
            )
        finally:
            done = ended and (core.state is State.OPEN or core.closing)
            if not done:
                await self.backend.shielded(_SHUT_S, self._shut)  # noqa: ASYNC102 - it is what it says
                if core.state is State.CONNECTING and not self.serving:
                    core.stop_connecting()
        return None if done else failure

    async def _connect(self) -> None:
        core, uri = self._core, self._address.uri
        token = await self._ask_token()
        if not self._is_connecting():
            return  # it was closed meanwhile
        core.begin(token, self.backend.now())
        stream = self._stream = await self.backend.connect(uri.host, uri.port, self._tls)
        while self._is_connecting():
            data = core.to_send(self.backend.now())
            if data:
                await stream.send(data)
            data = await stream.receive(_READ_BYTES)
            if not self._is_connecting():
                return
            if data:
                core.receive(data, self.backend.now())
            else:
                core.receive_eof()

    def _is_connecting(self) -> bool:
        return self._core.state is State.CONNECTING

    async def _ask_token(self) -> str | None:
        token: Any = self.token
        if callable(token):
            try:
                token = token()
                if hasattr(token, "__await__"):
                    token = await token
            except Exception as error:
                raise ConnectError(f"token: the function raised {type(error).__name__}: {error}") from error
        if token is None:
            return None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise ConnectError(
                "token: not a JWT; it must be a string, or a function that gives one, without a space or line break",
                retry=False,
            )
        return token

    async def _until_closed(self) -> None:
        while self._core.state is not State.CLOSED:
            await self._state.wait()

    # Serving

    async def serve(self) -> None:
        """Keep the connection, come back when it is lost, hand out events; until the client is closed.

        Cancellation: the connection is closed, which takes `close_timeout_s` at most, and the client with it.
        """
        self.serving = True
        try:
            await self.backend.race(self._live, self._keep_time, self._freshen, self._killed.wait)
        finally:
            self.serving = False
            self._core.close(self.backend.now(), "the task or event loop that it ran in has ended")
            self._ended.set()

    async def _live(self) -> None:
        await self.backend.together(self._stay_connected, self._handle, self._tell)

    async def _handle(self) -> None:
        self._tasks.add(self.backend.task())
        await self._dispatcher.handle()

    async def _tell(self) -> None:
        self._tasks.add(self.backend.task())
        await self._dispatcher.tell()

    async def _stay_connected(self) -> None:
        self._tasks.add(self.backend.task())
        core, now = self._core, self.backend.now
        while core.state is not State.CLOSED or self._stream is not None:
            if self._stream is not None:  # also one that is to be closed, before anybody has read it
                await self._converse()
                continue
            delay_s = core.retry_at - now()
            if core.state is State.WAITING and delay_s > 0:
                try:
                    await self.backend.within(delay_s, self._until_closed)
                except TimeoutError:
                    pass
                continue
            error = await self._attempt()
            if error is not None:
                core.failed(error, now())
        self._dispatcher.finish()

    async def _converse(self) -> None:
        """Read and write a connection to its end."""
        core = self._core
        try:
            await self.backend.race(self._read, self._write, self._until_over)
        except BaseException:
            core.close(self.backend.now(), "the task or event loop that it ran in has ended")
            raise
        finally:
            await self.backend.shielded(_SHUT_S, self._shut)  # noqa: ASYNC102 - it is what it says
            core.ended(self.backend.now())

    async def _read(self) -> None:
        core, now, stream, inbox = self._core, self.backend.now, self._stream, self._core.inbox
        assert stream is not None
        while not core.over:
            while not core.may_read(now()):
                await self._room.wait()
            try:
                data = await stream.receive(_READ_BYTES)
            except OSError:
                data = b""
            if data:
                core.receive(data, now())
            else:
                core.receive_eof()
            if inbox:
                self._dispatcher.wake()
            if core.has_output:
                self._output.set()

    async def _write(self) -> None:
        core, now, stream = self._core, self.backend.now, self._stream
        assert stream is not None
        while True:
            await self.backend.check_cancelled()
            data = core.to_send(now())
            if not data:
                await self._output.wait()
                continue
            try:
                await stream.send(data)
            except OSError:
                await self.backend.event().wait()  # for ever: the reader finds out why, or time does

    async def _until_over(self) -> None:
        while not self._core.over:
            await self._state.wait()

    async def _shut(self) -> None:
        """Send what is left, and close the socket."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            data = self._core.to_send(self.backend.now())
            if data:
                await stream.send(data)
        except OSError:
            pass
        finally:
            await stream.close()  # noqa: ASYNC102 - whoever calls this shields it

    async def _keep_time(self) -> None:
        core, now = self._core, self.backend.now
        while True:
            deadline = core.deadline(now())
            if deadline is None:
                await self._time.wait()
                continue
            try:
                await self.backend.within(max(0.0, deadline - now()), self._time.wait)
            except TimeoutError:
                pass
            if now() >= deadline:
                core.tick(now())

    async def _freshen(self) -> None:
        """Sign in again when the token ends soon. The same one again would not prolong it, so it is not sent."""
        self._tasks.add(self.backend.task())
        core = self._core
        while True:
            await self._fresh.wait()
            if not core.wants_token or not callable(self.token):
                continue
            core.wants_token = False
            try:
                token = await self.backend.within(self._settings.connect_timeout_s, self._ask_token)
                if token not in (None, core.token) and core.state is State.OPEN:
                    core.request("authenticate", {"type": "authenticate", "token": token}, self.backend.now())
            except TimeoutError:
                core.notices.error(ConnectError("token: the function gave none in time"))
            except NeurographError as error:
                core.notices.error(error)

    # For the client

    async def wait(self, reply: Reply[T]) -> T:
        """The answer. Cancellation: safe; the answer is then lost.

        Raises:
            NeurographError: The error in its place.
        """
        reply.awaited = True
        if not reply.done:
            event = self.backend.event()
            before = reply.on_done

            def done() -> None:
                if before is not None:
                    before()
                event.set()

            reply.on_done = done
            await event.wait()
        return reply.result()

    async def until_ended(self) -> None:
        """Until `serve` has ended."""
        await self._ended.wait()

    async def end(self) -> None:
        """Close the client, and wait until nothing of it goes on; called in a handler, it does not wait."""
        self._core.close(self.backend.now())
        if not self.serving:
            if self._core.closing:  # otherwise there is none, or the attempt ends that sees this
                await self._say_goodbye()
        elif not self.is_own_task():
            try:
                await self.backend.within(self._settings.close_timeout_s + 2 * _SHUT_S, self._ended.wait)
            except TimeoutError:
                pass  # a handler goes on, and is cut off now
            finally:
                self._killed.set()
            await self._ended.wait()

    def is_own_task(self) -> bool:
        """Whether the task that asks is one of the client's own: a handler or a callback runs."""
        return self.backend.task() in self._tasks

    async def _say_goodbye(self) -> None:
        """Close a connection that nothing reads: between `connect` and `run_forever`."""
        try:
            await self.backend.within(self._settings.close_timeout_s, self._converse)
        except TimeoutError:
            pass


def _unreachable(address: Address, error: OSError) -> ConnectError:
    """Say why there is no connection."""
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup) and isinstance(cause.exceptions[0], OSError):
        error = cause.exceptions[0]
    if isinstance(error, ssl.SSLCertVerificationError):
        reason, retry = f"its certificate is not trusted: {error.verify_message}; give its CA by ssl_context", False
    elif isinstance(error, ssl.SSLError):
        reason, retry = f"TLS failed: {error.reason or error}; does it want ws://?", False
    else:
        reason, retry = error.strerror or str(error) or "it hung up", True
        if error.errno is not None and error.errno > 0:  # those of name look-ups are not
            reason = os.strerror(error.errno)
    return ConnectError(f"cannot connect to {address.shown}: {reason}", retry=retry)
