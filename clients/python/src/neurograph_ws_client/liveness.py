"""Whether the server lives, and how it is shown that we do; no I/O and no clock."""

from __future__ import annotations

import enum
from typing import Final

#: How long after a heartbeat that did not come the server counts as dead.
GRACE_S: Final = 15.0
#: A check that comes so late was held up itself: then the reader gets as long to show that the server lives.
_LATE_S: Final = 1.0


class Sign(enum.Enum):
    """What a check may find."""

    #: The server was silent too long.
    DEAD = enum.auto()
    #: The server is to be shown that we live.
    PONG = enum.auto()


class Liveness:
    """Of one connection.

    While the socket is read, the server's heartbeats are awaited, and answered by the WebSocket layer. While it is not,
    because handlers are slow, they are neither seen nor answered: silence means nothing then, and pongs that nobody
    asked for keep the connection.

    Args:
        heartbeat_s: How often the server sends a heartbeat, in seconds.
        now: The time.
    """

    def __init__(self, heartbeat_s: float, now: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._heard_at = now
        self._pong_at = now
        self.reading = True

    @property
    def silence_s(self) -> float:
        """The silence that is death, in seconds."""
        return self._heartbeat_s + GRACE_S

    def heard(self, now: float) -> None:
        """Bytes came."""
        self._heard_at = now

    def set_reading(self, reading: bool, now: float) -> None:
        """The socket is read, or is not."""
        self.reading = reading
        self._heard_at = self._pong_at = now

    def deadline(self) -> float:
        """When to `check`."""
        return self._heard_at + self.silence_s if self.reading else self._pong_at

    def check(self, now: float) -> Sign | None:
        """What time has brought."""
        late_s = now - self.deadline()
        if late_s < 0:
            return None
        if not self.reading:
            self._pong_at = now + self._heartbeat_s / 2
            return Sign.PONG
        if late_s < _LATE_S:
            return Sign.DEAD
        self._heard_at = now + _LATE_S - self.silence_s
        return None
