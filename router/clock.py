"""Wall-clock time as the wire has it: UTC, RFC 3339 with `Z`, milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Gives the time as text, formatting each second once.

    The mutable state is the last second formatted; one task's sync calls change it.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._second: int | None = None
        self._prefix = ""

    def unix_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self._now() * 1000)

    def unix_s(self) -> float:
        """Seconds since 1970."""
        return self._now()

    def timestamp(self, unix_ms: int | None = None) -> str:
        """A time as RFC 3339 text; now, where none is given."""
        seconds, millis = divmod(self.unix_ms() if unix_ms is None else unix_ms, 1000)
        if seconds != self._second:
            self._second = seconds
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return f"{self._prefix}.{millis:03d}Z"


def timestamp_of(unix_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 text, where no clock is at hand."""
    return _text(_EPOCH + timedelta(milliseconds=unix_ms))


def as_timestamp(moment: datetime) -> str:
    """A moment of any zone as RFC 3339 text; milliseconds, rounded down."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # within a day of the first or the last moment there is: before or after all events anyway
        moment = moment.replace(tzinfo=UTC)
    return _text(moment)


def _text(utc: datetime) -> str:
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
