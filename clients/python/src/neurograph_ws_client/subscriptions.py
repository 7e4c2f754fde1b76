"""What the user wants of each channel, what the server has granted of it, and where its stream has got to; no I/O."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from neurograph_ws_client.events import Channel, Position
from neurograph_ws_client.messages import At, Connected, Subscribed, encode
from neurograph_ws_client.options import Options

Handler = Callable[[Any], object]

#: Events on these come to everybody; the server knows no subscription to them.
DIRECT: Final = frozenset({Channel.PERSONAL, Channel.GLOBAL})
#: The head of a stream that is not granted: what still comes of an earlier subscription is not above it.
_SHUT: Final = 1 << 62


class Standing(enum.Enum):
    """How a subscription stands with the server."""

    WANTED = enum.auto()
    ASKED = enum.auto()
    GRANTED = enum.auto()
    #: Or refused for another reason; asked again at the next connection, sign-in or call of `subscribe`.
    DENIED = enum.auto()


class Subscription:
    """One channel. The attributes without underscore are its state; `Subscriptions` and the core change them.

    Attributes:
        channel: Its name.
        handlers: Called with each event, in this order.
        asked: Options that were given, with the handler that they were given with; the newest last.
        options: Those that hold: the newest whose handler is there.
        version: Counts changes of the options.
        standing: With the server.
        epoch: In which `head` counts; None: no position is known.
        head: The seq of the last event received, or `_SHUT`.
        begins_anew: The next position counts as it is: a gap has said that the one that we know holds no longer.
        done_epoch: In which `done_seq` counts; None: not known.
        done_seq: The seq of the last event that the handlers have worked on.
    """

    __slots__ = (
        "_parked",
        "asked",
        "begins_anew",
        "channel",
        "done_epoch",
        "done_seq",
        "epoch",
        "handlers",
        "head",
        "options",
        "standing",
        "version",
    )

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.handlers: tuple[Handler, ...] = ()
        self.asked: list[tuple[Handler | None, Options]] = []
        self.options = Options()
        self.version = 0
        self.standing = Standing.WANTED
        self.epoch: str | None = None
        self.head = _SHUT
        self.begins_anew = False
        self.done_epoch: str | None = None
        self.done_seq = 0
        self._parked = 0

    @property
    def position(self) -> At | None:
        """Where the stream goes on."""
        if self.epoch is None:
            return None
        return At(self.epoch, self._parked if self.is_shut else self.head)

    @property
    def done(self) -> At | None:
        """Where the handlers have got to."""
        return None if self.done_epoch is None else At(self.done_epoch, self.done_seq)

    def forget(self, handler: Handler | None) -> None:
        """The options that were given with a handler are to hold no longer."""
        self.asked = [one for one in self.asked if one[0] != handler]

    def start_behind(self, at: At) -> None:
        """Take a position from the user, for a stream that is yet to be granted."""
        self.epoch, self._parked = at.epoch, at.seq
        self.done_epoch, self.done_seq = at.epoch, at.seq

    @property
    def is_shut(self) -> bool:
        """It is not granted."""
        return self.head == _SHUT

    def open_at(self, at: At | None) -> At | None:
        """It is granted. Takes the position if there is none yet, and then returns it."""
        if self.epoch is None and at is not None:
            self.epoch, self.head = at.epoch, at.seq
            return at
        if self.epoch is not None and self.is_shut:
            self.head = self._parked
        return None

    def go_back(self, at: At) -> None:
        """What came behind this position does not count."""
        self.epoch, self.begins_anew = at.epoch, False
        if self.is_shut:
            self._parked = at.seq
        else:
            self.head = at.seq

    def shut(self) -> None:
        """It is not granted any more; the position stays."""
        if not self.is_shut:
            self._parked, self.head = self.head, _SHUT

    def move(self, at: At) -> At:
        """A message says where the stream has got to; it does not go back in its epoch. Returns the position."""
        seq = at.seq if self.begins_anew or at.epoch != self.epoch else max(at.seq, self.head)
        self.epoch, self.head, self.begins_anew = at.epoch, seq, False
        return At(at.epoch, seq)


class Ask(NamedTuple):
    """A message to be sent. `versions` are the subscriptions that it asks for, with their options' versions."""

    message: dict[str, Any]
    channels: tuple[str, ...]
    versions: tuple[tuple[Subscription, int], ...] = ()


class Subscriptions:
    """All of a client's. The mutable state is what is wanted, and which channels the server is to be told to leave."""

    def __init__(self) -> None:
        #: By channel; the core looks here for each event.
        self.wanted: dict[str, Subscription] = {}
        self._leaving: dict[str, None] = {}
        #: Ask nothing before this time: the server said so.
        self.not_before = 0.0

    # What the user says

    def add(self, channel: str, handler: Handler | None, options: Options | None, recover: At | None = None) -> None:
        """Subscribe; `options` None: as they are, or none.

        A position is taken only where none is known yet.
        """
        subscription = self.wanted.get(channel)
        if subscription is None:
            subscription = self.wanted[channel] = Subscription(channel)
            if channel in DIRECT:
                subscription.standing = Standing.GRANTED
        if handler is not None and handler not in subscription.handlers:
            subscription.handlers += (handler,)
        if subscription.standing is Standing.DENIED:
            subscription.standing = Standing.WANTED
        if options is not None:
            subscription.forget(handler)
            subscription.asked.append((handler, options))
            if options != subscription.options:
                self._hold(subscription, options)
        if recover is not None and subscription.epoch is None:
            subscription.start_behind(recover)

    def remove(self, channel: str, handler: Handler | None = None) -> None:
        """Take a handler away, or all; with the last one the subscription ends. What is not there is no error."""
        subscription = self.wanted.get(channel)
        if subscription is None:
            return
        if handler is not None:
            kept = list(subscription.handlers)
            if handler not in kept:
                return
            kept.remove(handler)
            subscription.handlers = tuple(kept)
            if kept:
                subscription.forget(handler)
                options = subscription.asked[-1][1] if subscription.asked else Options()
                begins = subscription.epoch is None and options.past != subscription.options.past
                if begins or options.shape != subscription.options.shape:
                    self._hold(subscription, options)
                return
        subscription.handlers = ()
        del self.wanted[channel]
        denied = subscription.standing is Standing.DENIED and subscription.is_shut
        if channel not in DIRECT and not denied:
            self._leaving[channel] = None

    def _hold(self, subscription: Subscription, options: Options) -> None:
        """Other options are to hold."""
        subscription.options = options
        subscription.version += 1
        if subscription.channel not in DIRECT:
            subscription.standing = Standing.WANTED

    # What is to be sent

    def take(self, now: float, max_bytes: int) -> Iterator[tuple[str, Ask]]:
        """What the server is to be told now: kinds and messages, as few as the options and `max_bytes` allow."""
        if now < self.not_before:
            return
        if self._leaving:
            for channels in _split([(name, _size(name)) for name in self._leaving], max_bytes):
                yield "unsubscribe", Ask({"type": "unsubscribe", "channels": channels}, tuple(channels))
            self._leaving.clear()
        groups: dict[bytes, list[Subscription]] = {}
        for subscription in self.wanted.values():
            if subscription.standing is Standing.WANTED:
                subscription.standing = Standing.ASKED
                groups.setdefault(encode(_options(subscription)), []).append(subscription)
        for key, group in groups.items():
            sizes = [(subscription, 2 * _size(subscription.channel) + 80) for subscription in group]
            for part in _split(sizes, max_bytes - len(key)):
                yield "subscribe", _ask(part)

    def deadline(self, now: float) -> float | None:
        """When more may be taken, where something has to wait."""
        return self.not_before if self.not_before > now else None

    # What the server says

    def connected(self, message: Connected) -> list[tuple[Subscription, At]]:
        """A connection is open. Returns positions that were not known before."""
        news: list[tuple[Subscription, At]] = []
        granted = frozenset(message.channels) if message.reconnected else frozenset()
        # What the session has and nobody wants; also what was left and then wanted anew, which is another subscription.
        self._leaving = {name: None for name in message.channels if name in self._leaving or name not in self.wanted}
        self.not_before = 0.0
        for subscription in self.wanted.values():
            name = subscription.channel
            subscription.begins_anew = False
            if name in DIRECT:
                continue
            if name not in granted or name in self._leaving:
                subscription.shut()
                subscription.standing = Standing.DENIED if name in message.denied else Standing.WANTED
                continue
            if subscription.standing is not Standing.GRANTED:
                subscription.standing = Standing.WANTED
            at = subscription.open_at(message.positions.get(name))
            if at is not None:
                news.append((subscription, at))
        return news

    def subscribed(self, message: Subscribed, ask: Ask | None) -> list[tuple[Subscription, At]]:
        """Channels are granted, or not. Returns positions that were not known before.

        Args:
            message: What the server says.
            ask: What it answers; None: nothing that we know of.
        """
        if ask is None:
            asked = [(one, one.version) for name in message.channels if (one := self.wanted.get(name)) is not None]
        else:
            asked = list(ask.versions)
        news: list[tuple[Subscription, At]] = []
        for subscription, version in asked:
            name = subscription.channel
            if self.wanted.get(name) is not subscription:
                continue
            if name in message.denied:
                if subscription.version == version:
                    subscription.standing = Standing.DENIED
                continue
            if subscription.version == version:
                subscription.standing = Standing.GRANTED
            at = subscription.open_at(message.positions.get(name))
            if at is not None:
                news.append((subscription, at))
        return news

    def refused(self, ask: Ask, not_before: float | None) -> None:
        """A message of ours was refused.

        Args:
            ask: The message.
            not_before: When it may be asked again, if waiting is all it takes.
        """
        if not_before is not None:
            self.not_before = not_before
            if ask.message["type"] == "unsubscribe":
                self._leaving.update((name, None) for name in ask.channels if name not in self.wanted)
        for subscription, version in ask.versions:
            if subscription.version == version and subscription.standing is Standing.ASKED:
                subscription.standing = Standing.DENIED if not_before is None else Standing.WANTED

    def withdrawn(self, channels: Sequence[str]) -> None:
        """The server has ended subscriptions, unasked."""
        for name in channels:
            subscription = self.wanted.get(name)
            if subscription is not None:
                subscription.shut()
                subscription.standing = Standing.DENIED

    def signed_in(self) -> None:
        """Another token: ask again for what was denied."""
        for subscription in self.wanted.values():
            if subscription.standing is Standing.DENIED:
                subscription.standing = Standing.WANTED

    # Positions

    def received(self, channels: Iterable[str] | None = None) -> dict[str, Position]:
        """Where each stream goes on: behind what has been received. Of these channels, or all."""
        names = self.wanted if channels is None else channels
        found = ((name, self.wanted[name].position) for name in names if name in self.wanted)
        return {name: {"epoch": at.epoch, "seq": at.seq} for name, at in found if at is not None}


def _options(subscription: Subscription) -> dict[str, Any]:
    """What holds for one and the same message; the positions can differ."""
    shape, past = subscription.options
    return {**shape, **(past if subscription.epoch is None else {})}


def _ask(group: list[Subscription]) -> Ask:
    names = [subscription.channel for subscription in group]
    recover = {one.channel: at for one in group if (at := one.position) is not None}
    message: dict[str, Any] = {"type": "subscribe", "channels": names, **_options(group[0])}
    if recover and not (message.keys() & {"last", "since"}):
        message["recover"] = recover
    return Ask(message, tuple(names), tuple((one, one.version) for one in group))


def _size(name: str) -> int:
    return len(encode(name)) + 1


def _split(sized: list[tuple[Any, int]], max_bytes: int) -> Iterator[list[Any]]:
    """Parts of some items that fit a message each; an item that alone is too large is a part of its own."""
    part: list[Any] = []
    free = room = max_bytes - 128  # for the rest of the message
    for item, size in sized:
        if part and size > free:
            yield part
            part, free = [], room
        part.append(item)
        free -= size
    yield part
