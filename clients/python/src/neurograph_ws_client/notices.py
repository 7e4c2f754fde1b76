"""What callbacks are to be told, in order and bounded; no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from neurograph_ws_client.errors import NeurographError, SubscriptionDeniedError
from neurograph_ws_client.log import log

MAX_NOTICES: Final = 1_000


class Notices:
    """Names of callbacks and their arguments.

    Args:
        on_added: Called when there is another.
    """

    def __init__(self, on_added: Callable[[], None]) -> None:
        self._on_added = on_added
        self._waiting: deque[tuple[str, Any]] = deque()

    def add(self, name: str, argument: Any) -> None:
        """Tell the callbacks of this name; where too many wait, the oldest is left out."""
        if len(self._waiting) >= MAX_NOTICES:
            log.warning("callbacks are too slow: one for %r is left out", self._waiting.popleft()[0])
        self._waiting.append((name, argument))
        self._on_added()

    def error(self, error: NeurographError) -> None:
        """Tell of an error that nobody waits for."""
        self.add("error", error)

    def denied(self, channels: Mapping[str, str], *, withdrawn: bool = False) -> None:
        """Tell of channels that are refused, or were granted and are not any more, and why."""
        for channel, code in channels.items():
            self.error(SubscriptionDeniedError(channel, code, withdrawn=withdrawn))

    def take(self) -> tuple[str, Any] | None:
        """The oldest; None: there is none."""
        return self._waiting.popleft() if self._waiting else None
