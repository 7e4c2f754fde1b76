"""How long to wait before the next attempt: full jitter, so that the clients of a server do not all come at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 20.0
#: A connection that lasted less counts as a failure.
STABLE_S: Final = 60.0
_LARGEST_POWER: Final = 16


class Backoff:
    """Counts failures in a row, and draws the delays.

    Args:
        random: Gives a number from 0 to 1.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self.failures = 0

    def failed(self) -> float:
        """An attempt failed. Returns the delay before the next, in seconds."""
        self.failures += 1
        return self._delay()

    def lost(self, lasted_s: float) -> float:
        """A connection was lost after `lasted_s` seconds. Returns the delay before the next attempt, in seconds."""
        self.failures = 1 if lasted_s >= STABLE_S else self.failures + 1
        return self._delay()

    def _delay(self) -> float:
        return self._random() * min(LONGEST_S, FIRST_S * 2.0 ** min(self.failures - 1, _LARGEST_POWER))
