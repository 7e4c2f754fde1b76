"""The past as an answer: the `history` that a client asks for, of the socket or of REST; sync steps, no I/O."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Raw

from router.batches import Slice
from router.clock import as_timestamp
from router.errors import ErrorCode
from router.hub.state import RouterState
from router.protocol import History, Refusal, reply
from router.recovery import behind, newest, since

#: Bytes of a `history` message around its events, at most.
_AROUND_EVENTS = 512


def history(state: RouterState, item: History) -> bytes:
    """The `history` that answers a request, or the error."""
    try:
        if state.streams.open(item.channel) is None:
            raise state.no_stream(item.channel, item.id)
        fields = history_fields(state, item, state.config.max_message_bytes)
    except Refusal as refusal:
        return refusal.frame()
    return reply("history", item.id, **fields)


def history_fields(state: RouterState, item: History, max_bytes: int) -> dict[str, Any]:
    """What a `history` says.

    Raises:
        Refusal: Nothing is known of the position asked for.
    """
    ring = state.past(item.channel)
    if item.after is not UNSET:
        if item.after.epoch != state.epoch or item.after.seq > ring.last:
            text = f"No history after seq {item.after.seq} of epoch {item.after.epoch[:64]}"
            raise Refusal(ErrorCode.HISTORY_UNAVAILABLE, text, id=item.id, epoch=state.epoch)
        missed = behind(item.channel, ring, state.epoch, item.after, None)
        complete = missed.complete
    elif item.since is not UNSET:
        missed = since(item.channel, ring, state.epoch, as_timestamp(item.since), None)
        complete = missed.complete
    else:
        wanted = item.limit if item.last is UNSET else item.last
        missed = newest(ring, wanted, None)
        complete = missed.events == wanted or ring.first == 1
    events: list[Raw] = []
    size = _AROUND_EVENTS
    for entry in missed.entries:
        if isinstance(entry, Slice):
            for index in entry.indices:
                payload = entry.batch.payload(index)
                size += len(payload) + 1
                if len(events) == item.limit or (events and size > max_bytes):
                    return _history(item.channel, state.epoch, events, complete=complete, more=True)
                events.append(Raw(bytes(payload)))
    return _history(item.channel, state.epoch, events, complete=complete, more=False)


def _history(channel: str, epoch: str, events: list[Raw], *, complete: bool, more: bool) -> dict[str, Any]:
    return {"channel": channel, "epoch": epoch, "complete": complete, "more": more, "events": events}
