"""Whether to come back after a failure or a loss, and when; no I/O and no clock."""

from __future__ import annotations

from collections.abc import Callable

from neurograph_ws_client.backoff import Backoff
from neurograph_ws_client.codes import CloseCode, Reconnect, reconnect_after
from neurograph_ws_client.errors import ClosedError, ConnectError
from neurograph_ws_client.messages import Connected
from neurograph_ws_client.settings import Settings
from neurograph_ws_client.wire import Close

Last = ClosedError | ConnectError


class Returning:
    """Counts attempts, and remembers a token that is of no use.

    Args:
        settings: How to behave.
        random: Gives a number from 0 to 1, for the backoff.
    """

    def __init__(self, settings: Settings, random: Callable[[], float]) -> None:
        self._settings = settings
        self._backoff = Backoff(random)
        self._refused: tuple[str | None, Last] | None = None
        #: Those in a row that led to no connection.
        self.attempts = 0
        #: When to come back, where the server has said so, in seconds.
        self.after_s: float | None = None

    def opened(self) -> None:
        """There is a connection."""
        self._refused, self.attempts, self.after_s = None, 0, None

    def refusal(self, token: str | None) -> Last | None:
        """Why the server would refuse this token; None: nobody knows that it would."""
        return self._refused[1] if self._refused is not None and self._refused[0] == token else None

    def failed(self, error: ConnectError, token: str | None, server: Connected | None) -> Last | None:
        """An attempt has failed. Returns why it was the last one; None: there is to be another.

        Args:
            error: What went wrong.
            token: The one that it came with.
            server: What the server said at the last connection; None: there was none. Loses its session where that may
                be what is refused.
        """
        self.attempts += 1
        most = self._settings.max_reconnect_attempts
        if not self._may_succeed(error, token, server):
            return error
        if most is not None and self.attempts >= most:
            return ConnectError(f"gave up after {self.attempts} attempts; the last: {error}")
        return None

    def _may_succeed(self, error: ConnectError, token: str | None, server: Connected | None) -> bool:
        if error.code is None:
            # Where the router was before, a proxy may answer in its place while it is away.
            return error.retry or server is not None
        if reconnect_after(error.code) is not Reconnect.WITH_FRESH_TOKEN:
            return error.retry
        if not self._settings.fresh_tokens:
            return False
        if error.code == CloseCode.POLICY_VIOLATION and server is not None and server.reconnection_token is not None:
            # The token may be good, and only the session another user's: once without it.
            server.reconnection_token = None
        else:
            self._refused = token, error
        return True

    def lost(self, close: Close, token: str | None) -> Last | None:
        """A connection was lost. Returns why it was the last one; None: there is to be another.

        Args:
            close: How it ended.
            token: The one that was in force.
        """
        again = Reconnect.YES if close.ours else reconnect_after(close.code)
        error = ClosedError(close.code, close.reason)
        if again is Reconnect.WITH_FRESH_TOKEN and self._settings.fresh_tokens:
            self._refused = token, error
            again = Reconnect.YES
        return None if again is Reconnect.YES and self._settings.auto_reconnect else error

    def delay_after_failure(self) -> float:
        """How long to wait after an attempt, in seconds."""
        return self._backoff.failed()

    def delay_after_loss(self, lasted_s: float) -> float:
        """How long to wait after a connection that lasted so many seconds, in seconds."""
        drawn = self._backoff.lost(lasted_s)
        return drawn if self.after_s is None else self.after_s
