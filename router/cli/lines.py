"""Input for `pub`: one JSON value a line, checked and gathered into batches of what is already available."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec
import trio
from msgspec import Raw, Struct

from router.protocol import MAX_BATCH_EVENTS, encode, field_error

#: Makes the JSON of an event out of a line; raises BadLine.
EventMaker = Callable[[bytes], bytes]
_T = TypeVar("_T")

_BLANK = b" \t\r"
_decode_raw = msgspec.json.Decoder(Raw).decode


class BadLine(Exception):
    """A line that is not an event; the text says why."""


class _EventLine(Struct):
    event_type: str
    data: Raw = Raw(b"{}")


_decode_event = msgspec.json.Decoder(_EventLine).decode


def from_data(event_type: str) -> EventMaker:
    """Lines are the data of events of one type."""
    head = b'{"event_type":' + encode(event_type) + b',"data":'

    def make(line: bytes) -> bytes:
        _check_json(line, _decode_raw)
        return head + _check_object(line) + b"}"

    return make


def from_event(line: bytes) -> bytes:
    """A line is `{"event_type": …, "data": …}`; what else stands in it, as in the output of `sub`, is left out."""
    event = _check_json(line, _decode_event)
    return b'{"event_type":' + encode(event.event_type) + b',"data":' + _check_object(bytes(event.data)) + b"}"


def _check_json(line: bytes, decode: Callable[[bytes], _T]) -> _T:
    try:
        line.decode()
        return decode(line)
    except UnicodeDecodeError:
        raise BadLine("it is not UTF-8") from None
    except msgspec.ValidationError as error:
        raise BadLine(field_error(error).removeprefix(": ")) from None
    except msgspec.DecodeError as error:
        raise BadLine(f"it is not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    except RecursionError:
        raise BadLine("it is nested too deep") from None


def _check_object(data: bytes) -> bytes:
    if not data.lstrip().startswith(b"{"):
        raise BadLine("data must be a JSON object")
    return data


class Batch(Struct):
    """Events to be published together.

    Attributes:
        lines: The number of each one's line.
        events: Each one as JSON.
    """

    lines: list[int]
    events: list[bytes]


class Source(Protocol):
    """Where lines come from."""

    async def read(self) -> bytes:
        """What is there, once there is anything; empty at the end."""


class Given:
    """One line that is there already."""

    def __init__(self, line: bytes) -> None:
        self._line = line

    async def read(self) -> bytes:
        """The line, then nothing."""
        await trio.lowlevel.checkpoint()
        line, self._line = self._line, b""
        return line


class Lines:
    """Reads lines into batches. The mutable state is what was read and is in no batch yet: one read at most.

    A batch is never waited for: it has what one read gave, up to what one message may hold.
    """

    def __init__(
        self,
        source: Source,
        make: EventMaker,
        on_bad: Callable[[Sequence[int], str], None],
        max_bytes: int,
        *,
        stop_at_bad: bool,
    ) -> None:
        """Begin before the first line.

        Args:
            source: Where to read.
            make: Makes an event of a line.
            on_bad: Is told of lines that are not events, by number.
            max_bytes: Of the events in a batch, with the commas between them.
            stop_at_bad: To read no further than to the first bad line.
        """
        self._source = source
        self._make = make
        self._on_bad = on_bad
        self._max_bytes = max_bytes
        self._stop_at_bad = stop_at_bad
        self._rest = b""
        self._skipping = False
        self._stopped = False
        self._at_end = False
        self._number = 0
        self._waiting: deque[tuple[int, bytes]] = deque()

    @property
    def next_line(self) -> int | None:
        """The first line that is in no batch yet; None: there is none."""
        if self._waiting:
            return self._waiting[0][0]
        return None if self._at_end else self._number + 1

    async def take(self) -> Batch | None:
        """The next batch; None at the end.

        Raises:
            OSError: The input cannot be read.

        Cancellation: safe.
        """
        while not self._waiting:
            if self._at_end or self._stopped:
                return None
            self._split(await self._source.read())
        batch, room = Batch([], []), self._max_bytes
        while self._waiting and len(batch.events) < MAX_BATCH_EVENTS and len(self._waiting[0][1]) < room:
            number, event = self._waiting.popleft()
            batch.lines.append(number)
            batch.events.append(event)
            room -= len(event) + 1
        return batch

    def _split(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + (data or b"\n")).split(b"\n")
        for line in lines:
            self._number += 1
            if self._skipping:
                self._skipping = False
            elif self._is_bad(line.strip(_BLANK)) and self._stop_at_bad:
                self._stopped = True
                return
        if self._skipping or len(self._rest) > self._max_bytes:
            self._skip_rest()
        if not data:
            self._at_end = True

    def _is_bad(self, line: bytes) -> bool:
        """Add a line to those that wait, unless it is blank or bad."""
        if line:
            try:
                event = self._make(line)
                if len(event) >= self._max_bytes:
                    raise BadLine(self._too_long())
            except BadLine as bad:
                self._on_bad([self._number], str(bad))
                return True
            self._waiting.append((self._number, event))
        return False

    def _skip_rest(self) -> None:
        """Read over a line that is too long, and keep nothing of it."""
        self._rest = b""
        if not self._skipping:
            self._skipping = True
            self._on_bad([self._number + 1], self._too_long())
            self._stopped = self._stop_at_bad

    def _too_long(self) -> str:
        return f"it is longer than the {self._max_bytes} bytes that fit into a message"
