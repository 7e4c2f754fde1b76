"""Requests that wait for their reply; no I/O and no clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from neurograph_ws_client.errors import NeurographError, RequestTimeoutError

T = TypeVar("T")


class Reply(Generic[T]):
    """The place of an answer that comes later: a value, or an error."""

    __slots__ = ("_error", "_value", "awaited", "done", "on_done")

    def __init__(self) -> None:
        self.done = False
        #: Somebody waits, or has waited: the error is theirs to see.
        self.awaited = False
        #: Called once, when it is done.
        self.on_done: Callable[[], None] | None = None
        self._value: T | None = None
        self._error: NeurographError | None = None

    def succeed(self, value: T) -> None:
        """The answer came."""
        self._value = value
        self._finish()

    def fail(self, error: NeurographError) -> None:
        """None will come, or a refusal did."""
        self._error = error
        self._finish()

    def _finish(self) -> None:
        assert not self.done
        self.done = True
        if self.on_done is not None:
            self.on_done()

    def result(self) -> T:
        """The value.

        Raises:
            NeurographError: The error in its place.
        """
        assert self.done
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # it is set with `done`, and may itself be None


class Asked(NamedTuple):
    """A request that went out.

    `channels` are for the error message; `about` is what its kind remembers.
    """

    kind: str
    sent_at: float
    channels: tuple[str, ...]
    reply: Reply[Any]
    about: Any = None


class Requests:
    """The requests of one connection that wait for a reply, oldest first, for they all may wait equally long.

    Args:
        timeout_s: How long each may wait.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._asked: dict[int | str, Asked] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def add(self, number: int, asked: Asked) -> None:
        """One goes out."""
        self._asked[number] = asked

    def answered(self, number: int | str | None, kind: str | None = None) -> Asked | None:
        """Take out what a reply answers; None: nothing that waits, or a request of another kind."""
        if number is None:
            return None
        asked = self._asked.get(number)
        if asked is None or (kind is not None and asked.kind != kind):
            return None
        return self._asked.pop(number)

    def deadline(self) -> float | None:
        """When the oldest has waited long enough."""
        for asked in self._asked.values():
            return asked.sent_at + self._timeout_s
        return None

    def put_off(self, kind: str, now: float) -> None:
        """The wait for those of this kind begins anew."""
        for number in [number for number, asked in self._asked.items() if asked.kind == kind]:
            self._asked[number] = self._asked.pop(number)._replace(sent_at=now)

    def expire(self, now: float) -> list[Asked]:
        """Fail those that have waited too long, and return them."""
        late = [number for number, asked in self._asked.items() if asked.sent_at + self._timeout_s <= now]
        expired = [self._asked.pop(number) for number in late]
        for asked in expired:
            asked.reply.fail(RequestTimeoutError(f"{asked.kind}: no reply within {self._timeout_s:g} s"))
        return expired

    def fail_all(self, error: Callable[[Asked], NeurographError]) -> None:
        """No reply will come any more."""
        asked_before, self._asked = self._asked, {}
        for asked in asked_before.values():
            asked.reply.fail(error(asked))
