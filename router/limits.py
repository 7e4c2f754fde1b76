"""Token buckets: how often a client may send each kind of control message; no I/O.

Reference: the token bucket of RFC 2697 section 3, with one colour.
"""

from __future__ import annotations

from msgspec import Struct


class Rate(Struct, frozen=True):
    """A bucket's size, in messages, and how many it regains a second."""

    burst: float
    per_s: float


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
            0 if they were there, else the seconds until they would be.
        """
        rate = self._rate
        self._level = min(rate.burst, self._level + (now - self._when) * rate.per_s)
        self._when = now
        needed = min(amount, rate.burst)
        if self._level >= needed:
            self._level -= amount
            return 0.0
        return (needed - self._level) / rate.per_s
