"""The subscription table: who listens to which channel, and through which filter; no I/O. The router alone changes it.

The readers of a channel that ask for the same stand in one group: a filter is asked once per event, and what passes is
one buffer for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Protocol

from router.batches import Batch, Slice
from router.filters import Filter
from router.outbox import Outbox
from router.paths import Path
from router.policies import Policy
from router.queues import Gap, Queue


class Outlet(Protocol):
    """Where a session's events go: its connection's lane, or its outbox while it has none."""

    @property
    def draining(self) -> Outbox | None:
        """The outbox that is being written; None: no event is."""
        ...

    def offer(self, queue: Queue, batch: Batch) -> None:
        """Take a batch for a queue. Never raises for the connection's end."""
        ...

    def waiting_for(self, queue: Queue) -> tuple[int, int]:
        """Events that wait for a subscription or are in flight: news to its client, and those that are sent again."""
        ...

    def entries_of(self, queue: Queue) -> Iterator[Slice | Gap]:
        """What waits for a subscription or is in flight, in order."""
        ...


class Group:
    """The readers of a channel that ask for the same.

    Attributes:
        channel: Its name.
        filter: What they ask for; None: everything.
        readers: In the order in which they came.
        matched: Events that passed the filter since the group is there.
        last_seq: The seq of the last one that did.
    """

    __slots__ = ("channel", "filter", "last_seq", "matched", "readers")

    def __init__(self, channel: str, filter: Filter | None) -> None:  # noqa: A002 - the wire's name
        self.channel = channel
        self.filter = filter
        self.matched = 0
        self.last_seq = 0
        self.readers: dict[Subscription, None] = {}


class Subscription:
    """One session's subscription to one channel.

    Attributes:
        channel: Its name.
        queue: What waits for the session on the channel.
        outlet: Where its events go; changed when its session loses or finds a connection.
        filter: What it asks for; None: everything.
        group: Where it stands in the table; None: nowhere.
        start: The position that its account begins after.
        matched: Events that it was to get, before `joined_at`.
        joined_at: What its group had matched when it joined.
        joined_behind: The position after which it belongs to its group.
        last_before: The last event that it was to get up to there, or where it began.
        told: The position that its client was told last otherwise than by an event.
    """

    __slots__ = (
        "channel", "filter", "group", "joined_at", "joined_behind", "last_before", "matched", "outlet", "queue",
        "start", "told",
    )  # fmt: skip

    def __init__(self, channel: str, outlet: Outlet, start: int = 0) -> None:
        self.channel = channel
        self.queue = Queue(channel)
        self.outlet = outlet
        self.filter: Filter | None = None
        self.group: Group | None = None
        self.start = start
        self.matched = 0
        self.joined_at = 0
        self.joined_behind = self.last_before = start
        self.told = start

    def set_options(
        self,
        filter: Filter | None,  # noqa: A002 - the wire's name
        policy: Policy,
        key: Path | None,
        epoch: str,
        position: int,
    ) -> None:
        """Ask for something else from the channel's last position on; the table has to be told."""
        self.settle_places(epoch)
        self.last_before = self.last_seq(position)
        self.filter = filter
        self.joined_behind = position
        self.queue.set_policy(policy, key, epoch, position)

    def last_seq(self, flushed_seq: int) -> int:
        """The last event that it was to get; `flushed_seq` is the channel's last one."""
        if self.group is None:
            return self.last_before
        last = flushed_seq if self.group.filter is None else self.group.last_seq
        return last if last > self.joined_behind else self.last_before

    def before(self, first: Slice | Gap) -> int:
        """The last event of this epoch that it was to get before what waits first."""
        before, seq = first.before, first.first if isinstance(first, Gap) else first.seq(first.start)
        assert before is not None, "events of a subscription have positions"
        return self.last_before if seq is not None and before <= self.joined_behind < seq else before

    def settle_places(self, epoch: str) -> None:
        """Have what waits remember what stood before it, as `before` says it: it is to join another group.

        Only the first event behind where it has joined one needs that: the group may have had another before.
        """
        for entry in self.outlet.entries_of(self.queue):
            first = entry.first if isinstance(entry, Gap) else entry.seq(entry.start)
            if first is not None and first > self.joined_behind and entry.epoch == epoch:
                entry.behind = self.before(entry)
                return

    @property
    def matched_by_now(self) -> int:
        """Events that it was to get."""
        return self.matched + (0 if self.group is None else self.group.matched - self.joined_at)


class Subscriptions:
    """All subscriptions, by channel and by what they ask for.

    The mutable state is the groups, each as long as it has readers.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[object, Group]] = {}
        self.total = 0

    def add(self, subscription: Subscription) -> None:
        """Enter a subscription, or move it to the group of what it asks for now."""
        channel, key = subscription.channel, _key(subscription.filter)
        group = self._groups.get(channel, _NONE).get(key)
        if group is not None and subscription.group is group:
            return
        self.remove(subscription)
        if group is None:
            group = self._groups.setdefault(channel, {})[key] = Group(channel, subscription.filter)
        group.readers[subscription] = None
        subscription.group, subscription.joined_at = group, group.matched
        self.total += 1

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription out, if it is in."""
        group = subscription.group
        if group is None:
            return
        subscription.matched, subscription.group = subscription.matched_by_now, None
        del group.readers[subscription]
        self.total -= 1
        if not group.readers:
            groups = self._groups[group.channel]
            del groups[_key(group.filter)]
            if not groups:
                del self._groups[group.channel]

    def groups(self, channel: str) -> Collection[Group]:
        """The groups of a channel: a view, cheap to make."""
        return self._groups.get(channel, _NONE).values()

    def readers(self, channel: str) -> Iterator[Subscription]:
        """Who gets events of a channel."""
        return chain.from_iterable(group.readers for group in self.groups(channel))

    def count(self, channel: str) -> int:
        """How many that are."""
        return sum(len(group.readers) for group in self.groups(channel))

    def is_read(self, channel: str) -> bool:
        """Whether anybody has subscribed to a channel."""
        return channel in self._groups

    def is_sound(self) -> bool:
        """Whether the parts of the state agree with one another."""
        groups = [(name, key, group) for name, keyed in self._groups.items() for key, group in keyed.items()]
        return self.total == sum(len(group.readers) for _, _, group in groups) and all(
            group.channel == name
            and _key(group.filter) == key
            and group.readers
            and all(reader.group is group and reader.channel == name for reader in group.readers)
            for name, key, group in groups
        )

    def rebuild(self, subscriptions: Iterable[Subscription]) -> None:
        """Enter `subscriptions` and no others."""
        for groups in self._groups.values():
            for group in groups.values():
                for reader in group.readers:
                    reader.group = None
        self._groups.clear()
        self.total = 0
        for subscription in subscriptions:
            subscription.group = None
            self.add(subscription)


_NONE: dict[object, Group] = {}


def _key(filter: Filter | None) -> object:  # noqa: A002 - the wire's name
    return None if filter is None else filter.key
