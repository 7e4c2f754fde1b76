"""The memory engine: each channel's stream, numbered and encoded once; no I/O.

`seq` counts a channel's events from 1 without holes; it means something within an `epoch`, which is new at each
start. An event is encoded and framed here, in one formatting step around the publisher's own bytes, and joined
with its neighbours into a batch that all its readers share.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from itertools import accumulate
from typing import Protocol

from msgspec import Raw, UnsetType

from router.batches import Batch
from router.clock import Clock
from router.events import EVENT_TYPE_JSON
from router.frames import text_header
from router.history import Ring

#: A stream with so much to fan out is not given more first.
FULL_BATCH_BYTES = 128 * 1024


class EventLike(Protocol):
    """An event as it was published."""

    @property
    def event_type(self) -> str | UnsetType:
        """A valid one."""
        ...

    @property
    def data(self) -> bytes | Raw:
        """A JSON object in valid UTF-8."""
        ...


class Stream:
    """One channel's stream: the last position given, and what has been appended and not yet fanned out.

    The mutable state is changed by `stamp`, `append`, `flush` and `restart`, which the router alone calls; each
    finishes or changes nothing.
    """

    __slots__ = ("_ends", "_frames", "_head", "flushed_seq", "last_ms", "name", "pending_bytes", "ring", "seq")

    def __init__(self, name: str, seq: int = 0, ring: Ring | None = None, last_ms: int = -1) -> None:
        """Make a channel's stream.

        Args:
            name: The channel.
            seq: The last position given before, where there was one.
            ring: Keeps its past; None: nothing is kept.
            last_ms: When events came last, in Unix milliseconds, where there was one.
        """
        self.name = name
        self.ring = ring or Ring(0, 0, last=seq)
        #: The last position given.
        self.seq = seq
        #: The last position fanned out.
        self.flushed_seq = seq
        #: What has been appended and not yet fanned out.
        self.pending_bytes = 0
        self._frames: list[bytes] = []
        self._ends: list[int] = []
        #: When events came last, in Unix milliseconds.
        self.last_ms = last_ms
        self._head = b""

    def stamp(self, unix_ms: int, clock: Clock) -> None:
        """Set the time of the events that follow; it never goes back."""
        if unix_ms > self.last_ms or not self._head:
            self.last_ms = max(unix_ms, self.last_ms)
            self._head = b'{"channel":"%b","timestamp":"%b","event_type":"' % (
                self.name.encode(),
                clock.timestamp(self.last_ms).encode(),
            )

    def append(self, events: Iterable[EventLike]) -> None:
        """Add events: valid event types, and data that are JSON objects in valid UTF-8."""
        head, seq, size = self._head, self.seq, self.pending_bytes
        frames: list[bytes] = []
        ends: list[int] = []
        for event in events:
            seq += 1
            body = b'%b%b%b,"seq":%d}' % (head, EVENT_TYPE_JSON[event.event_type], event.data, seq)  # type: ignore[index]
            header = text_header(len(body))
            size += len(header) + len(body)
            frames.append(header)
            frames.append(body)
            ends.append(size)
        self._frames += frames
        self._ends += ends
        self.pending_bytes = size
        self.seq = seq

    def flush(self, epoch: str) -> Batch | None:
        """Take what was appended since the last flush."""
        if not self._ends:
            return None
        batch = Batch(b"".join(self._frames), self._ends, range(self.flushed_seq + 1, self.seq + 1), epoch)
        self.flushed_seq = self.seq
        self.ring.append(batch)
        self._frames, self._ends, self.pending_bytes = [], [], 0
        return batch

    def restart(self) -> None:
        """Begin anew at seq 0, as with a new epoch."""
        self.seq = self.flushed_seq = 0
        self.ring.restart()
        self._frames, self._ends, self.pending_bytes = [], [], 0

    def is_sound(self) -> bool:
        """Whether the parts of the state agree with one another."""
        ends = [0, *accumulate(map(len, self._frames))]  # of headers and bodies in turn
        return (
            self._ends == ends[2::2]
            and len(self._frames) == 2 * len(self._ends)
            and self.pending_bytes == ends[-1]
            and self.seq == self.flushed_seq + len(self._ends)
            and self.ring.last == self.flushed_seq
            and self.ring.is_sound()
        )


def new_epoch() -> str:
    """A name for a numbering that begins now."""
    return secrets.token_hex(6)
