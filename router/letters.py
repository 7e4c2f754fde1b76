"""What the router's mailbox takes: one letter for all the messages of one read, and what others ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import trio
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


#: What reads or changes the session.
Change = SubscribeTo | Unsubscribe | GetSubscriptions | GetReconnectionToken | SignIn
#: One thing to do, or (as bytes) a reply that the connection could render alone, at its place in the order.
Item = bytes | Events | Change


@dataclass(slots=True, frozen=True)
class Letter:
    """All messages of one read, in order, or as many of them as there is room for the replies.

    Attributes:
        session: Whose they are.
        lane: Where they came from, and where the replies go.
        items: What is to be done.
        done: Set when it is done, or will not be, where the reader waits for that before it sends more.
    """

    session: Session
    lane: Lane
    items: Sequence[Item]
    done: trio.Event | None = None


@dataclass(slots=True, frozen=True)
class Refused:
    """A connection gets no session and is to be closed."""

    code: CloseCode
    reason: str


class Attach(Call[Session | Refused | None]):
    """A connection asks for its session, a new one or the one that its reconnection token names.

    The answer is the session, to which `connected` has been sent; or that there is none; or None: who asks has to
    sign in first.

    Attributes:
        lane: The connection's.
        identity: Who its JWT says it is; None: it brought none.
        token: Its reconnection token.
        id: The `id` of the message that brought the JWT, if it was one; `connected` is the reply to it.
        session: Set by the router before the session has this connection. Who waits for the answer no more, or gets
            none because the router failed, still has to give it back.
    """

    def __init__(
        self,
        reply: Reply[Session | Refused | None],
        *,
        lane: Lane,
        identity: Identity | None,
        token: str | None,
        id: Id = UNSET,  # noqa: A002 - the wire's name
    ) -> None:
        super().__init__(reply)
        self.lane = lane
        self.identity = identity
        self.token = token
        self.id = id
        self.session: Session | None = None


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


#: Wakes the router once a second, to look after what time alone changes.
Tick = Literal["tick"]

Message = Letter | Attach | Depart | Emit | SendTo | Drain | Tick
