"""The accounts of all subscriptions: read off the places where events are, and summed when they end; no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from router.errors import GapReason
from router.ledger import Ledger
from router.subscriptions import Outlet, Subscription

#: Why what waits is dropped where a subscription ends.
UNSUBSCRIBED: Final = "unsubscribed"
_BREAK: Final = GapReason.EPOCH_CHANGED.value


def account(readers: Iterable[Subscription], scanned: int, on_the_way: int = 0) -> Ledger:
    """The sum of the accounts of readers of one channel, exact at any moment.

    Args:
        readers: Who.
        scanned: The position up to which the channel's events were looked at for them.
        on_the_way: Events that count as matched and have reached no outlet yet.
    """
    offered = matched = replaced = resent = 0
    queued = on_the_way
    dropped: dict[str, int] = {}
    for reader in readers:  # there may be many, so nothing is called or made that need not be
        queue, group = reader.queue, reader.group
        offered += scanned - reader.start
        matched += reader.matched
        if group is not None:
            matched += group.matched - reader.joined_at
        replaced += queue.replaced
        if queue.dropped:
            for reason, events in queue.dropped.items():
                dropped[reason.value] = dropped.get(reason.value, 0) + events
        news, again = reader.outlet.waiting_for(queue)
        queued += news
        resent += queue.resent - again
    return Ledger.of(offered, matched, queued, replaced, dropped, resent)


class _Leaving(Struct):
    """A subscription that has ended, with events in flight: its client gets these, unless the connection goes first.

    Attributes:
        subscription: That one, out of the table.
        scanned: The position at which it ended.
        lost: Events that waited then.
    """

    subscription: Subscription
    scanned: int
    lost: int

    @property
    def in_flight(self) -> tuple[int, int]:
        """Events that are not wholly out: news, and those that are sent again."""
        return self.subscription.outlet.waiting_for(self.subscription.queue)

    def ledger(self, in_flight: int = 0) -> Ledger:
        """Its account, where so many events may still be delivered, and others that are not out are lost."""
        return account((self.subscription,), self.scanned, self.lost).closed(UNSUBSCRIBED, but=in_flight)


class Accounts:
    """The sums of what ended subscriptions have left. The router alone changes it, in sync steps.

    An account stays in the sums of its channel, and of the server, for good: as it stands while the subscription
    lasts, closed when it has ended. Events in flight at an unsubscribe keep it open until they are out. With the end of
    a session, or of a connection, they are lost. The one that is partly out, on a connection that is still there, is
    not: it counts as delivered, and nobody looks whether the rest of it still goes.

    With a new epoch a subscription's account begins anew, and the one before is closed into the sums, so that these
    go on over epochs. What the break has lost is dropped there as `epoch_changed`: events that were on their way, and
    events that were numbered and of which no filter had been asked, which count as matched. What waits is offered and
    matched in the new account, and no longer in the old one.

    The mutable state is the sums by channel, what is leaving, and `dropped`.

    Attributes:
        dropped: The sums of channels that no longer exist: their names come from clients, without end.
    """

    def __init__(self) -> None:
        self._ended: dict[str, Ledger] = {}
        self._leaving: dict[Outlet, list[_Leaving]] = {}
        self.dropped = Ledger()

    def ended(self, channel: str) -> Ledger:
        """The sum of a channel's subscriptions that have ended."""
        total = self._ended.get(channel, Ledger())
        for leaving in self._leaving.values():
            for each in leaving:
                if each.subscription.channel == channel:
                    total += each.ledger(each.in_flight[0])
        return total

    def add(self, channel: str, ledger: Ledger) -> None:
        """A subscription has ended, with this account."""
        self._ended[channel] = self._ended.get(channel, Ledger()) + ledger

    def leave(self, subscription: Subscription, scanned: int, lost: int) -> None:
        """A subscription has ended that its session outlives; so many events that waited are lost."""
        self._leaving.setdefault(subscription.outlet, []).append(_Leaving(subscription, scanned, lost))
        self._settle(subscription.outlet)

    def settle(self) -> None:
        """Close accounts of which nothing is in flight any more."""
        for outlet in tuple(self._leaving):
            self._settle(outlet)

    def part(self, outlet: Outlet) -> None:
        """A connection is let go of, its frame claimed: what else is in flight of ended subscriptions is lost."""
        for each in self._leaving.pop(outlet, ()):
            self.add(each.subscription.channel, each.ledger())

    def _settle(self, outlet: Outlet) -> None:
        for each in self._leaving.pop(outlet):
            if any(each.in_flight):
                self._leaving.setdefault(outlet, []).append(each)
            else:
                self.add(each.subscription.channel, each.ledger())

    def awaits(self, channel: str) -> bool:
        """Whether an account of the channel waits for events in flight."""
        return any(each.subscription.channel == channel for leaving in self._leaving.values() for each in leaving)

    def drop(self, channel: str) -> None:
        """The channel no longer exists: add its sums to `dropped`."""
        self.dropped += self._ended.pop(channel, Ledger())

    def begin_anew(self, subscription: Subscription, scanned: int, unseen: int, missed: int) -> None:
        """Close the account of an epoch that is over, and begin the next one with what waits.

        After a crash the figures may contradict one another. What is known to be lost counts, and they are made to
        add up.

        Args:
            subscription: Whose.
            scanned: The position up to which events were looked at for it.
            unseen: Events after that: nobody can ask its filter about them any more.
            missed: Events that count as matched and never reached its outlet.
        """
        queue = subscription.queue
        news, again = subscription.outlet.waiting_for(queue)
        dropped = {reason.value: events for reason, events in queue.dropped.items()}
        if unseen + missed:
            dropped[_BREAK] = dropped.get(_BREAK, 0) + unseen + missed
        matched = max(subscription.matched_by_now + unseen - news, queue.replaced + sum(dropped.values()))
        offered = max(scanned + unseen - subscription.start - news, matched)
        ledger = Ledger.of(offered, matched, 0, queue.replaced, dropped, queue.resent - again)
        self.add(subscription.channel, ledger)
        queue.replaced, queue.dropped, queue.resent = 0, {}, again
        subscription.start, subscription.matched = -news, news
        subscription.joined_behind = subscription.last_before = subscription.told = 0
