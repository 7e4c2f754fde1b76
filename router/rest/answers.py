"""What answers are made of, and how they are sent."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from quart import Response

from router.hub.state import RouterState
from router.rest.reading import JSON
from router.sessions import Session

Ok = Literal["ok"]
Timestamp = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
EventType = Annotated[
    str,
    Meta(
        description="1 to 128 characters of `A-Z a-z 0-9 . _ - :`",
        extra_json_schema={"pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    ),
]
#: `data` as it was published, unread.
Data = Annotated[Raw, Meta(description="An object", extra_json_schema={"type": "object"})] | UnsetType
#: An event as it was sent, unread.
SentEvent = Annotated[Raw, Meta(description="An event as it was sent", extra_json_schema={"type": "object"})]

_NO_DATA: Final = Raw(b"{}")


def data_of(data: Raw | UnsetType) -> Raw:
    """What an event without `data` has."""
    return _NO_DATA if data is UNSET else data


def answered(content: Struct, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(content), status=status, content_type=JSON)


def connected_at(state: RouterState, session: Session) -> str:
    """Since when a client has its connection, or when it came last."""
    return state.clock.timestamp(int(session.connected_at * 1000))


def last_heartbeat(state: RouterState, session: Session) -> str | None:
    """When a client was heard of last; None: it is away."""
    if session.lane is None:
        return None
    return state.clock.timestamp(state.clock.unix_ms() - int(session.lane.silent_for_s() * 1000))
