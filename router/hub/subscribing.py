"""Subscribing, the router's part: what is granted, where it goes on, and the past that is sent first; no I/O."""

from __future__ import annotations

from typing import Any

from router.errors import ErrorCode
from router.hub.replays import past_of, send_past
from router.hub.state import RouterState
from router.letters import SubscribeTo
from router.paths import Path
from router.policies import Policy
from router.protocol import Position, Refusal, denied_fields, reply
from router.recovery import Missed
from router.sessions import Session
from router.subscriptions import Subscription

_UNKNOWN = ErrorCode.UNKNOWN_CHANNEL


def subscribe(state: RouterState, session: Session, item: SubscribeTo, now: str) -> bytes:
    """Enter what one `subscribe` asks for; the `subscribed` that says so, or the error."""
    fresh = [name for name in item.channels if name not in session.subscriptions]
    limit = state.config.max_subscriptions
    if len(session.subscriptions) + len(fresh) > limit:
        message = f"a connection may have {limit} subscriptions; it has {len(session.subscriptions)}"
        return Refusal(ErrorCode.TOO_MANY_SUBSCRIPTIONS, message, id=item.id).frame()
    # The configuration may have changed since the message was judged, and families' channels are made here.
    denied = {name: reason for name in fresh if (reason := _refuse(state, session, name)) is not None}
    fresh = [name for name in fresh if name not in denied]
    channels = [name for name in item.channels if name not in denied]
    past = past_of(state, item, fresh)
    for name in channels:
        _enter(state, session, name, item, past.get(name))
    positions = state.positions(session, channels)
    fields: dict[str, Any] = {"channels": channels, "timestamp": now, "positions": positions}
    if past:
        positions |= {name: Position(state.epoch, each.start) for name, each in past.items()}
        fields["recovered"] = {name: each.complete for name, each in past.items()}
    if fresh:
        state.announce("client.subscribed", session, channels=fresh)
    no_room = [name for name, reason in denied.items() if reason == _UNKNOWN and state.channels.find(name) is not None]
    refused = denied_fields({**item.denied, **denied}, no_room, state.config.max_channels)
    return reply("subscribed", item.id, **fields, **refused)


def _enter(state: RouterState, session: Session, channel: str, item: SubscribeTo, past: Missed | None) -> None:
    """Make a subscription, or have one ask for something else from its channel's next event on."""
    position = state.streams[channel].flushed_seq
    subscription = session.subscriptions.get(channel)
    if subscription is None:
        subscription = Subscription(channel, session.outlet, position)
    subscription.set_options(item.filter, *_queueing(state, channel, item), state.epoch, position)
    state.subscribe(session, subscription)
    if past is not None:
        send_past(state, session, subscription, past)


def _queueing(state: RouterState, channel: str, item: SubscribeTo) -> tuple[Policy, Path | None]:
    """What a reader that is too slow gives up: its own choice, or else the channel's."""
    if item.policy is not None:
        return item.policy, item.key
    spec = state.channels.find(channel)
    assert spec is not None, "it was granted"
    policy, key = spec.settings.policy, spec.settings.key
    return policy or Policy.DROP_OLDEST, None if key is None else Path(key)


def _refuse(state: RouterState, session: Session, channel: str) -> ErrorCode | None:
    if not session.grants.may_subscribe(channel):
        known = state.channels.find(channel) is not None
        return ErrorCode.PERMISSION_DENIED if known else _UNKNOWN
    return _UNKNOWN if state.streams.open(channel) is None else None
