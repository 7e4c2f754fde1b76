"""What of a channel's past a subscription is to be sent, by the contract: from where on, and whether it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from router.config import Config
from tests.simulation.truth import Moment, Place, Truth, Wants


class Past(NamedTuple):
    """The answer.

    Attributes:
        start: The position in `subscribed`.
        place: Where its client is: other than there, where it named a position that is not known.
        whole: No gap is needed.
    """

    start: Place
    place: Place
    whole: bool


def past_of(
    truth: Truth, config: Config, moment: Moment, channel: str, options: Mapping[str, Any], wants: Wants
) -> Past:
    """What a subscription gets that was done at a moment."""
    epoch, last = moment.epoch, moment.flushed[channel]
    first = max(1, last - config.history_events + 1)
    held = [seq for seq, data in truth.between(epoch, channel, first - 1, last) if wants(data)]
    if "recover" in options:
        position = options["recover"][channel]
        named = position["epoch"], position["seq"]
        known = named[0] == epoch and named[1] <= last
        start = named[1] if known else 0
        missed = sum(seq > start for seq in held)
        return Past((epoch, start), named, known and start >= first - 1 and missed <= config.max_replay)
    if "last" in options:
        chosen = held[-min(options["last"], config.max_replay) :]
        start = chosen[0] - 1 if chosen else last
        return Past((epoch, start), (epoch, start), whole=True)
    if "since" in options:
        events = truth.events(epoch, channel)
        start = next((seq - 1 for seq in range(first, last + 1) if events[seq - 1].timestamp >= options["since"]), last)
        missed = sum(seq > start for seq in held)
        reached = first == 1 or events[first - 2].timestamp < options["since"]
        return Past((epoch, start), (epoch, start), reached and missed <= config.max_replay)
    return Past((epoch, last), (epoch, last), whole=True)
