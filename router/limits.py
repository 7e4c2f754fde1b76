"""Token buckets: how often a client may send each kind of control message; no I/O.

Reference: the token bucket of RFC 2697 section 3, with one colour.
"""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta, Struct

#: Floats carry a monotonic clock of some days no finer than this: the wait is told that much longer, so that it is
#: surely over.
_CLOCK_GRAIN_S = 1e-6


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """A bucket's size, in messages, and how many it regains a second."""

    burst: Annotated[float, Meta(ge=1, le=1e9)]  # with infinity nothing could be reckoned
    per_s: Annotated[float, Meta(gt=0, le=1e9)]


class Bucket:
    """One bucket, full at the start. The mutable state is its level and when that was; its reader changes it."""

    __slots__ = ("_level", "_rate", "_when")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._level = rate.burst
        self._when = now

    def take(self, now: float, amount: int = 1) -> float:
        """Take messages out, all or none.

        Args:
            now: Seconds on a monotonic clock.
            amount: How many; more than the bucket holds pass when it is full, and leave it in debt.

        Returns:
            0 if they were there, else the seconds until they will be, rounded up to milliseconds.
        """
        rate = self._rate
        self._level = min(rate.burst, self._level + (now - self._when) * rate.per_s)
        self._when = now
        needed = min(amount, rate.burst)
        if self._level >= needed:
            self._level -= amount
            return 0.0
        wait_s = (needed - self._level) / rate.per_s + _CLOCK_GRAIN_S
        return math.ceil(wait_s * 1000) / 1000
