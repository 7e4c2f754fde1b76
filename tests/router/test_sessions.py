"""Sessions: what is kept of a client, for how long, and which tokens bring it back."""

from typing import cast

import pytest

from router.auth.identity import Identity
from router.batches import Batch
from router.config import Config
from router.errors import GapReason
from router.lanes import Lane
from router.outbox import Outbox, Piece
from router.queues import Gap, Queue
from router.sessions import Session, Sessions
from router.subscriptions import Subscription
from tests.router.granting import grants

NOBODY = Identity(user_id=None)
ADA = Identity(user_id="ada")
BOB = Identity(user_id="bob")
NO_GRANTS = grants("nobody")


class FakeLane:
    """A lane that writes nothing by itself."""

    def __init__(self) -> None:
        self.outbox: Outbox | None = None
        self.inflight: list[Piece] = []

    def attach(self, outbox: Outbox) -> None:
        self.outbox = outbox

    def claim_frame(self) -> None:
        """None is ever partly out."""

    def release(self) -> None:
        assert self.outbox is not None
        self.outbox.give_back(self.inflight)
        self.outbox, self.inflight = None, []

    def offer(self, queue: Queue, batch: Batch) -> None:
        assert self.outbox is not None
        self.outbox.put(queue, batch)

    def write(self) -> None:
        """Take what waits, and let nothing of it get out."""
        assert self.outbox is not None
        self.inflight += self.outbox.take(1 << 20)

    @property
    def real(self) -> Lane:
        return cast(Lane, self)


def events(count: int, first_seq: int = 1) -> Batch:
    return Batch(b"." * count, range(1, count + 1), range(first_seq, first_seq + count), "epoch")


def opened(sessions: Sessions, identity: Identity = NOBODY, now: float = 0.0) -> Session:
    return sessions.open(identity, NO_GRANTS, now)


def connected(sessions: Sessions, identity: Identity = NOBODY) -> tuple[Session, FakeLane]:
    session, lane = opened(sessions, identity), FakeLane()
    sessions.attach(session, lane.real, 0.0)
    return session, lane


def subscribed(session: Session) -> Subscription:
    subscription = session.subscriptions["signals"] = Subscription("signals", session.outlet)
    return subscription


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(Config(outbox_events=50, detached_events=10, max_detached_sessions=2, session_ttl_s=300))


def test_a_new_session_is_found_by_its_client_its_user_and_its_token(sessions: Sessions) -> None:
    session = opened(sessions, ADA)
    assert list(sessions) == [session]
    assert len(sessions) == 1
    assert sessions.by_client(session.client_id) is session
    assert sessions.by_user("ada") == (session,)
    assert sessions.by_token(session.token) is session


def test_nobody_is_found_by_what_was_never_given(sessions: Sessions) -> None:
    assert sessions.by_client("") is None
    assert sessions.by_user("ada") == ()
    assert sessions.by_token("") is None


def test_a_session_counts_as_connected_while_it_has_a_connection(sessions: Sessions) -> None:
    session = opened(sessions)
    assert sessions.connected == 0
    sessions.attach(session, FakeLane().real, 17.0)
    assert sessions.connected == 1
    assert session.connected_at == 17.0
    sessions.detach(session, 1.0)
    assert sessions.connected == 0


def test_a_session_that_never_got_its_connection_is_not_kept_for_ever(sessions: Sessions) -> None:
    session = opened(sessions, now=5.0)
    assert sessions.expired(305.0) == [session]


def test_events_go_to_the_connection_and_without_one_to_the_outbox(sessions: Sessions) -> None:
    session, lane = connected(sessions)
    subscription = subscribed(session)
    outlets: list[object] = [subscription.outlet, session.outlet]
    assert outlets == [lane, lane]
    sessions.detach(session, 1.0)
    outlets = [subscription.outlet, session.outlet]
    assert outlets == [session, session]
    subscription.outlet.offer(subscription.queue, events(3))
    assert session.outbox.events == 3
    heir = FakeLane()
    sessions.attach(session, heir.real, 2.0)
    assert subscription.outlet is heir.real
    assert heir.outbox is session.outbox
    assert session.outbox.events == 3


def test_a_detached_session_keeps_the_newest_events_and_announces_the_others(sessions: Sessions) -> None:
    session, _ = connected(sessions)
    subscription = subscribed(session)
    sessions.detach(session, 1.0)
    session.offer(subscription.queue, events(25))
    assert session.outbox.events == 10
    gap = subscription.queue.entries[0]
    assert gap == Gap("signals", "epoch", 1, 15, 15, GapReason.BUFFER_OVERFLOW, behind=0)


def test_what_was_in_flight_is_under_the_bound_when_its_connection_is_gone(sessions: Sessions) -> None:
    session, lane = connected(sessions)
    subscription = subscribed(session)
    lane.offer(subscription.queue, events(25))
    lane.write()
    assert session.outbox.events == 0
    sessions.detach(session, 1.0)
    assert session.outbox.events == 10
    assert session.outbox.dropped == 15


def test_what_waits_passes_on_unchanged_where_a_connection_is_taken_over(sessions: Sessions) -> None:
    session, elder = connected(sessions)
    subscription = subscribed(session)
    elder.offer(subscription.queue, events(20))
    elder.write()
    elder.offer(subscription.queue, events(20, first_seq=21))
    heir = FakeLane()
    sessions.attach(session, heir.real, 2.0)
    assert elder.outbox is None
    assert heir.outbox is session.outbox
    assert session.outbox.events == 40
    assert session.outbox.dropped == 0
    assert sessions.connected == 1
    assert sessions.expired(1e9) == []


def test_a_resumed_session_drops_as_a_slow_consumer_again(sessions: Sessions) -> None:
    session, _ = connected(sessions)
    subscription = subscribed(session)
    sessions.detach(session, 1.0)
    sessions.attach(session, FakeLane().real, 2.0)
    subscription.outlet.offer(subscription.queue, events(51))
    gap = subscription.queue.entries[0]
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.count) == (GapReason.SLOW_CONSUMER, 1)


def test_of_too_many_detached_sessions_the_oldest_goes_first_and_is_counted(sessions: Sessions) -> None:
    all_of_them = [connected(sessions)[0] for _ in range(4)]
    assert sessions.detach(all_of_them[2], 1.0) is None
    assert sessions.detach(all_of_them[0], 2.0) is None
    assert sessions.evicted == 0
    assert sessions.detach(all_of_them[1], 3.0) is all_of_them[2]
    assert sessions.evicted == 1


def test_a_session_that_detaches_again_is_the_youngest(sessions: Sessions) -> None:
    first, second = (connected(sessions)[0] for _ in range(2))
    sessions.detach(first, 1.0)
    sessions.detach(second, 2.0)
    sessions.attach(first, FakeLane().real, 3.0)
    sessions.detach(first, 4.0)
    assert sessions.expired(302.0) == [second]
    assert sessions.expired(304.0) == [second, first]


def test_a_detached_session_expires_when_its_time_is_over_and_not_before(sessions: Sessions) -> None:
    session, _ = connected(sessions)
    assert sessions.expired(1e9) == []
    sessions.detach(session, 10.0)
    assert sessions.expired(309.9) == []
    assert sessions.expired(310.0) == [session]


@pytest.mark.parametrize("attached", [True, False])
def test_an_ended_session_is_found_no_more(sessions: Sessions, attached: bool) -> None:
    session, lane = connected(sessions, ADA)
    sessions.renew_token(session, keep=session.token)
    tokens = (session.token, session.previous_token)
    if not attached:
        sessions.detach(session, 1.0)
    sessions.end(session)
    assert session.lane is None
    assert lane.outbox is None
    assert len(sessions) == sessions.connected == 0
    assert sessions.by_client(session.client_id) is None
    assert sessions.by_user("ada") == ()
    assert [sessions.by_token(token or "") for token in tokens] == [None, None]
    assert sessions.expired(1e9) == []


def test_what_an_ended_session_never_got_counts_as_dropped(sessions: Sessions) -> None:
    session, lane = connected(sessions)
    subscription = subscribed(session)
    lane.offer(subscription.queue, events(60))  # ten over the bound
    lane.write()
    lane.offer(subscription.queue, events(5, first_seq=61))
    sessions.end(session)
    assert sessions.dropped == 65


def test_a_fresh_token_takes_the_place_of_the_one_before(sessions: Sessions) -> None:
    session = opened(sessions)
    first = session.token
    sessions.renew_token(session)
    assert sessions.by_token(first) is None
    assert sessions.by_token(session.token) is session
    assert session.token != first


def test_the_token_that_was_used_works_beside_the_fresh_one_until_that_is_confirmed(sessions: Sessions) -> None:
    session = opened(sessions)
    first = session.token
    sessions.renew_token(session, keep=first)
    second = session.token
    assert sessions.by_token(first) is sessions.by_token(second) is session
    sessions.confirm_token(session)
    assert sessions.by_token(first) is None
    assert sessions.by_token(second) is session
    sessions.confirm_token(session)  # every message does
    assert sessions.by_token(second) is session


def test_a_token_that_is_used_again_works_again_and_what_was_given_meanwhile_does_not(sessions: Sessions) -> None:
    session = opened(sessions)
    first = session.token
    given = []
    for _ in range(3):
        sessions.renew_token(session, keep=first)
        given.append(session.token)
    assert sessions.by_token(first) is session
    assert [sessions.by_token(token) for token in given] == [None, None, session]


def test_who_uses_the_fresh_token_has_no_use_for_the_one_before(sessions: Sessions) -> None:
    session = opened(sessions)
    first = session.token
    sessions.renew_token(session, keep=first)
    second = session.token
    sessions.renew_token(session, keep=second)
    assert sessions.by_token(first) is None
    assert sessions.by_token(second) is sessions.by_token(session.token) is session


def test_asking_for_a_token_ends_all_earlier_ones(sessions: Sessions) -> None:
    session = opened(sessions)
    sessions.renew_token(session, keep=session.token)
    earlier = (session.token, session.previous_token)
    sessions.renew_token(session)
    assert [sessions.by_token(token or "") for token in earlier] == [None, None]
    assert session.previous_token is None


def test_tokens_can_neither_be_guessed_nor_need_quoting(sessions: Sessions) -> None:
    tokens = {opened(sessions).token for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 43 and token.replace("-", "").replace("_", "").isalnum() for token in tokens)


def test_signing_in_moves_a_session_from_one_user_to_another(sessions: Sessions) -> None:
    session, other = opened(sessions), opened(sessions, ADA)
    sessions.sign_in(session, ADA, NO_GRANTS)
    assert set(sessions.by_user("ada")) == {session, other}
    granted = grants("nobody", ["signals"])
    sessions.sign_in(session, BOB, granted)
    assert (session.identity, session.grants) == (BOB, granted)
    assert sessions.by_user("ada") == (other,)
    assert sessions.by_user("bob") == (session,)


def test_each_session_has_one_queue_for_each_channel_that_nobody_subscribes_to(sessions: Sessions) -> None:
    session = opened(sessions)
    assert session.queue("personal") is session.queue("personal")
    assert session.queue("personal") is not session.queue("global")
    assert opened(sessions).queue("personal") is not session.queue("personal")
