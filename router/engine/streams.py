"""The streams that exist: one for each fixed channel, and those of families, made at first use; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from router.channels import Channels
from router.clock import timestamp_of
from router.config import UNCONFIGURED, Config
from router.engine.memory import Stream
from router.history import Ring


class Left(NamedTuple):
    """What a stream that was dropped leaves behind.

    Attributes:
        seq: The last position given.
        last_ms: When events came last, in Unix milliseconds; -1: never.
        doubtful: Up to this seq nobody knows which positions were given.
    """

    seq: int = 0
    last_ms: int = -1
    doubtful: int = 0

    def or_of(self, other: Left) -> Left:
        """What is known where nobody knows which of the two a channel left."""
        seq = max(self.seq, other.seq)
        return Left(seq, max(self.last_ms, other.last_ms), doubtful=seq)


class Streams:
    """All streams, by channel. The router alone changes it.

    The mutable state is the streams, and where those that were dropped had come to: a channel that is made again goes
    on from there, because a position means one event, and one only, as long as its epoch lasts. One that was forgotten,
    as too many others were dropped later, goes on after all that were forgotten; so does one that is new.
    """

    def __init__(self, channels: Channels, config: Config) -> None:
        """Make the streams of the fixed channels.

        Args:
            channels: What channels there may be.
            config: How many there may be at a time, fixed ones included, and what is kept of each.
        """
        self._channels = channels
        self._config = config
        self._max_channels = config.max_channels
        self._streams: dict[str, Stream] = {}
        # Of dropped channels, the oldest first: as many as there may be channels, and what holds for all others.
        self._left: dict[str, Left] = {}
        self._forgotten = Left()
        self.open_fixed()

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def __contains__(self, channel: str) -> bool:
        return channel in self._streams

    def __getitem__(self, channel: str) -> Stream:
        return self._streams[channel]

    def seq_of(self, channel: str) -> int:
        """The seq after which a channel goes on, whether or not it has a stream at the moment."""
        return self.look(channel).seq

    def look(self, channel: str) -> Stream:
        """A channel's stream; where it has none at the moment, one like that which it would get, kept nowhere."""
        stream = self._streams.get(channel)
        return self._new(channel) if stream is None else stream

    def open_fixed(self) -> None:
        """Make the streams of fixed channels that have none."""
        for spec in self._channels:
            if not spec.is_family and spec.name not in self._streams:
                self._make(spec.name)

    def open(self, channel: str) -> Stream | None:
        """A channel's stream, made at first use; None: there is no such channel, or there are too many."""
        stream = self._streams.get(channel)
        if stream is None and self._channels.find(channel) is not None and len(self) < self._max_channels:
            stream = self._make(channel)
        return stream

    def _make(self, channel: str) -> Stream:
        stream = self._streams[channel] = self._new(channel)
        self._left.pop(channel, None)
        return stream

    def _new(self, channel: str) -> Stream:
        seq, last_ms, doubtful = self._left.get(channel, self._forgotten)
        newest_gone = timestamp_of(last_ms).encode() if seq else b""
        ring = Ring(*self._bounds(channel), last=seq, newest_gone=newest_gone, doubtful=doubtful)
        return Stream(channel, seq, ring, last_ms)

    def configure(self, unix_ms: int) -> None:
        """Make the streams of fixed channels that have come, and keep as much of each past as is configured now."""
        self.open_fixed()
        for stream in self:
            stream.ring.set_bounds(*self._bounds(stream.name), unix_ms)

    def _bounds(self, channel: str) -> tuple[int, int, int | None]:
        """How much is kept of a channel's past: events, bytes, milliseconds."""
        spec = self._channels.find(channel)
        own, general = UNCONFIGURED if spec is None else spec.settings, self._config
        events = general.history_events if own.history_events is None else own.history_events
        size = general.history_bytes if own.history_bytes is None else own.history_bytes
        age_s = general.history_age_s if own.history_age_s is None else own.history_age_s
        return events, size, None if age_s is None else int(age_s * 1000)

    def expire(self, unix_ms: int) -> None:
        """Let go of the past that is too old."""
        for stream in self:
            stream.ring.expire(unix_ms)

    def drop_idle(self, since_ms: int, is_read: Callable[[str], bool]) -> list[str]:
        """Drop streams that nobody reads: of families, those without an event since then, and of channels that went.

        Args:
            since_ms: Unix milliseconds.
            is_read: Whether somebody has subscribed to a channel.

        Returns:
            The channels that are dropped.
        """
        dropped = [stream.name for stream in self if self._is_idle(stream, since_ms) and not is_read(stream.name)]
        for name in dropped:
            stream = self._streams.pop(name)
            self._left[name] = Left(stream.seq, stream.last_ms, stream.ring.doubtful)
            if len(self._left) > self._max_channels:
                self._forgotten = self._forgotten.or_of(self._left.pop(next(iter(self._left))))
        return dropped

    def _is_idle(self, stream: Stream, since_ms: int) -> bool:
        spec = self._channels.find(stream.name)
        return (spec is None or (spec.is_family and stream.last_ms <= since_ms)) and not stream.pending_bytes

    def restart(self) -> None:
        """Number all channels anew, as with a new epoch."""
        self._left.clear()
        self._forgotten = Left()
        for stream in self:
            stream.restart()
