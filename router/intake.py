"""Judges a client's messages before they reach the router: shape, channel, permission, rate, schema, size; no I/O.

What the connection can answer alone (`ping`, every refusal) is rendered here and takes its place in the letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, assert_never

import msgspec
from msgspec import UNSET, Raw

from router.clock import Clock
from router.config import Config
from router.errors import ErrorCode
from router.events import CHANNELS, EVENT_TYPE_JSON, EventTypeError
from router.frames import Binary
from router.letters import Events, Item, SubscribeTo
from router.limits import Bucket, Rate
from router.permissions import Grants
from router.protocol import (
    Authenticate,
    ClientMessage,
    EventIn,
    GetReconnectionToken,
    GetSubscriptions,
    Ping,
    Pong,
    Publish,
    Refusal,
    Subscribe,
    Unsubscribe,
    decode,
    field_error,
    reply,
)

_MESSAGES_WINDOW_S = 10
#: Events join a run up to this many bytes of their messages, so that a batch stays small enough to be counted.
_RUN_BYTES = 64 * 1024


class Intake:
    """One connection's judge. The mutable state is its buckets, made when first needed; the reading task owns it."""

    __slots__ = ("_buckets", "_clock", "_config", "_monotonic")

    def __init__(self, config: Config, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._monotonic = monotonic
        self._buckets: dict[object, Bucket] | None = None

    def judge_all(self, payloads: Iterator[bytes], grants: Grants, items: list[Item]) -> Authenticate | Binary | None:
        """Judge messages in order and append what is to be done about them to `items`.

        Args:
            payloads: Whole messages; read on from where the last call stopped.
            grants: What their sender may do.
            items: Gets the letter's items, refusals rendered among them.

        Returns:
            A message at which judging stopped: an `authenticate` that passed its rate, or a binary message; None:
            all are judged.
        """
        # What the last item is, as long as events may join it: single ones for its channel, up to `room` bytes.
        run: list[Publish | EventIn] = []
        channel, room = "", 0
        check: Callable[[Raw], object] = CHANNELS["metrics"].check
        for payload in payloads:
            try:
                if isinstance(payload, Binary):
                    return payload
                message = decode(payload)
                if not isinstance(message, Publish):
                    room = 0
                    item = self._judge_other(message, grants)
                    if isinstance(item, Authenticate):
                        return item
                    if item is not None:
                        items.append(item)
                elif (
                    message.channel == channel
                    and len(payload) <= room
                    and message.events is UNSET
                    and message.id is UNSET
                    and message.event_type in EVENT_TYPE_JSON
                ):
                    _check_data(message, 0, message.data, check)
                    run.append(message)
                    room -= len(payload)
                else:
                    events = self._check_publish(message, grants, len(payload))
                    run, channel, check = list(events), message.channel, CHANNELS[message.channel].check
                    room = self._room_for_run if message.id is UNSET else 0
                    items.append(Events(channel, run, message.id))
            except Refusal as refusal:
                room = 0
                items.append(refusal.frame())
        return None

    @property
    def _room_for_run(self) -> int:
        """Events may join a run where nothing is to be counted, and where none can be too large."""
        return 0 if self._config.rate_publish is not None else min(_RUN_BYTES, self._config.max_event_bytes)

    def _judge_other(self, message: ClientMessage, grants: Grants) -> Item | Authenticate | None:
        match message:
            case Pong():
                return None
            case Ping():
                self._take(message, self._config.rate_ping)
                return reply("pong", message.id, timestamp=self._clock.timestamp())
            case Subscribe():
                self._take(message, self._config.rate_subscribe)
                return _subscribe_to(message, grants)
            case Unsubscribe():
                self._take(message, self._config.rate_unsubscribe)
                return message
            case GetSubscriptions():
                self._take(message, self._config.rate_get_subscriptions)
                return message
            case GetReconnectionToken() | Authenticate():
                self._take(message, self._config.rate_other)
                return message
            case Publish():  # pragma: no cover - judged by the caller
                raise AssertionError
            case _:
                assert_never(message)

    def too_many(self, messages: int) -> bool:
        """Count messages of any kind; whether there were more than the configuration bears for 10 s."""
        per_s = self._config.max_messages_per_s
        if per_s is None:
            return False
        return self._bucket(Intake, Rate(_MESSAGES_WINDOW_S * per_s, per_s)).take(self._monotonic(), messages) > 0

    def _take(self, message: ClientMessage, rate: Rate, amount: int = 1) -> None:
        kind = None if rate is self._config.rate_other else type(message)  # one bucket for all else
        wait = self._bucket(kind, rate).take(self._monotonic(), amount)
        if wait:
            text = f"too many messages of this kind, try again in {wait:.2f} s"
            raise Refusal(ErrorCode.RATE_LIMITED, text, id=message.id, retry_after=wait)

    def _bucket(self, kind: object, rate: Rate) -> Bucket:
        if self._buckets is None:
            self._buckets = {}
        if kind not in self._buckets:
            self._buckets[kind] = Bucket(rate, self._monotonic())
        return self._buckets[kind]

    def _check_publish(self, message: Publish, grants: Grants, size: int) -> Sequence[Publish | EventIn]:
        """The order of the checks is part of the contract: shape, channel, permission, rate, schema, size."""
        events = _events(message)
        for index, event in enumerate(events):
            try:
                EVENT_TYPE_JSON[event.event_type]  # type: ignore[index] # never UNSET here
            except EventTypeError as error:
                raise _invalid(message, index, "event_type", str(error)) from None
        if message.channel not in grants.publish:
            _refuse_channel(message, events)
        if self._config.rate_publish is not None:
            self._take(message, self._config.rate_publish, len(events))
        check = CHANNELS[message.channel].check
        for index, event in enumerate(events):
            _check_data(message, index, event.data, check)
        if size > self._config.max_event_bytes:
            for index, event in enumerate(events):
                self._check_size(message, index, event.data)
        return events

    def _check_size(self, message: Publish, index: int, data: Raw) -> None:
        size, limit = len(bytes(data)), self._config.max_event_bytes
        if size > limit:
            text = f"{_path(message, index, 'data')} has {size} bytes, the limit is {limit}"
            raise Refusal(ErrorCode.PAYLOAD_TOO_LARGE, text, id=message.id, index=_index(message, index))


def _events(message: Publish) -> Sequence[Publish | EventIn]:
    """The events of a publish: it is one itself, or holds several."""
    if message.events is UNSET:
        if message.event_type is UNSET:
            raise Refusal(ErrorCode.INVALID_MESSAGE, "event_type is missing", id=message.id)
        return (message,)
    if message.event_type is not UNSET:
        text = "events: a publish has either events or event_type and data"
        raise Refusal(ErrorCode.INVALID_MESSAGE, text, id=message.id)
    return message.events


def _check_data(message: Publish, index: int, data: Raw, check: Callable[[Raw], object]) -> None:
    try:
        check(data)
    except (msgspec.DecodeError, RecursionError) as error:
        path = _path(message, index, "data")
        text = f"{path} cannot be decoded"
        if isinstance(error, msgspec.ValidationError):
            text = field_error(error, path)
        raise _invalid(message, index, "data", text) from None


def _subscribe_to(message: Subscribe, grants: Grants) -> SubscribeTo:
    allowed: list[str] = []
    denied: dict[str, str] = {}
    for name in dict.fromkeys(message.channels):
        if name not in CHANNELS:
            denied[name] = ErrorCode.UNKNOWN_CHANNEL
        elif name not in grants.subscribe:
            denied[name] = ErrorCode.PERMISSION_DENIED
        else:
            allowed.append(name)
    return SubscribeTo(allowed, denied, message.id)


def _refuse_channel(message: Publish, events: Sequence[Publish | EventIn]) -> NoReturn:
    for index, event in enumerate(events):  # the shape comes first
        if bytes(event.data)[:1] != b"{":
            path = _path(message, index, "data")
            raise _invalid(message, index, "data", f"{path}: expected `object`")
    name = message.channel
    if name in CHANNELS:
        text = f"Permission denied to publish to channel: {name}"
        raise Refusal(ErrorCode.PERMISSION_DENIED, text, id=message.id)
    raise Refusal(ErrorCode.UNKNOWN_CHANNEL, f"Unknown channel: {name[:64]}", id=message.id)


def _invalid(message: Publish, index: int, field: str, text: str) -> Refusal:
    """Says which event of a batch is meant, by its index and at the beginning of the text."""
    if not text.startswith(_path(message, index, field)):
        text = _path(message, index, "") + text
    return Refusal(ErrorCode.INVALID_MESSAGE, text, id=message.id, index=_index(message, index))


def _path(message: Publish, index: int, field: str) -> str:
    return field if message.events is UNSET else f"events[{index}].{field}"


def _index(message: Publish, index: int) -> int | None:
    return None if message.events is UNSET else index
