"""Judges a client's messages before they reach the router: shape, channel, permission, rate, schema, size; no I/O.

What the connection can answer alone (`ping`, every refusal) is rendered here and takes its place in the letter. The
size of an event is that of its `data`, in bytes as they were published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import assert_never

import msgspec
from msgspec import UNSET, Raw

from router import filters
from router.auth.access import Grants
from router.channels import Channels
from router.clock import Clock, as_timestamp
from router.config import Config
from router.errors import ErrorCode
from router.events import EVENT_TYPE_JSON, SHALLOW_BYTES, TOO_DEEP, EventTypeError, is_too_deep
from router.filters import Filter, FilterError
from router.frames import Binary
from router.letters import Events, Item, SubscribeTo
from router.limits import Bucket, Rate
from router.paths import Path, is_path
from router.policies import Policy
from router.protocol import (
    Authenticate,
    ControlMessage,
    EventIn,
    GetReconnectionToken,
    GetSubscriptions,
    History,
    Ping,
    Pong,
    Publish,
    Refusal,
    Resume,
    Subscribe,
    Unsubscribe,
    decode,
    field_error,
    may_not_subscribe,
    only_one,
    reply,
    unknown_channel,
)

_MESSAGES_WINDOW_S = 10
_BRACE = ord("{")
#: Events join a run up to this many bytes of their messages, so that a batch stays small enough to be counted.
_RUN_BYTES = 64 * 1024


class Intake:
    """One connection's judge. The mutable state is its buckets, made when first needed; the reading task owns it."""

    __slots__ = ("_buckets", "_channels", "_clock", "_config", "_monotonic")

    def __init__(self, config: Config, channels: Channels, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._config = config
        self._channels = channels
        self._clock = clock
        self._monotonic = monotonic
        self._buckets: dict[str, Bucket] | None = None

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
        check: Callable[[Raw], object] | None = None
        for payload in payloads:
            try:
                if isinstance(payload, Binary):
                    return payload
                message = decode(payload)
                if not isinstance(message, Publish):
                    room = 0
                    item = self._judge_control(message, grants)
                    if isinstance(item, Authenticate):
                        return item
                    if item is not None:
                        items.append(item)
                elif (
                    message.channel == channel
                    and len(payload) <= room
                    and message.events is UNSET
                    and message.id is UNSET
                    and message.key is UNSET
                    and message.event_type in EVENT_TYPE_JSON
                ):
                    assert check is not None, "there is a run"
                    if len(payload) >= SHALLOW_BYTES:
                        _check_depths(message, (message,))
                    try:
                        check(message.data)
                    except msgspec.ValidationError as error:
                        raise _refuse_data(message, (message,), 0, error) from None
                    run.append(message)
                    room -= len(payload)
                else:
                    events, check = self.check_publish(message, grants, len(payload))
                    run, channel = list(events), message.channel
                    room = self._room_for_run if message.id is UNSET and message.key is UNSET else 0
                    items.append(Events(channel, run, message.id, None if message.key is UNSET else message.key))
            except Refusal as refusal:
                room = 0
                items.append(refusal.frame())
        return None

    @property
    def _room_for_run(self) -> int:
        """Events may join a run where nothing is to be counted, and where none can be too large."""
        return 0 if self._config.rate_publish is not None else min(_RUN_BYTES, self._config.max_event_bytes)

    def _judge_control(self, message: ControlMessage, grants: Grants) -> Item | Authenticate | None:
        config = self._config
        match message:
            case Pong():
                return None
            case Ping():
                self._take(message, "ping", config.rate_ping)
                return reply("pong", message.id, timestamp=self._clock.timestamp())
            case Subscribe():
                self._take(message, "subscribe", config.rate_subscribe)
                return _subscribe_to(message, grants, self._channels)
            case Unsubscribe():
                self._take(message, "unsubscribe", config.rate_unsubscribe)
                return message
            case GetSubscriptions():
                self._take(message, "get_subscriptions", config.rate_get_subscriptions)
                return message
            case History():
                self._take(message, "other", config.rate_other)
                return self._check_history(message, grants)
            case GetReconnectionToken() | Authenticate() | Resume():
                self._take(message, "other", config.rate_other)
                return message
            case _:
                assert_never(message)

    def _check_history(self, message: History, grants: Grants) -> History:
        if self._channels.find(message.channel) is None:
            raise unknown_channel(message.channel, message.id)
        if not grants.may_subscribe(message.channel):
            raise may_not_subscribe(message.channel, message.id)
        _only_one(message, ("after", "last", "since"))
        return message

    def too_many(self, messages: int) -> bool:
        """Count messages of any kind; whether there were more than the configuration allows for 10 s."""
        per_s = self._config.max_messages_per_s
        if per_s is None:
            return False
        rate = Rate(_MESSAGES_WINDOW_S * per_s, per_s)
        return self._bucket("all", rate).take(self._monotonic(), messages) > 0

    def _take(self, message: ControlMessage | Publish, bucket: str, rate: Rate, amount: int = 1) -> None:
        wait_s = self._bucket(bucket, rate).take(self._monotonic(), amount)
        if wait_s:
            kind = message.__struct_config__.tag
            text = f"Too many {kind} messages, try again in {wait_s} s"
            raise Refusal(ErrorCode.RATE_LIMITED, text, id=message.id, retry_after=wait_s)

    def _bucket(self, name: str, rate: Rate) -> Bucket:
        if self._buckets is None:
            self._buckets = {}
        if name not in self._buckets:
            self._buckets[name] = Bucket(rate, self._monotonic())
        return self._buckets[name]

    def check_publish(
        self, message: Publish, grants: Grants, size: int
    ) -> tuple[Sequence[Publish | EventIn], Callable[[Raw], object]]:
        """Check a publish in the contract's order: shape, channel, permission, rate, schema, size.

        Args:
            message: The publish.
            grants: What its sender may do.
            size: Its bytes, or more.

        Returns:
            Its events, and the check that the data of more of them have to pass.

        Raises:
            Refusal: It is not to be published.

        That `data` is an object belongs to the shape, but the schema would find it, too: so it is looked at by
        itself only where the message is refused, or counted.
        """
        events = _events(message)
        for index, event in enumerate(events):
            try:
                EVENT_TYPE_JSON[event.event_type]  # type: ignore[index] # never UNSET here
            except EventTypeError as error:
                raise _refuse_event(message, index, str(error)) from None
        if size >= SHALLOW_BYTES:
            _check_depths(message, events)
        spec = self._channels.find(message.channel)
        if spec is None or not grants.may_publish(message.channel):
            _check_objects(message, events)
            raise _refuse_channel(message, known=spec is not None)
        if self._config.rate_publish is not None:
            _check_objects(message, events)
            self._take(message, "publish", self._config.rate_publish, len(events))
        check = spec.check
        for index, event in enumerate(events):
            try:
                check(event.data)
            except msgspec.ValidationError as error:
                raise _refuse_data(message, events, index, error) from None
        if size > self._config.max_event_bytes:
            self._check_sizes(message, events)
        return events, check

    def _check_sizes(self, message: Publish, events: Sequence[Publish | EventIn]) -> None:
        limit = self._config.max_event_bytes
        for index, event in enumerate(events):
            size = len(memoryview(event.data))
            if size > limit:
                text = f"data has {size} bytes, the limit is {limit}"
                raise _refuse_event(message, index, text, ErrorCode.PAYLOAD_TOO_LARGE)


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


def _refuse_data(
    message: Publish, events: Sequence[Publish | EventIn], index: int, error: msgspec.ValidationError
) -> Refusal:
    """Refuse data that do not fit the schema, unless those of another event are not even an object."""
    _check_objects(message, events)
    return _refuse_event(message, index, field_error(error, "data"))


def _check_depths(message: Publish, events: Sequence[Publish | EventIn]) -> None:
    for index, event in enumerate(events):
        if is_too_deep(event.data):
            raise _refuse_event(message, index, TOO_DEEP)


def _check_objects(message: Publish, events: Sequence[Publish | EventIn]) -> None:
    for index, event in enumerate(events):
        if memoryview(event.data)[0] != _BRACE:
            raise _refuse_event(message, index, "data must be an object")


def _refuse_channel(message: Publish, *, known: bool) -> Refusal:
    if known:
        text = f"Permission denied to publish to channel: {message.channel}"
        return Refusal(ErrorCode.PERMISSION_DENIED, text, id=message.id)
    return unknown_channel(message.channel, message.id)


def _refuse_event(message: Publish, index: int, text: str, code: ErrorCode = ErrorCode.INVALID_MESSAGE) -> Refusal:
    """Refuse a publish for one of its events; of a batch, the text's beginning and `index` say which."""
    if message.events is UNSET:
        return Refusal(code, text, id=message.id)
    return Refusal(code, f"events[{index}].{text}", id=message.id, index=index)


def _subscribe_to(message: Subscribe, grants: Grants, channels: Channels) -> SubscribeTo:
    _only_one(message, ("recover", "last", "since"))
    if message.key is not UNSET and not is_path(message.key):
        text = f"key: {message.key[:64]!r} is not a path into an event; write it as data.sensor or data.items.0.id"
        raise Refusal(ErrorCode.INVALID_MESSAGE, text, id=message.id)
    allowed: list[str] = []
    denied: dict[str, str] = {}
    for name in dict.fromkeys(message.channels):
        if channels.find(name) is None:
            denied[name] = ErrorCode.UNKNOWN_CHANNEL
        elif not grants.may_subscribe(name):
            denied[name] = ErrorCode.PERMISSION_DENIED
        else:
            allowed.append(name)
    return SubscribeTo(
        allowed,
        denied,
        message.id,
        _filter(message),
        None if message.policy is UNSET else message.policy,
        None if message.policy is not Policy.LATEST or message.key is UNSET else Path(message.key),
        {} if message.recover is UNSET else message.recover,
        None if message.last is UNSET else message.last,
        None if message.since is UNSET else as_timestamp(message.since),
    )


def _filter(message: Subscribe) -> Filter | None:
    if message.filter is UNSET:
        return None
    try:
        return filters.compile(message.filter)
    except FilterError as error:
        raise Refusal(ErrorCode.INVALID_FILTER, str(error), id=message.id) from None


def _only_one(message: Subscribe | History, names: Sequence[str]) -> None:
    given = [name for name in names if getattr(message, name) is not UNSET]
    if len(given) > 1:
        raise only_one(given, message.id)
