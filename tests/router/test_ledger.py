"""The account of a subscription: exact after every step, whatever becomes of the events."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import MockClock

from router.batches import Slice
from router.config import Config
from router.errors import GapReason
from router.fanning import FanOut
from router.hub.state import RouterState
from router.ledger import Ledger
from router.outbox import Outbox, Past, Piece
from router.paths import Path
from router.policies import Policy
from router.queues import Gap, Queue
from tests.router.harness import Client, World, running
from tests.router.lanes.streams import STEADY
from tests.router.telling import at, away, gap, publish, told
from tests.router.test_outbox import send
from tests.router.test_policies import keyed


def ledger_of(world: World, client: Client, channel: str = "signals") -> Ledger:
    session = world.state.sessions.by_client(client.client_id)
    assert session is not None
    ledger = world.state.ledger(session.subscriptions[channel])
    assert ledger.offered == ledger.filtered + ledger.matched
    gone = ledger.replaced + sum(ledger.dropped.values())
    assert ledger.matched == ledger.delivered + ledger.queued + gone
    return ledger


async def test_an_account_begins_where_the_subscription_does(autojump_clock: MockClock) -> None:
    async with running() as world:
        await publish(world, 3)
        client = await world.subscriber("signals")
        assert ledger_of(world, client) == Ledger()
        await publish(world, 2)
        assert ledger_of(world, client) == Ledger(offered=2, matched=2, delivered=2)


async def test_what_is_in_flight_waits(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=2)) as world:
        client = await world.subscriber("signals")
        client.stall(10)
        await publish(world, 3)
        assert ledger_of(world, client) == Ledger(offered=3, matched=3, queued=3)
        await publish(world, 3)
        assert ledger_of(world, client) == Ledger(offered=6, matched=6, queued=5, dropped={"slow_consumer": 1})
        client.flow()
        await world.settle()
        assert ledger_of(world, client) == Ledger(offered=6, matched=6, delivered=5, dropped={"slow_consumer": 1})


async def test_what_is_partly_out_when_the_session_is_taken_over_is_delivered_there(
    autojump_clock: MockClock,
) -> None:
    async with running(Config(outbox_events=4)) as world:
        elder = await world.subscriber("signals")
        elder.stall(10)
        await publish(world, 1)
        heir = await world.connect("resume=1", resume=elder.token)
        assert heir.connected["positions"] == {"signals": at(world, 1)}
        await publish(world, 6)
        assert ledger_of(world, heir) == Ledger(7, 0, 7, delivered=1, queued=4, dropped={"slow_consumer": 2})
        elder.flow()
        assert (await elder.ended())[0] == 4502
        assert told(elder.take()) == [1]
        heir.send("get_subscriptions")
        await world.settle()
        assert told(heir.take()) == [gap(2, 3), 4, 5, 6, 7]
        assert ledger_of(world, heir) == Ledger(7, 0, 7, delivered=5, dropped={"slow_consumer": 2})


async def test_over_a_stream_what_it_was_given_is_delivered_and_comes_again_if_it_is_asked_for(
    autojump_clock: MockClock,
) -> None:
    """How much of it is out nobody knows: without positions it is not repeated."""
    async with running() as world:
        client = await world.subscriber("signals", plain=True)
        client.stall(300)
        await publish(world, 5)
        await publish(world, 2)
        assert told(client.take()) == [1, 2]
        assert ledger_of(world, client) == Ledger(7, 0, 7, delivered=5, queued=2)
        await away(world, client)
        client = await world.connect(resume=client.token, plain=True)
        await world.settle()
        assert told(client.take()) == [6, 7]
        await away(world, client)
        client = await world.connect("resume=1", resume=client.token, plain=True)
        client.send("resume", positions={"signals": at(world, 2)})
        await world.settle()
        assert told(client.take()) == [3, 4, 5, 6, 7]
        assert ledger_of(world, client) == Ledger(7, 0, 7, delivered=7, resent=5)


async def test_what_a_filter_leaves_out_and_what_is_replaced(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        client.subscribe("signals", filter={"data.odd": 1}, policy="latest")
        await client.expect("subscribed")
        client.stall(0)
        await publish(world, 1)
        await publish(world, 6)
        assert ledger_of(world, client) == Ledger(offered=7, filtered=3, matched=4, queued=2, replaced=2)


async def test_the_past_that_was_asked_for_is_in_the_account(autojump_clock: MockClock) -> None:
    async with running(Config(history_events=4, max_replay=3)) as world:
        await publish(world, 10)
        client = await world.connect()
        client.subscribe("signals", recover={"signals": at(world, 2)})
        await client.expect("subscribed")
        await world.settle()
        lost = {"buffer_overflow": 5}
        assert ledger_of(world, client) == Ledger(offered=8, matched=8, delivered=3, dropped=lost)
        assert world.state.dropped_events() == 5


async def test_what_is_sent_again_is_outside_the_sum(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        await publish(world, 4)
        await away(world, client)
        await publish(world, 2)
        again = await world.connect("resume=1", resume=client.token)
        again.stall(200)
        again.send("resume", positions={"signals": at(world, 1)})
        await world.settle()
        resent = len(again.take())
        assert 0 < resent < 3
        assert ledger_of(world, again) == Ledger(offered=6, matched=6, delivered=4, queued=2, resent=resent)
        await away(world, again)
        assert ledger_of(world, again).resent == resent
        third = await world.connect(resume=again.token)
        await world.settle()
        assert ledger_of(world, third) == Ledger(offered=6, matched=6, delivered=6, resent=resent)


async def test_an_account_is_exact_amid_a_fan_out(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The router lets others run while it asks the filters, and between readers."""
    seen: list[list[tuple[int, int, int]]] = []
    async with running() as world:
        clients = [await world.subscriber("signals") for _ in range(3)]
        for wanted in ({"data.odd": 1}, {"data.odd": 0}, {"data.odd": 0}):
            clients.append(await world.connect())
            clients[-1].subscribe("signals", filter=wanted)
            await clients[-1].expect("subscribed")
        await world.subscriber("logs")

        async def look(_: object) -> None:
            ledgers = [ledger_of(world, client) for client in clients]
            assert world.state.ledger_of_channel("signals") == sum(ledgers, Ledger())
            assert world.state.ledger_of_channel("logs") == Ledger()
            seen.append([(ledger.matched, ledger.queued, ledger.delivered) for ledger in ledgers])
            world.state.untold_positions(next(iter(world.state.sessions)))

        monkeypatch.setattr("router.hub.distributing._READERS_BETWEEN_LOOKS", 1)
        monkeypatch.setattr("router.hub.distributing.Distributor._yield_if_due", look)
        await publish(world, 3)
    all_ = (3, 3, 0)
    assert seen[0] == seen[1] == [(0, 0, 0)] * 6
    assert seen[2] == [(3, 0, 3), all_, all_, (2, 2, 0), (1, 1, 0), (1, 1, 0)]
    assert seen[-1] == [(3, 0, 3)] * 3 + [(2, 0, 2), (1, 0, 1), (1, 0, 1)]
    assert len(seen) == 8


def test_a_fan_out_that_has_not_begun_has_reached_nobody() -> None:
    fan_out = FanOut(RouterState(Config()).streams["signals"])
    assert (fan_out.scanned, fan_out.all_asked, fan_out.reached_last(), fan_out.unreached()) == (0, False, None, {})


def test_sums_of_accounts() -> None:
    one = Ledger.of(10, 8, 2, 1, {"slow_consumer": 3}, 4)
    assert one == Ledger(10, 2, 8, 2, 2, 1, {"slow_consumer": 3}, 4)
    two = Ledger.of(5, 5, 0, 0, {"slow_consumer": 1, "closed": 1}, 0)
    assert one + two == Ledger(15, 2, 13, 5, 2, 1, {"slow_consumer": 4, "closed": 1}, 4)
    assert one.closed("closed") == Ledger(10, 2, 8, 2, 0, 1, {"slow_consumer": 3, "closed": 2}, 4)
    assert two.closed("closed") is two


class Sums(RuleBasedStateMachine):
    """One client's queues under all policies, beside a count of what came out."""

    NAMES = "abcd"

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(12, 1500)
        self.queues = {
            name: Queue(name, policy, Path("data.k") if policy is Policy.LATEST else None)
            for name, policy in zip(self.NAMES, Policy, strict=True)
        }
        self.seqs, self.matched = dict.fromkeys(self.NAMES, 0), dict.fromkeys(self.NAMES, 0)
        self.delivered, self.resent = dict.fromkeys(self.NAMES, 0), dict.fromkeys(self.NAMES, 0)
        self.taken: list[Piece] = []

    @rule(name=st.sampled_from(NAMES), keys=st.lists(st.sampled_from("xyz"), min_size=1, max_size=5))
    def put(self, name: str, keys: list[str]) -> None:
        self.outbox.put(self.queues[name], keyed(self.seqs[name] + 1, *keys))
        self.seqs[name] += len(keys)
        self.matched[name] += len(keys)

    @rule(name=st.sampled_from(NAMES), policy=st.sampled_from(Policy), key=st.sampled_from([None, "data.k"]))
    def ask_anew(self, name: str, policy: Policy, key: str | None) -> None:
        self.queues[name].set_policy(policy, None if key is None else Path(key), "e", self.seqs[name])

    @rule(max_events=st.integers(1, 15), max_bytes=st.integers(1, 2000))
    def limit(self, max_events: int, max_bytes: int) -> None:
        self.outbox.limit(max_events, max_bytes, GapReason.BUFFER_OVERFLOW)

    @precondition(lambda self: not self.taken)
    @rule(max_bytes=st.integers(1, 900))
    def take(self, max_bytes: int) -> None:
        self.taken = self.outbox.take(max_bytes)

    @precondition(lambda self: self.taken)
    @rule(share=st.floats(0, 1))
    def write(self, share: float) -> None:
        left = round(share * sum(len(piece.buffer) - piece.sent for piece in self.taken))
        while self.taken and left:
            piece = self.taken[0]
            before = piece.events_left
            sent = send([piece], left)
            left -= len(sent)
            if isinstance(piece.entry, Slice) and piece.queue is not None:
                again = piece.past is not None and piece.past.again
                (self.resent if again else self.delivered)[piece.queue.channel] += before - piece.events_left
            if piece.sent == len(piece.buffer):
                del self.taken[0]

    @rule(events=st.integers(0, 6))
    def come_back(self, events: int) -> None:
        """The connection goes, and the next one begins with a replay of what came before and what waits."""
        self.outbox.give_back(self.taken)
        self.taken = []
        for queue in self.queues.values():
            waiting = self.outbox.take_all(queue)
            again = keyed(1, *["x"] * events) if events else None
            parts = [] if again is None else [Past(queue, Slice(again, 0, events), again=True)]
            self.outbox.replay([*parts, *(Past(queue, entry) for entry in waiting), Past(None, b"!")])

    @invariant()
    def every_account_adds_up(self) -> None:
        for name, queue in self.queues.items():
            in_flight = [piece for piece in self.taken if piece.queue is queue]
            again = [piece for piece in in_flight if piece.past is not None and piece.past.again]
            news, left = self.outbox.waiting_for(queue)
            queued = news + sum(piece.events_left for piece in in_flight if piece not in again)
            gone = queue.replaced + sum(queue.dropped.values())
            assert self.matched[name] == self.delivered[name] + queued + gone
            left += sum(piece.events_left for piece in again)
            assert queue.resent - left == self.resent[name]

    @invariant()
    def what_waits_is_in_order(self) -> None:
        for queue in self.queues.values():
            last = 0
            for entry in queue.entries:
                if isinstance(entry, Gap):
                    assert entry.first is not None
                    assert entry.last is not None
                    assert last < entry.first <= entry.last
                    last = entry.last
                elif len(entry):
                    assert entry.batch.seqs is not None
                    assert last < entry.batch.seqs[entry.start]
                    last = entry.batch.seqs[entry.stop - 1]


TestSums = Sums.TestCase
TestSums.settings = settings(STEADY, max_examples=100, stateful_step_count=35)
