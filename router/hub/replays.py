"""The past for those who ask: at a subscription and at a resume; sync steps of the router, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

from router.batches import Slice, count
from router.errors import GapReason
from router.hub.state import RouterState
from router.letters import SubscribeTo
from router.outbox import Past
from router.policies import Policy
from router.protocol import Position, Resume, reply
from router.queues import Gap, Queue
from router.recovery import (
    EpochBreak,
    Missed,
    behind,
    keep_newest,
    merge_gaps,
    newest,
    part_behind,
    part_up_to,
    restored,
    seq_of,
    since,
)
from router.sessions import Session
from router.subscriptions import Subscription

# At a subscription


def past_of(state: RouterState, item: SubscribeTo, channels: Iterable[str]) -> dict[str, Missed]:
    """The past that new subscriptions are to be sent first, by channel; those that ask for none are not in it."""
    past: dict[str, Missed] = {}
    for name in channels:
        ring = state.past(name)
        if name in item.recover:
            past[name] = behind(name, ring, state.epoch, item.recover[name], item.filter)
        elif item.last is not None:
            past[name] = newest(ring, min(item.last, state.config.max_replay), item.filter)
        elif item.since is not None:
            past[name] = since(name, ring, state.epoch, item.since, item.filter)
    keep_newest(past, state.config.max_replay)
    return past


def send_past(state: RouterState, session: Session, subscription: Subscription, missed: Missed) -> None:
    """Send the past to a new subscription, and enter it into its account, which begins there."""
    subscription.start = missed.start
    subscription.last_before = missed.last
    subscription.matched = missed.events + missed.lost
    state.counters.matched += subscription.matched
    entries = merge_gaps(missed.entries)
    for entry in entries:
        if isinstance(entry, Gap) and entry.count is not None:
            _lose(session, subscription, entry.reason, entry.count)
    session.outbox.replay(Past(subscription.queue, entry) for entry in entries)
    session.wake()


def _lose(session: Session, subscription: Subscription, reason: GapReason, events: int) -> None:
    """Enter lost events into a subscription's account."""
    if events:
        dropped = subscription.queue.dropped
        dropped[reason] = dropped.get(reason, 0) + events
        session.outbox.dropped += events


# At a resume


def resume(state: RouterState, session: Session, item: Resume, now: str) -> None:
    """Send a client what it says it has missed, then `resumed`, then what comes."""
    missed: dict[str, Missed] = {}
    delivered: dict[str, float] = {}
    for name, subscription in sorted(session.subscriptions.items()):
        waiting = session.outbox.take_all(subscription.queue)
        position = item.positions.get(name)
        if position is None:  # all that waits is news, of whatever epoch
            missed[name], delivered[name] = Missed(0, _regain(state, session, subscription, waiting)), -1
        else:
            # A break of this epoch has answered what the client said before.
            current = [part for part in waiting if part.epoch == state.epoch and not isinstance(part, EpochBreak)]
            old = [entry for entry in waiting if entry.epoch != state.epoch]
            _lose(
                session, subscription, GapReason.EPOCH_CHANGED, count(part for part in old if isinstance(part, Slice))
            )
            delivered[name] = seq = _delivered(state, subscription, current)
            current = _regain(state, session, subscription, current)
            missed[name] = _missed_by(state, subscription, position, current, seq)
            lost = [part for part in old if isinstance(part, Slice) or part.count is not None]
            if lost and position.epoch == state.epoch:
                missed[name].entries.insert(0, _break_at(name, lost[0]))
    news = {name: each.events_behind(delivered[name]) for name, each in missed.items()}
    keep_newest(missed, state.config.max_replay)
    for name, each in missed.items():
        subscription = session.subscriptions[name]
        left = each.events_behind(delivered[name])
        _lose(session, subscription, GapReason.BUFFER_OVERFLOW, news[name] - left)
        for entry in each.entries:
            session.outbox.replay(_parts(subscription.queue, entry, delivered[name]))
    replayed = sum(each.events for each in missed.values())
    frame = reply("resumed", item.id, channels=list(missed), replayed=replayed, timestamp=now)
    session.outbox.replay([Past(None, frame)])


def _delivered(state: RouterState, subscription: Subscription, waiting: list[Gap | Slice]) -> int:
    """The last event of this epoch that a client was sent, as far as the server knows."""
    if waiting:
        return subscription.before(waiting[0])
    return subscription.last_seq(state.streams[subscription.channel].flushed_seq)


def _regain(
    state: RouterState, session: Session, subscription: Subscription, waiting: list[Gap | Slice]
) -> list[Gap | Slice]:
    """What waits, with what was given up and never told back in its place, as far as the past holds it.

    Only where it is known what they had to match: not those that came before the subscription asked for what it does
    now, nor under `latest`, where those that were replaced stand among them.
    """
    queue, whole = subscription.queue, []
    for entry in waiting:
        if not (
            isinstance(entry, Gap)
            and entry.epoch == state.epoch
            and entry.count is not None
            and entry.first is not None
            and queue.policy is not Policy.LATEST
        ):
            whole.append(entry)
            continue
        ring = state.past(subscription.channel)
        parts = restored(entry, ring, subscription.filter, subscription.joined_behind)
        session.outbox.dropped -= queue.regain(entry.reason, count(part for part in parts if isinstance(part, Slice)))
        whole += parts
    return whole


def _missed_by(
    state: RouterState, subscription: Subscription, position: Position, waiting: list[Gap | Slice], delivered: int
) -> Missed:
    """What is new to a client on one channel: what it says it has not got, and what waits for it in this epoch."""
    ring = state.past(subscription.channel)
    if position.epoch == state.epoch and delivered <= position.seq <= ring.last:
        left = (part_behind(entry, position.seq) for entry in waiting)
        return Missed(position.seq, [entry for entry in left if entry is not None])
    told = behind(subscription.channel, ring, state.epoch, position, subscription.filter)
    before = (part_up_to(entry, delivered, state.epoch) for entry in told.entries)
    return Missed(told.start, [*(entry for entry in before if entry is not None), *waiting])


def _break_at(channel: str, lost: Gap | Slice) -> Gap:
    """The gap for what waited of an epoch that is over, where its client speaks of the next one already."""
    return Gap(channel, lost.epoch, (lost.before or 0) + 1, None, None, GapReason.EPOCH_CHANGED)


def _parts(queue: Queue, entry: Gap | Slice, delivered: float) -> list[Past]:
    """An entry as parts of a replay: what is sent again, and what is news."""
    if isinstance(entry, Gap):
        answers_claim = isinstance(entry, EpochBreak) and delivered >= 0
        return [Past(queue, entry, again=answers_claim or (entry.last is not None and entry.last <= delivered))]
    at = next((index for index in entry.indices if seq_of(entry, index) > delivered), entry.stop)
    again, news = Slice(entry.batch, entry.start, at), Slice(entry.batch, at, entry.stop, entry.behind)
    parts = [Past(queue, again, again=True), Past(queue, news)]
    return [part for part in parts if part.events]
