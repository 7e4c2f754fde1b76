"""What the router's mailbox takes: one letter for all the messages of one read, and what others ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from actors import Call, Reply
from router.auth import Identity
from router.errors import CloseCode
from router.lanes import Lane
from router.permissions import Grants
from router.protocol import EventIn, GetReconnectionToken, GetSubscriptions, Id, Publish, Unsubscribe
from router.sessions import Session


@dataclass(slots=True, frozen=True)
class SubscribeTo:
    """A `subscribe`, judged: what to enter, and why the rest was refused."""

    channels: Sequence[str]
    denied: Mapping[str, str]
    id: Id


@dataclass(slots=True, frozen=True)
class SignIn:
    """An `authenticate` whose token was good."""

    identity: Identity
    grants: Grants
    id: Id


@dataclass(slots=True, frozen=True)
class Events:
    """Events to publish on one channel, all judged: one `publish`, or a run of them that nobody wants answered."""

    channel: str
    events: list[Publish | EventIn]
    id: Id = UNSET


#: One thing to do, or (as bytes) a reply that the connection could render alone, at its place in the order.
Item = bytes | Events | SubscribeTo | Unsubscribe | GetSubscriptions | GetReconnectionToken | SignIn


@dataclass(slots=True, frozen=True)
class Letter:
    """All messages of one read, in order."""

    session: Session
    lane: Lane
    items: Sequence[Item]


@dataclass(slots=True, frozen=True)
class Attached:
    """A connection has its session; `connected` has been sent."""

    session: Session


@dataclass(slots=True, frozen=True)
class Refused:
    """A connection gets no session and is to be closed."""

    code: CloseCode
    reason: str


class Attach(Call[Attached | Refused]):
    """A connection asks for its session, a new one or the one that its reconnection token names."""

    def __init__(
        self, reply: Reply[Attached | Refused], *, lane: Lane, identity: Identity | None, token: str | None
    ) -> None:
        super().__init__(reply)
        self.lane = lane
        #: Who its JWT says it is; None: it brought none.
        self.identity = identity
        self.token = token


@dataclass(slots=True, frozen=True)
class Depart:
    """A connection is over."""

    session: Session
    lane: Lane
    code: int
    reason: str


@dataclass(slots=True, frozen=True)
class Emit:
    """The server itself publishes an event. `data` is a JSON object, valid UTF-8."""

    channel: str
    event_type: str
    data: bytes


@dataclass(slots=True, frozen=True)
class SendTo:
    """An event for one client, one user (all sessions) or, with neither, everybody."""

    event_type: str
    data: bytes
    client_id: str | None = None
    user_id: str | None = None


class Drain(Call[int]):
    """The server is going down: say goodbye to everybody, answer with how many that were."""


#: Sent once a second: look after what time changes.
Tick = Literal["tick"]

Message = Letter | Attach | Depart | Emit | SendTo | Drain | Tick
