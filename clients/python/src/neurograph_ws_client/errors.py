"""What can go wrong, as a tree.

    NeurographError
    ├── ConnectError            an attempt to connect failed
    ├── ClosedError             the client has closed, for good
    ├── NotConnectedError       it takes a connection, and there is none now
    ├── ConnectionLostError     the connection ended before the reply
    ├── RequestTimeoutError     no reply in time
    ├── RequestRefusedError     the server's error
    ├── SubscriptionDeniedError a channel may not be subscribed to, or is not there
    ├── QueueFullError          too much is waiting to be published
    ├── PublishUncertainError   nobody can tell whether it was published
    ├── MessageTooLargeError    longer than the server reads
    ├── ProtocolError           the server broke the contract
    └── HandlerError            a handler or callback of yours raised; its exception is the cause

Those that tell of a state of the network are errors of Python's own kind, too: see each.
"""

from __future__ import annotations

from neurograph_ws_client.codes import is_retryable


class NeurographError(Exception):
    """Any error of this client."""


class ConnectError(NeurographError, ConnectionError):
    """An attempt to connect failed.

    Attributes:
        code: The close code, where the server accepted a WebSocket and closed it; None otherwise.
        status: The HTTP status, where the server answered with one in place of a WebSocket; None otherwise.
        reason: Why, for people.
        retry: Whether another attempt may succeed with nothing changed.
    """

    def __init__(self, reason: str, *, code: int | None = None, status: int | None = None, retry: bool = True) -> None:
        super().__init__(reason if code is None else f"{reason} ({code})")
        self.reason = reason
        self.code = code
        self.status = status
        self.retry = retry


class ClosedError(NeurographError):
    """The client has closed, for good: by `disconnect()`, or by a close after which one stays away.

    Attributes:
        code: The close code.
        reason: The reason that came with it, or the client's own.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the client is closed: {reason or 'no reason given'} ({code})")
        self.code = code
        self.reason = reason


class NotConnectedError(NeurographError):
    """It takes a connection, and there is none now."""


class ConnectionLostError(NeurographError):
    """The connection ended before the reply came; whether the request was carried out is not known."""


class RequestTimeoutError(NeurographError, TimeoutError):
    """No reply came in time; it may have been carried out."""


class RequestRefusedError(NeurographError):
    """The server answered with an error.

    Attributes:
        code: What is wrong; see `ErrorCode`.
        message: The server's sentence.
        channel: Of the request, where it had one.
        index: Of the event at fault, in a batch.
        retry_after: How long to wait before another try, in seconds; None where the server does not say.
        epoch: The current epoch, with `history_unavailable`.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        channel: str | None = None,
        index: int | None = None,
        retry_after: float | None = None,
        epoch: str | None = None,
    ) -> None:
        super().__init__(f"{message or 'refused'} ({code})")
        self.code = code
        self.message = message
        self.channel = channel
        self.index = index
        self.retry_after = retry_after
        self.epoch = epoch

    @property
    def retryable(self) -> bool:
        """Whether the same message may succeed later, with nothing else changed."""
        return is_retryable(self.code)


class SubscriptionDeniedError(NeurographError):
    """A channel may not be subscribed to, or is not there.

    It is asked for again at the next sign-in, connection or `subscribe`.

    Attributes:
        channel: Its name.
        code: `permission_denied` or `unknown_channel`.
        withdrawn: It had been granted, and its events came up to now.
    """

    def __init__(self, channel: str, code: str, *, withdrawn: bool = False) -> None:
        super().__init__(f"subscription to {channel!r} {'withdrawn' if withdrawn else 'denied'}: {code}")
        self.channel = channel
        self.code = code
        self.withdrawn = withdrawn


class QueueFullError(NeurographError):
    """Too much is waiting to be published; await what `publish` returns, or publish less."""


class PublishUncertainError(NeurographError):
    """It was sent and not answered, and cannot be sent again safely: it may or may not have been published."""


class MessageTooLargeError(NeurographError, ValueError):
    """A message longer than the server reads; it would have closed the connection."""


class ProtocolError(NeurographError):
    """The server broke the contract."""


class HandlerError(NeurographError):
    """A handler or callback raised; its exception is the `__cause__`. The client goes on.

    Attributes:
        channel: Of the event, or the name of the callback.
    """

    def __init__(self, channel: str, error: BaseException) -> None:
        super().__init__(f"handler of {channel!r} raised {type(error).__name__}: {error}")
        self.channel = channel
        self.__cause__ = error
