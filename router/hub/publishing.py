"""Publishing, the router's part: events get their positions and wait for the next fan-out; sync steps, no I/O."""

from __future__ import annotations

import msgspec

from router.batches import Batch
from router.frames import text_frame
from router.hub.state import RouterState
from router.letters import Events, Receipt, SendTo
from router.protocol import Refusal, encode, reply


def append(state: RouterState, item: Events) -> Receipt | Refusal:
    """Number events and keep them for the next fan-out."""
    stream = state.stamped(item.channel)
    if stream is None:
        return state.no_stream(item.channel, item.id)
    if item.key is not None and (known := state.publish_keys.get(item.channel, item.key)) is not None:
        return known
    first = stream.seq + 1
    stream.append(item.events)
    state.counters.events += len(item.events)
    receipt = Receipt(first, stream.seq, state.subscriptions.count(item.channel))
    if item.key is not None:
        state.publish_keys.remember(item.channel, item.key, receipt)
    return receipt


def answered(state: RouterState, item: Events, answer: Receipt | Refusal) -> bytes:
    """The `published` that tells a publisher of its events, or the error."""
    if isinstance(answer, Refusal):
        return answer.frame()
    return reply(
        "published",
        item.id,
        channel=item.channel,
        seq=(answer.first, answer.last),
        subscribers=answer.subscribers,
        timestamp=state.clock.timestamp(),
    )


def send_to(state: RouterState, message: SendTo) -> int:
    """Send an event that nobody subscribes to, under the same bounds as any other. Returns how many get it."""
    channel = "personal"
    if message.client_id is not None:
        one = state.sessions.by_client(message.client_id)
        targets = [] if one is None else [one]
    elif message.user_id is not None:
        targets = list(state.sessions.by_user(message.user_id))
    else:
        targets, channel = list(state.sessions), "global"
    event = {
        "channel": channel,
        "timestamp": state.clock.timestamp(),
        "event_type": message.event_type,
        "data": msgspec.Raw(message.data),
    }
    frame = text_frame(encode(event))
    batch = Batch(frame, (len(frame),), None, state.epoch)
    state.counters.matched += len(targets)
    for session in targets:
        session.outlet.offer(session.queue(channel), batch)
    return len(targets)
