"""After a crash: whether the state can be trusted, and the new epoch where it cannot; sync steps, no I/O."""

from __future__ import annotations

from router.batches import Slice
from router.engine.memory import new_epoch
from router.errors import GapReason
from router.hub.state import RouterState
from router.queues import Queue
from router.recovery import EpochBreak
from router.subscriptions import Subscription


def is_sound(state: RouterState) -> bool:
    """Whether everybody got what was fanned out, and the parts of the state agree with one another."""
    return (
        state.fan_out is None
        and all(stream.is_sound() for stream in state.streams)
        and state.subscriptions.is_sound()
        and state.subscriptions.total == sum(len(session.subscriptions) for session in state.sessions)
        and all(
            subscription.outlet is session.outlet
            for session in state.sessions
            for subscription in session.subscriptions.values()
        )
    )


def begin_epoch(state: RouterState) -> None:
    """Number all channels anew, rebuild the table from the sessions, and announce the break to every reader."""
    lost_from = {stream.name: stream.flushed_seq + 1 for stream in state.streams}
    missed_from, missed = _missed(state)
    for session in state.sessions:
        for name, subscription in session.subscriptions.items():
            subscription.outlet = session.outlet
            subscription.settle_places(state.epoch)
            scanned, lost = state.scanned(name), missed.get(subscription, 0)
            unseen = max(0, state.streams[name].seq - scanned)
            state.accounts.begin_anew(subscription, scanned, unseen, lost)
            session.outbox.dropped += lost
    state.fan_out = None
    old, state.epoch = state.epoch, new_epoch()
    state.touched.clear()
    state.streams.restart()
    state.publish_keys.clear()  # what they name may be lost: a publish that is tried again is done again
    state.subscriptions.rebuild(
        subscription for session in state.sessions for subscription in session.subscriptions.values()
    )
    for session in state.sessions:
        for name, subscription in session.subscriptions.items():
            first = missed_from if subscription in missed else lost_from[name]
            gap = EpochBreak(name, old, first, None, None, GapReason.EPOCH_CHANGED, successor=state.epoch)
            session.outbox.put_gap(subscription.queue, gap)
            if subscription.queue.latest_behind is not None:
                subscription.queue.latest_behind = (state.epoch, 0)
        if session.lane is not None:
            session.lane.wake()


def _missed(state: RouterState) -> tuple[int, dict[Subscription, int]]:
    """The seq of the first event that was being fanned out, and who has not got them: how many match for each."""
    if state.fan_out is None:
        return 0, {}
    if not state.fan_out.all_asked:
        return state.fan_out.first_seq, dict.fromkeys(state.subscriptions.readers(state.fan_out.stream.name), 0)
    missed = state.fan_out.unreached()
    # With the last one it broke off: it has them only if they wait for it.
    last = state.fan_out.reached_last()
    if last is not None and not _ends_with(last[0].queue, state.fan_out.first_seq):
        missed[last[0]] = last[1]
    return state.fan_out.first_seq, missed


def _ends_with(queue: Queue, first_seq: int) -> bool:
    """Whether the last that waits is of the batch that begins with `first_seq`."""
    last = queue.entries[-1] if queue.entries else None
    return isinstance(last, Slice) and last.batch.seqs is not None and last.batch.seqs[-1] >= first_seq
