"""`GET channels/{channel}/history`: some of a channel's past, as the socket's `history` tells it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict
from quart import Blueprint, Response

from router.hub.history_reply import history_fields
from router.hub.state import RouterState
from router.protocol import MAX_HISTORY_EVENTS, History, Position, Refusal, Time, field_error, only_one
from router.rest.admission import Context, caller, require_subscribe
from router.rest.answers import SentEvent, answered
from router.rest.operations import operation
from router.rest.problems import Problem, ProblemError, of_refusal
from router.rest.reading import read_query

_Seq = Annotated[int, Meta(ge=0, le=2**63 - 1, description="After this position: so a client goes on, page by page")]
_Epoch = Annotated[str, Meta(description="The epoch of `after_seq`; without it the current one is meant")]
_Last = Annotated[int, Meta(ge=1, description="So many of the newest")]
# No datetime, which msgspec would make of a bare number, too.
_Since = Annotated[
    str, Meta(description="All of this time and later; RFC 3339", extra_json_schema={"format": "date-time"})
]
_Limit = Annotated[int, Meta(ge=1, le=MAX_HISTORY_EVENTS, description="How many at most")]


class HistoryQuery(Struct, frozen=True):
    """Which part: after `after_seq`, the `last` ones, or `since` a time; without them the newest `limit` events."""

    after_seq: _Seq | UnsetType = UNSET
    epoch: _Epoch | UnsetType = UNSET
    since: _Since | UnsetType = UNSET
    last: _Last | UnsetType = UNSET
    limit: _Limit = 100


class HistoryPart(Struct):
    """Events of a channel, in order.

    `complete` is false where a part of what was asked for is gone; `more` is true where only `limit`, or the size of
    an answer, cut it: the last event's `seq` is the next `after_seq`.
    """

    channel: str
    epoch: str
    complete: bool
    more: bool
    events: list[SentEvent]


class HistoryProblem(Problem, kw_only=True, frozen=True):
    """Nothing is known of the position asked for: it is of another epoch, or lies ahead (RFC 9457)."""

    epoch: Annotated[str, Meta(description="The current one")]


def add_history(blueprint: Blueprint, context: Context) -> None:
    """Add the resource."""
    state = context.state

    @blueprint.get("/channels/<channel>/history")
    @operation(
        "Channels",
        HistoryPart,
        query=HistoryQuery,
        problems=[HTTPStatus.NOT_FOUND],
        problem_models={HTTPStatus.CONFLICT: HistoryProblem},
    )
    def history(channel: str) -> Response:
        """Some of a channel's past.

        Needs subscribe permission. What is held is limited in events, bytes and, where so configured, age.
        """
        request = _request(state, channel, read_query(HistoryQuery))
        require_subscribe(context, caller(), channel)
        try:
            fields = history_fields(state, request, state.config.max_body_bytes)
        except Refusal as refusal:
            error = of_refusal(refusal)
            error.problem = HistoryProblem(**asdict(error.problem), epoch=state.epoch)
            raise error from None
        return answered(HistoryPart(**fields))


def _request(state: RouterState, channel: str, query: HistoryQuery) -> History:
    """The same as a message of the socket.

    Raises:
        ProblemError: The query asks for two things at once, or `since` is not a time.
    """
    given = [name for name in ("after_seq", "last", "since") if getattr(query, name) is not UNSET]
    if len(given) > 1:
        raise _wrong(only_one(given).message)
    message = History(channel, last=query.last, limit=query.limit)
    if query.after_seq is not UNSET:
        message.after = Position(state.epoch if query.epoch is UNSET else query.epoch, query.after_seq)
    elif query.epoch is not UNSET:
        raise _wrong("epoch: it belongs to after_seq, which is missing")
    if query.since is not UNSET:
        try:
            message.since = msgspec.convert(query.since, Time)
        except msgspec.ValidationError as error:
            raise _wrong(f"{field_error(error, 'since')} (got {query.since[:64]!r})") from None
    return message


def _wrong(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, detail)
