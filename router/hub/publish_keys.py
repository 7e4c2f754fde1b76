"""The keys of publishes: a second publish with the same one changes nothing and gets the first one's answer; no I/O."""

from __future__ import annotations

from collections.abc import Callable

from router.letters import Receipt


class PublishKeys:
    """The keys that are remembered, each for so long; beyond so many the oldest go.

    The mutable state is the keys; the router alone changes it, in sync calls.

    Args:
        max_keys: How many are remembered at most.
        keep_s: How long each is, in seconds.
        now: Gives the time in Unix seconds.
    """

    def __init__(self, max_keys: int, keep_s: float, now: Callable[[], float]) -> None:
        self._max_keys = max_keys
        self._keep_s = keep_s
        self._now = now
        #: By channel and key, until when a publish is remembered, in Unix seconds, and its answer; the oldest first.
        self._keys: dict[tuple[str, str], tuple[float, Receipt]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, channel: str, key: str) -> Receipt | None:
        """What a publish with this key was answered, if it is not long ago."""
        until_s, receipt = self._keys.get((channel, key), (0.0, None))
        return receipt if self._now() < until_s else None

    def remember(self, channel: str, key: str, receipt: Receipt) -> None:
        """A later publish with this key is to change nothing."""
        self._keys.pop((channel, key), None)
        self._keys[channel, key] = (self._now() + self._keep_s, receipt)
        if len(self._keys) > self._max_keys:
            del self._keys[next(iter(self._keys))]

    def expire(self) -> None:
        """Forget the keys whose time is over."""
        now = self._now()
        while self._keys:
            oldest = next(iter(self._keys))
            if self._keys[oldest][0] > now:
                break
            del self._keys[oldest]

    def clear(self) -> None:
        """Forget all keys."""
        self._keys.clear()
