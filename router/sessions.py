"""Sessions: what the server keeps of a client, also for a while after its connection has ended; no I/O.

A session is an identity, its subscriptions and an outbox. The marks from which a resumed session goes on are not
stored: an event is either in the outbox or was handed whole to the socket.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Iterator

from router.auth.access import Grants
from router.auth.identity import Identity
from router.batches import Batch, Slice
from router.config import Config
from router.errors import GapReason
from router.lanes import Lane
from router.outbox import Outbox
from router.queues import Gap, Queue
from router.subscriptions import Outlet, Subscription


class Session:
    """One client's session. The mutable state is changed by the router alone.

    Attributes:
        client_id: Stays the same over reconnections.
        identity: Who it is, by its last valid token.
        grants: What it may do.
        subscriptions: By channel.
        outbox: What waits for it.
        lane: Its connection; None while it is detached.
        token: The reconnection token in force.
        previous_token: The one that its connection came with, until that one's first message shows that `connected`,
            and the new token with it, has arrived.
        connected_at: When its connection came, in Unix seconds.
        address: Where that came from.
        detached_at: Since when it is detached, on Trio's clock.
        resume_by: Until when its client may say where it goes on, on Trio's clock; None: it need not, or has.
        queues: For events that nobody subscribes to: `personal` and `global`.
    """

    __slots__ = (
        "address", "client_id", "connected_at", "detached_at", "grants", "identity", "lane", "outbox",
        "previous_token", "queues", "resume_by", "subscriptions", "token",
    )  # fmt: skip

    def __init__(self, identity: Identity, grants: Grants, outbox: Outbox, detached_at: float) -> None:
        self.client_id = str(uuid.uuid4())
        self.identity = identity
        self.grants = grants
        self.subscriptions: dict[str, Subscription] = {}
        self.outbox = outbox
        self.lane: Lane | None = None
        self.token = new_token()
        self.previous_token: str | None = None
        self.connected_at = 0.0
        self.address = ""
        self.detached_at = detached_at
        self.resume_by: float | None = None
        self.queues: dict[str, Queue] = {}

    @property
    def outlet(self) -> Outlet:
        """Where its events go now."""
        return self if self.lane is None else self.lane

    def wake(self) -> None:
        """Something waits to be written."""
        if self.lane is not None:
            self.lane.wake()

    def offer(self, queue: Queue, batch: Batch) -> None:
        """Collect a batch while there is no connection."""
        self.outbox.put(queue, batch)

    @property
    def draining(self) -> Outbox | None:
        """None: nobody writes what it collects."""
        return None

    def waiting_for(self, queue: Queue) -> tuple[int, int]:
        """Events that wait for a subscription: news to its client, and those that are sent again."""
        return self.outbox.waiting_for(queue)

    def entries_of(self, queue: Queue) -> Iterator[Slice | Gap]:
        """What waits for a subscription, in order."""
        return self.outbox.entries_of(queue)

    def queue(self, channel: str) -> Queue:
        """The queue of `personal` or `global`."""
        if channel not in self.queues:
            self.queues[channel] = Queue(channel)
        return self.queues[channel]


def new_token() -> str:
    """A reconnection token: 32 random bytes, as text that fits a URL."""
    return secrets.token_urlsafe(32)


class Sessions:
    """All sessions, and the rules of their lives. The router alone changes it.

    The mutable state is the indices by client, user and token, and the detached sessions, oldest first: a session
    has a connection or is one of those, so that none is kept for ever.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._by_client: dict[str, Session] = {}
        self._by_token: dict[str, Session] = {}
        self._by_user: dict[str, dict[str, Session]] = {}
        self._detached: dict[str, Session] = {}
        #: Those whose clients are to say where they go on.
        self.holding: dict[Session, None] = {}
        #: Detached sessions given up because there were too many.
        self.evicted = 0
        #: Events that ended sessions had lost, or never got.
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._by_client)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_client.values())

    @property
    def connected(self) -> int:
        """How many have a connection."""
        return len(self._by_client) - len(self._detached)

    def open(self, identity: Identity, grants: Grants, now: float) -> Session:
        """Make a session, detached as yet; `now` on Trio's clock."""
        outbox = Outbox(self._config.outbox_events, self._config.outbox_bytes)
        session = Session(identity, grants, outbox, now)
        self._by_client[session.client_id] = self._detached[session.client_id] = session
        self._by_token[session.token] = session
        self._index_user(session)
        return session

    def by_client(self, client_id: str) -> Session | None:
        """The session of a client."""
        return self._by_client.get(client_id)

    def by_user(self, user_id: str) -> Iterable[Session]:
        """The sessions of a user."""
        return tuple(self._by_user.get(user_id, {}).values())

    def by_token(self, token: str) -> Session | None:
        """The session that a reconnection token resumes."""
        return self._by_token.get(token)

    def sign_in(self, session: Session, identity: Identity, grants: Grants) -> None:
        """Replace who the session is and what it may do."""
        self._unindex_user(session)
        session.identity, session.grants = identity, grants
        self._index_user(session)

    def attach(self, session: Session, lane: Lane, unix_s: float) -> None:
        """Give a session its connection: what has waited is written, what comes goes there.

        What a connection that it has already had not written passes on, under the bound of connections: a session
        that is taken over was never detached.
        """
        if session.lane is not None:
            self.go_on(session)
            session.lane.release()
        session.outbox.limit(self._config.outbox_events, self._config.outbox_bytes, GapReason.SLOW_CONSUMER)
        lane.attach(session.outbox)
        session.lane, session.connected_at = lane, unix_s
        self._detached.pop(session.client_id, None)
        _route(session)

    def detach(self, session: Session, now: float) -> Session | None:
        """Take a session's connection away; it goes on collecting.

        Returns:
            The oldest detached session, where there are now too many: to be ended.
        """
        lane = session.lane
        assert lane is not None
        self.go_on(session)
        session.lane, session.detached_at = None, now
        self._detached[session.client_id] = session
        _route(session)
        lane.release()
        session.outbox.limit(self._config.detached_events, self._config.outbox_bytes, GapReason.BUFFER_OVERFLOW)
        if len(self._detached) <= self._config.max_detached_sessions:
            return None
        self.evicted += 1
        return next(iter(self._detached.values()))

    def end(self, session: Session) -> None:
        """Forget a session."""
        lane, session.lane = session.lane, None
        self.go_on(session)
        self._by_client.pop(session.client_id, None)
        self._detached.pop(session.client_id, None)
        self._unindex_user(session)
        for token in (session.token, session.previous_token):
            if token is not None:
                self._by_token.pop(token, None)
        if lane is not None:
            lane.release()
        self.dropped += session.outbox.dropped + session.outbox.events

    def expired(self, now: float) -> list[Session]:
        """Detached sessions whose time is over; `now` on Trio's clock."""
        over: list[Session] = []
        for session in self._detached.values():
            if now - session.detached_at < self._config.session_ttl_s:
                break
            over.append(session)
        return over

    def renew_token(self, session: Session, keep: str | None = None) -> None:
        """Give a new reconnection token. Those before stop working; `keep` does at `confirm_token` only."""
        for token in (session.token, session.previous_token):
            if token is not None and token != keep:
                del self._by_token[token]
        session.token, session.previous_token = new_token(), keep
        self._by_token[session.token] = session

    def confirm_token(self, session: Session) -> None:
        """The client has the token in force: the one before stops working."""
        if session.previous_token is not None:
            del self._by_token[session.previous_token]
            session.previous_token = None

    def hold(self, session: Session, now: float) -> None:
        """Send nothing on the channels until the client has said where it goes on, or its time for that is over."""
        session.outbox.held, session.resume_by = True, now + self._config.resume_s
        self.holding[session] = None

    def go_on(self, session: Session) -> None:
        """Stop holding a session."""
        if session.resume_by is not None:
            session.outbox.held, session.resume_by = False, None
            del self.holding[session]
            session.wake()

    def _index_user(self, session: Session) -> None:
        if session.identity.user_id is not None:
            self._by_user.setdefault(session.identity.user_id, {})[session.client_id] = session

    def _unindex_user(self, session: Session) -> None:
        user_id = session.identity.user_id
        if user_id is not None:
            sessions = self._by_user[user_id]
            del sessions[session.client_id]
            if not sessions:
                del self._by_user[user_id]


def _route(session: Session) -> None:
    for subscription in session.subscriptions.values():
        subscription.outlet = session.outlet
