"""The account of what a subscription was to get; no I/O.

    offered = filtered + matched
    matched = delivered + queued + replaced + dropped, by reason

It adds up at any moment, because it is read off the places where events are: what was delivered is what is nowhere
else. An event is delivered when the last byte of its frame was handed to the kernel. What is sent again does not
count here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

#: Why what waits is dropped where the session ends.
CLOSED: Final = "closed"


class Ledger(Struct, frozen=True):
    """An account, or a sum of accounts.

    Attributes:
        offered: Events of the channel since the subscription began.
        filtered: Those that its filter left out.
        matched: Those that it let through.
        delivered: Those that were handed whole to the kernel.
        queued: Those that wait.
        replaced: Those that a later one of their key has replaced.
        dropped: Those that are lost, by reason.
        resent: Sent again, outside the sum.
    """

    offered: int = 0
    filtered: int = 0
    matched: int = 0
    delivered: int = 0
    queued: int = 0
    replaced: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    resent: int = 0

    @classmethod
    def of(
        cls, offered: int, matched: int, queued: int, replaced: int, dropped: Mapping[str, int], resent: int
    ) -> Ledger:
        """The account that these figures leave."""
        delivered = matched - queued - replaced - sum(dropped.values())
        return cls(offered, offered - matched, matched, delivered, queued, replaced, dropped, resent)

    def closed(self, reason: str, but: int = 0) -> Ledger:
        """The account at its end: what waits, `but` so many events, is dropped for that reason."""
        lost = self.queued - but
        if not lost:
            return self
        dropped = {**self.dropped, reason: self.dropped.get(reason, 0) + lost}
        return replace(self, queued=but, dropped=dropped)

    def __add__(self, other: Ledger) -> Ledger:
        dropped = dict(self.dropped)
        for reason, events in other.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + events
        return Ledger(
            self.offered + other.offered,
            self.filtered + other.filtered,
            self.matched + other.matched,
            self.delivered + other.delivered,
            self.queued + other.queued,
            self.replaced + other.replaced,
            dropped,
            self.resent + other.resent,
        )
