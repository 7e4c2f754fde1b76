"""`POST broadcast`: one event for a channel, one client, one user or everybody."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
import trio
from msgspec import UNSET, Meta, Struct, UnsetType
from quart import Blueprint, Response, request

from router.auth.identity import Identity
from router.blocking import Patience
from router.errors import ErrorCode
from router.events import EVENT_TYPE_JSON, TOO_DEEP, AnyData, EventTypeError, is_too_deep
from router.hub.attachment import grants_of
from router.letters import Broadcast, Events, Receipt, SendTo, SendToCall
from router.protocol import Publish, Refusal, field_error
from router.rest.admission import Context, ask, caller, intake_of, require_admin
from router.rest.answers import Data, EventType, Ok, answered, data_of
from router.rest.operations import operation
from router.rest.problems import ProblemError, of_refusal
from router.rest.reading import decode_body, read_body, read_query

PERSONAL = "personal"
GLOBAL = "global"


class ChannelQuery(Struct, frozen=True):
    """Where to."""

    channel: Annotated[str, Meta(description="In place of the body's `channel`")] | UnsetType = UNSET


class BroadcastBody(Struct, frozen=True):
    """An event, and for whom it is: a `channel`, one client, one user, or everybody (`"channel": "global"`)."""

    event_type: EventType
    data: Data = UNSET
    channel: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET


class BroadcastDone(Struct, kw_only=True):
    """The event was published. An event for clients, users or everybody has no `seq`."""

    status: Ok = "ok"
    channel: str
    subscribers: int
    message_sent: bool
    seq: int | UnsetType = UNSET


_decoder = msgspec.json.Decoder(BroadcastBody)
_check_any = msgspec.json.Decoder(AnyData).decode


def add_broadcast(blueprint: Blueprint, context: Context) -> None:
    """Add the resource."""

    @blueprint.post("/broadcast")
    @operation(
        "Publishing",
        BroadcastDone,
        query=ChannelQuery,
        body=BroadcastBody,
        example={"channel": "signals", "event_type": "signal.input.text", "data": {"priority": 200}},
        problems=[HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE],
    )
    async def broadcast() -> Response:
        """Publish one event.

        To a channel: needs publish permission there; on one with the option `block` the call waits for room with all
        subscribers, for `block_timeout_ms` at most. To one client (`client_id`), one user (`user_id`) or everybody
        (`"channel": "global"`): for the role admin.
        """
        query = read_query(ChannelQuery)
        payload = await read_body()
        body = decode_body(payload, _decoder)
        try:
            channel = _channel(query, body)
            if channel in (PERSONAL, GLOBAL):
                done = await _send_to(context, body, channel)
            else:
                done = await _publish(context, caller(), channel, body, len(payload))
        except Refusal as refusal:
            raise of_refusal(refusal) from None
        return answered(done)


def _channel(query: ChannelQuery, body: BroadcastBody) -> str:
    """The one channel that is meant; `personal` for a client or a user."""
    named = {name for name in (query.channel, body.channel) if name is not UNSET}
    if len(named) > 1:
        raise _invalid(f"channel: the query says {query.channel!r} and the body {body.channel!r}")
    targets = [name for name in (body.client_id, body.user_id) if name is not UNSET]
    if len(targets) > 1:
        raise _invalid("client_id: give it or user_id, not both")
    channel = next(iter(named), PERSONAL if targets else None)
    if channel is None:
        raise _invalid("channel is missing; or give client_id or user_id")
    if targets and channel != PERSONAL:
        raise _invalid(f"channel: an event for a client or a user goes to no channel, and {channel!r} is given")
    if channel == PERSONAL and not targets:
        raise _invalid("client_id is missing, or user_id: an event on 'personal' is for one of them")
    return channel


def _invalid(text: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_MESSAGE, text)


async def _publish(context: Context, who: Identity, channel: str, body: BroadcastBody, size: int) -> BroadcastDone:
    message = Publish(channel=channel, event_type=body.event_type, data=data_of(body.data))
    intake_of(context, who, request.scope).check_publish(message, grants_of(context.state, who), size)
    answers: list[Receipt | Refusal] = []

    async def send(part: list[Events], done: trio.Event | None) -> None:
        answers.extend(await ask(context, lambda reply: Broadcast(reply, part, done)))

    await context.state.blocking.hand_on([Events(channel, [message])], send, Patience())
    (receipt,) = answers
    if isinstance(receipt, Refusal):
        raise receipt
    return BroadcastDone(channel=channel, subscribers=receipt.subscribers, message_sent=True, seq=receipt.last)


async def _send_to(context: Context, body: BroadcastBody, channel: str) -> BroadcastDone:
    require_admin(caller(), "events for clients, users and everybody are")
    client_id = None if body.client_id is UNSET else body.client_id
    message = SendTo(
        body.event_type, _checked(context, body), client_id, None if body.user_id is UNSET else body.user_id
    )
    reached: int = await ask(context, lambda reply: SendToCall(reply, message))
    if client_id is not None and not reached:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no client {client_id[:64]!r}")
    return BroadcastDone(channel=channel, subscribers=reached, message_sent=reached > 0 or channel == GLOBAL)


def _checked(context: Context, body: BroadcastBody) -> bytes:
    """The data of an event that goes to no channel, checked as if it went to one without a schema."""
    data, limit = bytes(data_of(body.data)), context.state.config.max_event_bytes
    try:
        EVENT_TYPE_JSON[body.event_type]
        _check_any(data)
    except EventTypeError as error:
        raise _invalid(str(error)) from None
    except msgspec.ValidationError as error:
        raise _invalid(field_error(error, "data")) from None
    if is_too_deep(data):
        raise _invalid(TOO_DEEP)
    if len(data) > limit:
        raise Refusal(ErrorCode.PAYLOAD_TOO_LARGE, f"data has {len(data)} bytes, the limit is {limit}")
    return data
