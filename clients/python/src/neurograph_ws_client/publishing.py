"""What is to be published: a bounded queue that outlives connections, so that nothing is lost or doubled; no I/O.

Each publish has a key, by which the server knows a repetition. It leaves the queue when the server has answered. After
a reconnection all that was not answered is sent again, in order, unless the server may have forgotten the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, Final

from msgspec import Raw

from neurograph_ws_client.errors import (
    MessageTooLargeError,
    NeurographError,
    PublishUncertainError,
    QueueFullError,
    RequestRefusedError,
)
from neurograph_ws_client.events import Published
from neurograph_ws_client.messages import PublishedMessage, encode_exactly
from neurograph_ws_client.requests import Reply

#: The server remembers a key for 120 s from the first time it came; less the time of a repetition's way.
KEY_KNOWN_S: Final = 110.0
MAX_BATCH: Final = 1_000
MAX_KEY_CHARACTERS: Final = 64
_UNCERTAIN: Final = "publish to {!r}: it may or may not have been published; no answer came, "


class Publish:
    """One publish that is not answered.

    Attributes:
        number: Its `id`; they grow, so it is its place too.
        channel: Where to.
        text: The message.
        reply: Where the answer goes.
        first_sent_at: When it may have reached the server first; None: it cannot have.
        epoch: The server's at that time.
        in_doubt: It was sent and not answered on an earlier connection.
    """

    __slots__ = ("channel", "epoch", "first_sent_at", "in_doubt", "number", "reply", "text")

    def __init__(self, number: int, channel: str, text: bytes, reply: Reply[Published]) -> None:
        self.number = number
        self.channel = channel
        self.text = text
        self.reply = reply
        self.first_sent_at: float | None = None
        self.epoch: str | None = None
        self.in_doubt = False


class PublishQueue:
    """The publishes that are not answered, in order.

    Args:
        max_publishes: How many there may be.
        max_bytes: How many bytes they may be together.
        on_failed: Told of each that failed with nobody waiting for it.
    """

    def __init__(self, max_publishes: int, max_bytes: int, on_failed: Callable[[NeurographError], None]) -> None:
        self._max_publishes = max_publishes
        self._max_bytes = max_bytes
        self._on_failed = on_failed
        self._all: dict[int, Publish] = {}
        self._bytes = 0
        #: Numbers of those that are to be sent on this connection, the first one first.
        self._unsent: list[int] = []
        #: Numbers of those that were, and are not answered.
        self._sent: set[int] = set()
        self._not_before = 0.0
        #: The server has refused some for coming too fast: from then on one at a time, so that none passes another.
        self._one_by_one = False

    def __len__(self) -> int:
        return len(self._all)

    def add(self, publish: Publish) -> None:
        """Put one at the end.

        Raises:
            QueueFullError: There are too many, or they are too large.
        """
        if len(self._all) >= self._max_publishes:
            raise _full(f"{self._max_publishes} publishes", "publish_queue")
        if self._bytes + len(publish.text) > self._max_bytes:
            raise _full(f"{self._max_bytes} bytes of publishes", "publish_queue_bytes")
        self._all[publish.number] = publish
        self._bytes += len(publish.text)
        heappush(self._unsent, publish.number)  # a place that `connected` gives anew

    def take(self, now: float, epoch: str, max_message_bytes: int, budget: int) -> list[bytes]:
        """What to send now, about `budget` bytes of it at most."""
        texts: list[bytes] = []
        while self._unsent and budget > 0 and now >= self._not_before:
            if self._one_by_one and self._sent:
                break
            publish = self._all.get(heappop(self._unsent))
            if publish is None:
                continue
            if len(publish.text) > max_message_bytes:
                self._fail(publish, too_large("publish", len(publish.text), max_message_bytes))
                continue
            if publish.first_sent_at is None:
                publish.first_sent_at, publish.epoch = now, epoch
            self._sent.add(publish.number)
            texts.append(publish.text)
            budget -= len(publish.text)
        return texts

    def published(self, message: PublishedMessage) -> None:
        """The server has taken one."""
        publish = self._all.get(message.id) if isinstance(message.id, int) else None
        if publish is not None:
            self._drop(publish)
            first, last = message.seq
            publish.reply.succeed(Published(message.channel, first, last, message.subscribers, message.timestamp))

    def refused(self, number: int | str | None, error: RequestRefusedError, now: float) -> bool:
        """The server has refused one, or wants us to wait. Returns whether it was one of these."""
        publish = self._all.get(number) if isinstance(number, int) else None
        if publish is None:
            return False
        if error.retry_after is None:
            error.channel = publish.channel
            self._fail(publish, error)
        else:
            if not publish.in_doubt:
                publish.first_sent_at = None  # it was not taken, so it is as if it had not been sent
            self._sent.discard(publish.number)
            heappush(self._unsent, publish.number)
            self._not_before = now + error.retry_after
            self._one_by_one = True
        return True

    def connected(self, epoch: str, now: float) -> None:
        """A connection is open: all goes out again, but what the server may take for new."""
        self._not_before = 0.0
        self._one_by_one = False
        for publish in list(self._all.values()):
            if publish.first_sent_at is not None and publish.epoch != epoch:
                reason = _UNCERTAIN.format(publish.channel) + "and the server has begun anew since"
                self._fail(publish, PublishUncertainError(reason))
        self.expire(now)
        self._unsent = sorted(self._all)

    def lost(self) -> None:
        """The connection has ended; nothing more is answered on it."""
        for number in self._sent:
            self._all[number].in_doubt = True
        self._sent.clear()
        self._unsent.clear()

    def expire(self, now: float) -> None:
        """Give up what was sent so long ago that its key may be forgotten."""
        for publish in list(self._all.values()):
            if publish.first_sent_at is not None and publish.first_sent_at + KEY_KNOWN_S <= now:
                reason = _UNCERTAIN.format(publish.channel) + "and the server knows its key no longer"
                self._fail(publish, PublishUncertainError(reason))

    def deadline(self, now: float) -> float | None:
        """When to `expire`, or when more may be taken."""
        times = [one.first_sent_at + KEY_KNOWN_S for one in self._all.values() if one.first_sent_at is not None]
        if self._unsent and self._not_before > now:
            times.append(self._not_before)
        return min(times, default=None)

    @property
    def waiting(self) -> bool:
        """Something may be to be sent."""
        return bool(self._unsent)

    @property
    def unanswered(self) -> bool:
        """Something was sent and is not answered."""
        return bool(self._sent)

    def close(self, error: Callable[[], NeurographError]) -> None:
        """No connection will come: fail all."""
        for publish in list(self._all.values()):
            if publish.first_sent_at is None:
                self._fail(publish, error())
            else:
                reason = _UNCERTAIN.format(publish.channel) + "and the client is closed"
                self._fail(publish, PublishUncertainError(reason))

    def _fail(self, publish: Publish, error: NeurographError) -> None:
        self._drop(publish)
        publish.reply.fail(error)
        if not publish.reply.awaited:
            self._on_failed(error)

    def _drop(self, publish: Publish) -> None:
        del self._all[publish.number]
        self._sent.discard(publish.number)
        self._bytes -= len(publish.text)


def message(
    number: int,
    channel: str,
    key: str,
    event_type: str | None,
    data: object,
    events: Sequence[Mapping[str, Any] | Raw] | None,
) -> bytes:
    """The text of a publish: of one event, or, with `events`, of a batch.

    Raises:
        TypeError: The data hold what JSON has no kind for.
        ValueError: The key is too long, or the batch is empty or too large.
    """
    if len(key) > MAX_KEY_CHARACTERS:
        raise ValueError(f"key: {len(key)} characters, the limit is {MAX_KEY_CHARACTERS}")
    fields: dict[str, Any] = {"type": "publish", "id": number, "channel": str(channel), "key": key}
    if events is None:
        fields |= {"event_type": event_type, "data": {} if data is None else data}
    else:
        if not 1 <= len(events) <= MAX_BATCH:
            raise ValueError(f"events: {len(events)} of them; a batch has 1 to {MAX_BATCH}")
        fields["events"] = list(events)
    try:
        return encode_exactly(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"{'data' if events is None else 'events'}: not JSON ({error})") from None


def too_large(what: str, size: int, limit: int) -> MessageTooLargeError:
    """The error for a message that the server would not read."""
    return MessageTooLargeError(f"{what}: a message of {size} bytes, the server reads {limit}; send less at a time")


def _full(bound: str, option: str) -> QueueFullError:
    return QueueFullError(
        f"{bound} wait for the server already; await what publish() returns before publishing more, or raise {option}"
    )
