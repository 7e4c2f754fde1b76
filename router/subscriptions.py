"""The subscription table: who listens to which channel; no I/O. The router alone changes it."""

from __future__ import annotations

from collections.abc import Iterable, KeysView
from typing import Protocol

from router.outbox import Batch, Queue


class Outlet(Protocol):
    """Where a session's events go: its connection's lane, or its outbox while it has none."""

    def offer(self, queue: Queue, batch: Batch) -> None:
        """Take a batch for a queue. Never raises for the connection's end."""
        ...


class Subscription:
    """One session's subscription to one channel.

    Attributes:
        channel: Its name.
        queue: What waits for the session on the channel.
        outlet: Where its events go; changed when its session loses or finds a connection.
    """

    __slots__ = ("channel", "outlet", "queue")

    def __init__(self, channel: str, outlet: Outlet) -> None:
        self.channel = channel
        self.queue = Queue(channel)
        self.outlet = outlet


_NOBODY: dict[Subscription, None] = {}


class Subscriptions:
    """All subscriptions, by channel.

    The mutable state is one insertion-ordered group for each channel that has readers: they share each batch.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[Subscription, None]] = {}
        self.total = 0

    def add(self, subscription: Subscription) -> None:
        """Enter a subscription."""
        group = self._groups.setdefault(subscription.channel, {})
        if subscription not in group:
            group[subscription] = None
            self.total += 1

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription out, if it is in."""
        group = self._groups.get(subscription.channel, {})
        if subscription in group:
            del group[subscription]
            self.total -= 1
            if not group:
                del self._groups[subscription.channel]

    def readers(self, channel: str) -> KeysView[Subscription]:
        """Who gets the events of a channel: a view, cheap to make."""
        return self._groups.get(channel, _NOBODY).keys()

    def is_read(self, channel: str) -> bool:
        """Whether anybody has subscribed to a channel."""
        return channel in self._groups

    def is_sound(self) -> bool:
        """Whether the parts of the state agree with one another."""
        return self.total == sum(map(len, self._groups.values())) and all(
            reader.channel == name for name, group in self._groups.items() for reader in group
        )

    def rebuild(self, subscriptions: Iterable[Subscription]) -> None:
        """Enter `subscriptions` and no others."""
        self._groups.clear()
        self.total = 0
        for subscription in subscriptions:
            self.add(subscription)
