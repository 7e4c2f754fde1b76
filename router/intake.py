"""Judges a client's messages before they reach the router: shape, channel, permission, rate, schema, size; no I/O.

What the connection can answer alone (`ping`, every refusal) is rendered here and takes its place in the letter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from router.clock import Clock
from router.config import Config
from router.errors import ErrorCode
from router.events import CHANNELS, EVENT_TYPE_JSON, EventTypeError
from router.letters import Item, SubscribeTo
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
    field_error,
    reply,
)

_MESSAGES_WINDOW_S = 10


class Intake:
    """One connection's judge. The mutable state is its buckets, made when first needed; the reading task owns it."""

    __slots__ = ("_buckets", "_clock", "_config", "_monotonic")

    def __init__(self, config: Config, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._monotonic = monotonic
        self._buckets: dict[object, Bucket] | None = None

    def judge(self, message: ClientMessage, grants: Grants, size: int) -> Item | Authenticate | None:
        """What is to be done about a message: an item of the letter, or an `authenticate` that passed its rate.

        Args:
            message: As decoded.
            grants: What its sender may do.
            size: Its length in bytes.

        Raises:
            Refusal: It is refused.
        """
        match message:
            case Publish():
                self._check_publish(message, grants, size)
                return message
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
            case GetSubscriptions():
                self._take(message, self._config.rate_get_subscriptions)
            case GetReconnectionToken() | Authenticate():
                self._take(message, self._config.rate_other)
        return message

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

    def _check_publish(self, message: Publish, grants: Grants, size: int) -> None:
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

    def _check_size(self, message: Publish, index: int, data: msgspec.Raw) -> None:
        size, limit = len(bytes(data)), self._config.max_event_bytes
        if size > limit:
            text = f"{_path(message, index, 'data')} has {size} bytes, the limit is {limit}"
            raise Refusal(ErrorCode.PAYLOAD_TOO_LARGE, text, id=message.id, index=_index(message, index))


def _events(message: Publish) -> Sequence[Publish | EventIn]:
    """The events of a publish: it is one itself, or holds several."""
    if message.events is msgspec.UNSET:
        if message.event_type is msgspec.UNSET:
            raise Refusal(ErrorCode.INVALID_MESSAGE, "event_type is missing", id=message.id)
        return (message,)
    if message.event_type is not msgspec.UNSET:
        text = "events: a publish has either events or event_type and data"
        raise Refusal(ErrorCode.INVALID_MESSAGE, text, id=message.id)
    return message.events


def _check_data(message: Publish, index: int, data: msgspec.Raw, check: Callable[[msgspec.Raw], object]) -> None:
    try:
        check(data)
    except msgspec.ValidationError as error:
        path = _path(message, index, "data")
        text = field_error(error, path)
        raise _invalid(message, index, "data", text) from None
    except (msgspec.DecodeError, RecursionError):
        path = _path(message, index, "data")
        raise _invalid(message, index, "data", f"{path} cannot be decoded") from None


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
    return field if message.events is msgspec.UNSET else f"events[{index}].{field}"


def _index(message: Publish, index: int) -> int | None:
    return None if message.events is msgspec.UNSET else index
