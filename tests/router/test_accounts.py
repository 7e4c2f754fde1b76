"""The sums of all accounts: what ends, an epoch among it, stays in them, and nothing is in them twice."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.auth.identity import Identity
from router.batches import Batch
from router.config import ChannelSettings, Config
from router.errors import CloseCode
from router.hub import distributing
from router.hub.crash import begin_epoch
from router.hub.state import RouterState
from router.lanes import Lane
from router.ledger import Ledger
from router.letters import Disconnect, Emit
from router.limits import Rate
from router.queues import Queue
from router.sessions import Session
from router.subscriptions import Subscription
from tests.router.granting import grants
from tests.router.harness import Client, Json, World, running
from tests.router.telling import at, away, publish

FAMILY = {"orders.*": ChannelSettings()}
ODD = {"data.odd": 1}


def server(state: RouterState) -> Ledger:
    """The sums of all channels."""
    return sum((state.ledger_of_channel(stream.name) for stream in state.streams), state.accounts.dropped)


def session_of(world: World, client: Client) -> Session:
    session = world.state.sessions.by_client(client.client_id)
    assert session is not None
    return session


# At the end of a subscription


async def stuck(world: World) -> Client:
    """A subscriber with three events in flight and two that wait."""
    client = await world.subscriber("signals")
    client.stall(150)
    await publish(world, 3)
    await publish(world, 2)
    assert world.state.ledger_of_channel("signals") == Ledger(offered=5, matched=5, delivered=1, queued=4)
    return client


async def test_what_waits_at_an_unsubscribe_is_lost_and_what_is_in_flight_is_delivered(
    autojump_clock: MockClock,
) -> None:
    async with running(watched=True) as world:
        client = await stuck(world)
        client.send("unsubscribe", channels=["signals"])
        await world.settle()
        lost = {"unsubscribed": 2}
        open_ = Ledger(offered=5, matched=5, delivered=1, queued=2, dropped=lost)
        assert world.state.ledger_of_channel("signals") == server(world.state) == open_
        await publish(world, 7)
        assert world.state.ledger_of_channel("signals") == open_
        assert world.state.ledger_of_channel("logs") == Ledger()
        client.flow()
        await world.settle()
        assert [message.get("seq", message.get("type")) for message in client.take()] == [1, 2, 3, "unsubscribed"]
        closed = Ledger(offered=5, matched=5, delivered=3, dropped=lost)
        assert world.state.ledger_of_channel("signals") == closed
        await trio.sleep(2)
        assert world.state.ledger_of_channel("signals") == closed
        assert not world.state.accounts.awaits("signals")


async def test_what_was_in_flight_at_an_unsubscribe_is_lost_where_the_connection_goes_first(
    autojump_clock: MockClock,
) -> None:
    async with running() as world:
        client = await stuck(world)
        client.send("unsubscribe", channels=["signals"])
        await world.settle()
        await away(world, client)
        assert server(world.state) == Ledger(offered=5, matched=5, delivered=1, dropped={"unsubscribed": 4})
        world.state.end(session_of(world, client))
        assert server(world.state) == Ledger(offered=5, matched=5, delivered=1, dropped={"unsubscribed": 4})


@pytest.mark.parametrize("way", ["taken over", "ended"])
async def test_of_what_was_in_flight_at_an_unsubscribe_one_frame_is_finished_where_the_lane_goes(
    way: str, autojump_clock: MockClock
) -> None:
    async with running() as world:
        client = await stuck(world)
        client.send("unsubscribe", channels=["signals"])
        await world.settle()
        if way == "taken over":
            await world.connect(resume=client.token)
        else:
            world.state.expel(session_of(world, client), CloseCode.DISCONNECTED_BY_ADMIN, "")
        assert server(world.state) == Ledger(offered=5, matched=5, delivered=2, dropped={"unsubscribed": 3})
        client.flow()
        await client.ended()
        assert [message.get("seq", message.get("type")) for message in client.take()] == [1, 2, "unsubscribed"]


async def test_a_second_subscription_has_an_account_of_its_own(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await stuck(world)
        client.send("unsubscribe", channels=["signals"])
        client.subscribe("signals")
        await publish(world, 2)
        client.send("unsubscribe", channels=["signals"])
        await world.settle()
        assert server(world.state) == Ledger(offered=7, matched=7, delivered=1, queued=2, dropped={"unsubscribed": 4})
        client.flow()
        await world.settle()
        assert server(world.state) == Ledger(offered=7, matched=7, delivered=3, dropped={"unsubscribed": 4})


async def test_what_was_to_be_sent_again_at_an_unsubscribe_was_not(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        await publish(world, 5, together=False)
        await away(world, client)
        again = await world.connect("resume=1", resume=client.token)
        again.stall(100)
        again.send("resume", positions={"signals": at(world, 0)})
        await world.settle()
        again.send("unsubscribe", channels=["signals"])
        await world.settle()
        sums = server(world.state)
        assert (sums.delivered, sums.queued, sums.resent) == (5, 0, len(again.take()))
        again.flow()
        await world.settle()
        assert server(world.state).resent == sums.resent + sum("seq" in message for message in again.take())


async def test_what_nobody_has_taken_to_send_it_again_at_an_unsubscribe_was_not(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        await publish(world, 5)
        await away(world, client)
        again = await world.connect("resume=1", resume=client.token)
        resume, leave = {"type": "resume", "positions": {"signals": at(world, 0)}}, {"type": "unsubscribe"}
        again.send_text(json.dumps(resume), json.dumps({**leave, "channels": ["signals"]}))
        await world.settle()
        assert [message.get("type") for message in again.take()] == ["unsubscribed", "resumed"]
        assert server(world.state) == Ledger(offered=5, matched=5, delivered=5)


async def test_what_waits_for_an_ended_session_is_lost(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=2, session_ttl_s=5), watched=True) as world:
        client = await world.subscriber("signals", "logs")
        await publish(world, 1)
        await away(world, client)
        await publish(world, 4)
        await publish(world, 1, "logs")
        session = session_of(world, client)
        waiting = Ledger(offered=6, matched=6, delivered=1, queued=2, dropped={"buffer_overflow": 3})
        assert server(world.state) == world.state.ledger_of_session(session) == waiting
        await trio.sleep(10)
        closed = Ledger(offered=6, matched=6, delivered=1, dropped={"buffer_overflow": 3, "closed": 2})
        assert server(world.state) == closed
        world.assert_nothing_left()


async def test_the_end_of_a_session_tells_its_closed_account(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals", "logs")
        client.stall()
        await publish(world, 2)
        await publish(world, 1, "logs")
        assert world.state.end(session_of(world, client)) == Ledger(3, 0, 3, dropped={"closed": 3})


async def test_who_is_one_too_many_away_leaves_with_a_closed_account(autojump_clock: MockClock) -> None:
    async with running(Config(max_detached_sessions=0)) as world:
        watcher, client = await world.subscriber("connections"), await world.subscriber("signals")
        client.stall()
        await publish(world, 2)
        await away(world, client)
        (told,) = [each["data"] for each in watcher.take() if each.get("event_type") == "client.disconnected"]
        assert (told["ledger"]["queued"], told["ledger"]["dropped"]) == (0, {"closed": 2})
        assert world.state.ledger_of_channel("signals") == Ledger(2, 0, 2, dropped={"closed": 2})


# At the end of a channel


async def test_a_channel_that_is_dropped_leaves_its_sums_to_the_server(autojump_clock: MockClock) -> None:
    async with running(Config(channels=FAMILY, channel_idle_s=5), watched=True) as world:
        for _ in range(2):
            client = await world.subscriber("orders.1")
            await publish(world, 2, "orders.1")
            client.close()
            await trio.sleep(10)
            assert "orders.1" not in world.state.streams
            assert world.state.ledger_of_channel("orders.1") == Ledger()
        assert server(world.state) == world.state.accounts.dropped == Ledger(4, 0, 4, delivered=4)


async def test_a_channel_is_not_dropped_while_an_account_waits_for_what_is_in_flight(
    autojump_clock: MockClock,
) -> None:
    async with running(Config(channels=FAMILY, channel_idle_s=1)) as world:
        client = await world.subscriber("orders.1")
        client.stall()
        await publish(world, 1, "orders.1")
        client.send("unsubscribe", channels=["orders.1"])
        await trio.sleep(5)
        world.router.tell("tick")
        await world.settle()
        assert world.state.ledger_of_channel("orders.1") == Ledger(1, 0, 1, queued=1)
        client.flow()
        await trio.sleep(5)
        world.router.tell("tick")
        await world.settle()
        assert world.state.accounts.dropped == Ledger(1, 0, 1, delivered=1)


# At the end of an epoch


async def test_a_new_epoch_begins_with_what_waits_and_the_sums_go_on(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=4)) as world:
        client = await world.subscriber("signals")
        await publish(world, 1)
        client.stall(0)
        await publish(world, 3)
        await publish(world, 5)
        world.state.subscriptions.total += 1
        await world.crash()
        session = session_of(world, client)
        ledger = world.state.ledger(session.subscriptions["signals"])
        assert ledger == Ledger(offered=7, matched=7, queued=7)
        lost = {"slow_consumer": 1}
        assert server(world.state) == Ledger(offered=9, matched=9, delivered=1, queued=7, dropped=lost)
        await publish(world, 2)
        client.flow()
        await world.settle()
        assert world.state.ledger(session.subscriptions["signals"]).offered == 9
        sums = server(world.state)
        assert (sums.offered, sums.delivered, sums.queued) == (11, 11 - sum(sums.dropped.values()), 0)


async def test_events_that_were_numbered_and_seen_by_no_filter_are_lost_with_their_epoch(
    autojump_clock: MockClock,
) -> None:
    async with running() as world:
        client = await world.connect()
        client.subscribe("signals", filter=ODD)
        await client.expect("subscribed")
        await publish(world, 3)
        world.state.streams["signals"].seq += 2
        await world.crash()
        sums = Ledger(offered=5, filtered=1, matched=4, delivered=2, dropped={"epoch_changed": 2})
        assert server(world.state) == sums
        assert world.state.dropped_events() == 0, "they count as dropped where they counted as matched"


async def test_what_is_being_sent_again_counts_where_it_is_out(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        await publish(world, 5)
        await away(world, client)
        again = await world.connect("resume=1", resume=client.token)
        again.stall(250)
        again.send("resume", positions={"signals": at(world, 0)})
        await world.settle()
        resent = len(again.take())
        assert 0 < resent < 5
        world.state.subscriptions.total += 1
        await world.crash()
        assert server(world.state) == Ledger(offered=5, matched=5, delivered=5, resent=resent)
        again.flow()
        await world.settle()
        assert server(world.state) == Ledger(offered=5, matched=5, delivered=5, resent=5)


async def test_who_was_not_reached_when_an_epoch_broke_off_has_lost_the_events(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as world:
        clients = [await world.subscriber("signals") for _ in range(3)]
        clients.append(await world.connect())
        clients[-1].subscribe("signals", filter=ODD)
        await clients[-1].expect("subscribed")
        fuse = Fuse(monkeypatch)
        fuse.left = 1
        await publish(world, 3)
        await trio.sleep(5)
        assert [len(client.take()) for client in clients] == [5, 2, 2, 2]
        sums = Ledger(offered=12, filtered=1, matched=11, delivered=3, dropped={"epoch_changed": 8})
        assert server(world.state) == sums
        assert world.state.dropped_events() == 8


def test_figures_that_a_crash_has_left_are_made_to_add_up() -> None:
    state = RouterState(Config())
    session = state.sessions.open(Identity(None), grants("nobody"), 0.0)
    state.subscribe(session, Subscription("signals", session.outlet, 5))
    session.subscriptions["signals"].queue.replaced = 4
    begin_epoch(state)
    assert server(state) == Ledger(offered=4, matched=4, replaced=4)


# Whatever comes


class Fuse:
    """Makes the router fail amid a fan-out, before it gives a reader the events, once `left` others have got them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for kind in (Lane, Session):
            monkeypatch.setattr(kind, "offer", self._wrap(kind.offer))

    def _wrap(self, offer: Callable[[Any, Queue, Batch], None]) -> Callable[[Any, Queue, Batch], None]:
        def offer_or_fail(outlet: Any, queue: Queue, batch: Batch) -> None:
            if self.left is not None and batch.seqs is not None:
                self.left -= 1
                if self.left < 0:
                    self.left = None
                    raise RuntimeError("amid a fan-out")
            offer(outlet, queue, batch)

        return offer_or_fail


#: Bounds that are reached, and rates that are not.
OFTEN = Rate(burst=1000, per_s=1000)
SMALL = Config(
    channels=FAMILY,
    channel_idle_s=40,
    outbox_events=20,
    detached_events=8,
    session_ttl_s=60,
    max_detached_sessions=2,
    rate_subscribe=OFTEN,
    rate_unsubscribe=OFTEN,
    rate_publish=None,
)
CHANNELS = ("signals", "logs", "orders.1", "orders.2")


class Reader:
    """A client, who counts what comes.

    Attributes:
        odd: By channel that it is subscribed to, whether its filter lets through odd events only.
        high: By channel, its epoch, and up to where the client has been told of it.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self.client: Client | None = None
        self.token: str | None = None
        self.client_id = ""
        self.odd: dict[str, bool] = {}
        self.high: dict[str, tuple[str, int]] = {}
        self._counts = counts

    def begin(self, client: Client) -> None:
        self.client, self.token = client, client.token
        if not client.connected["reconnected"]:
            self.client_id, self.odd, self.high = client.client_id, {}, {}

    def listen(self) -> None:
        if self.client is not None:
            for message in self.client.take():
                self._note(message)

    def _note(self, message: Json) -> None:
        kind, channel = message.get("type"), str(message.get("channel", message.get("of")))
        if kind is None:
            epoch, last = self.high[channel]
            self._counts["delivered" if message["seq"] > last else "resent"] += 1
            self.high[channel] = (epoch, max(last, message["seq"]))
        elif kind == "gap" and message["to"] is not None:
            epoch, last = self.high[channel]
            self.high[channel] = (epoch, max(last, message["to"]))
        elif kind in ("position", "subscribed"):
            for name, position in message["positions"].items():
                if name not in self.high or self.high[name][0] != position["epoch"]:
                    self.high[name] = (position["epoch"], position["seq"])
        elif kind == "unsubscribed":
            for name in message["channels"]:
                self.high.pop(name, None)


class Play:
    """One random run. `counts` is what the sums must be: of what was published, and of what the clients got."""

    def __init__(self, world: World, dice: random.Random, fuse: Fuse) -> None:
        self.world = world
        self.dice = dice
        self.fuse = fuse
        self.counts: Counter[str] = Counter(offered=0, filtered=0, delivered=0, resent=0)
        #: Events on filtered subscriptions of which the filter may not have been asked.
        self.in_doubt = 0
        self.readers = [Reader(self.counts) for _ in range(6)]
        #: By channel, whether each event is odd, in this epoch.
        self.past: dict[str, list[bool]] = {name: [] for name in CHANNELS}
        self.done: Counter[str] = Counter()

    def one(self, *, flows: bool = False) -> tuple[Reader, Client] | None:
        """Some reader with a connection; `flows`: that reads."""
        found = [
            (reader, reader.client)
            for reader in self.readers
            if reader.client is not None and not (flows and reader.client.wire.room is not None)
        ]
        return self.dice.choice(found) if found else None

    def listeners(self, channel: str) -> list[Reader]:
        known = self.world.state.sessions.by_client
        return [reader for reader in self.readers if channel in reader.odd and known(reader.client_id) is not None]

    async def publish(self, channel: str | None = None) -> None:
        channel = channel or self.dice.choice(CHANNELS)
        epoch, past = self.world.state.epoch, self.past[channel]
        odd = [self.dice.random() < 0.5 for _ in range(self.dice.choice([1, 1, 3, 9]))]
        for each in odd:
            self.world.router.tell(Emit(channel, "x", json.dumps({"odd": int(each), "text": "x" * 40}).encode()))
        for reader in self.listeners(channel):
            self.counts["offered"] += len(odd)
            self.counts["filtered"] += odd.count(False) if reader.odd[channel] else 0
        await self.world.settle()
        await trio.sleep(2)  # the router may have to come back
        if self.world.state.epoch == epoch:
            past += odd
        else:
            self.past = {name: [] for name in CHANNELS}
            self.in_doubt += sum(odd.count(False) for reader in self.listeners(channel) if reader.odd[channel])

    async def subscribe(self) -> None:
        found = self.one(flows=True)
        if found is None:
            return
        (reader, client), channel, odd = found, self.dice.choice(CHANNELS), self.dice.random() < 0.4
        policy = self.dice.choice(["drop_oldest", "drop_newest", "latest", "disconnect"])
        options: Json = {"policy": policy, **({"filter": ODD} if odd else {})}
        past = self.past[channel]
        start = len(past)
        if channel not in reader.odd:
            reader.high.pop(channel, None)
            if not channel.startswith("orders"):  # there the past goes when the channel idles
                start = self.dice.randint(0, len(past))
                options["recover"] = {channel: at(self.world, start)}
        client.subscribe(channel, id=1, **options)
        while (message := await client.receive()).get("type") != "subscribed":
            reader._note(message)
        reader._note(message)
        if channel not in reader.odd:
            self.counts["offered"] += len(past) - start
            self.counts["filtered"] += past[start:].count(False) if odd else 0
        reader.odd[channel] = odd

    async def unsubscribe(self) -> None:
        found = self.one()
        if found is not None and found[0].odd:
            reader, client = found
            channel = self.dice.choice(list(reader.odd))
            client.send("unsubscribe", channels=[channel])
            del reader.odd[channel]

    async def stall(self) -> None:
        found = self.one()
        if found is not None:
            found[1].wire.per_write = self.dice.choice([None, 7, 150])
            found[1].flow(self.dice.choice([0, 100, 400]))

    async def flow(self) -> None:
        found = self.one()
        if found is not None:
            found[1].flow()

    async def vanish(self) -> None:
        found = self.one()
        if found is not None:
            found[0].listen()
            found[1].vanish()
            await self.world.settle()
            self.lose(found[0])

    async def leave(self) -> None:
        found = self.one(flows=True)
        if found is not None:
            found[1].close(1000)
            await found[1].ended()
            self.lose(found[0])

    async def expel(self) -> None:
        found = self.one()
        if found is not None:
            client_id = found[0].client_id
            gone: bool = await self.world.router.ask(lambda reply: Disconnect(reply, client_id))
            assert gone
            found[1].flow()  # of what is partly out the rest comes
            await self.world.settle()
            self.lose(found[0])

    def lose(self, reader: Reader) -> None:
        """Its connection is over; what it has got is counted."""
        reader.listen()
        reader.client = None

    async def come(self) -> None:
        """A connection, which may say that it is behind where it is."""
        away = [reader for reader in self.readers if reader.client is None]
        if not away:
            return
        reader = self.dice.choice(away)
        resumes = self.dice.random() < 0.5
        client = await self.world.connect("resume=1" if resumes else "", resume=reader.token)
        reader.begin(client)
        if resumes and client.connected["reconnected"]:
            positions = {
                name: at(self.world, max(0, seq - self.dice.randint(0, 5)), epoch)
                for name, (epoch, seq) in reader.high.items()
                if epoch == self.world.state.epoch and name in reader.odd
            }
            client.send("resume", positions=positions)

    async def wait(self) -> None:
        await trio.sleep(self.dice.choice([1, 20, 70]))

    async def crash(self) -> None:
        """The router crashes at rest, and its state is sound, or not."""
        if self.dice.random() < 0.5:
            self.world.state.subscriptions.total += 1
            self.past = {name: [] for name in CHANNELS}
        await self.world.crash()

    async def crash_amid(self) -> None:
        """The router crashes amid a fan-out."""
        self.fuse.left = self.dice.randrange(3)
        await self.publish()
        self.fuse.left = None

    async def run(self, steps: int) -> None:
        weights = {
            self.publish: 30, self.subscribe: 14, self.unsubscribe: 4, self.stall: 9, self.flow: 6, self.vanish: 5,
            self.come: 16, self.leave: 1, self.expel: 1, self.wait: 3, self.crash: 1, self.crash_amid: 2,
        }  # fmt: skip
        for _ in range(steps):
            step = self.dice.choices(list(weights), list(weights.values()))[0]
            await step()
            await self.world.settle()
            for reader in self.readers:
                reader.listen()
                if reader.client is not None and reader.client.closed is not None:
                    self.lose(reader)  # too slow for its policy, or silent too long
            self.check()

    def check(self) -> None:
        sums = server(self.world.state)
        for ledger in (sums, *(self.world.state.ledger_of_channel(name) for name in CHANNELS)):
            assert ledger.offered == ledger.filtered + ledger.matched
            gone = ledger.replaced + sum(ledger.dropped.values())
            assert ledger.matched == ledger.delivered + ledger.queued + gone
            figures = (ledger.filtered, ledger.delivered, ledger.queued, ledger.replaced, ledger.resent)
            assert min(*figures, *ledger.dropped.values()) >= 0
        counted = {name: getattr(sums, name) for name in ("offered", "delivered", "resent")}
        assert counted == {name: self.counts[name] for name in counted}
        assert self.counts["filtered"] - self.in_doubt <= sums.filtered <= self.counts["filtered"]


@pytest.mark.parametrize("seed", range(30))
async def test_the_servers_sums_are_what_was_offered_and_what_the_clients_got(
    seed: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributing, "_READERS_BETWEEN_LOOKS", 1)
    async with running(SMALL, watched=True) as world:
        play = Play(world, random.Random(seed), Fuse(monkeypatch))
        await play.run(150)
        for reader in play.readers:
            if reader.client is not None:
                reader.client.vanish()
                await world.settle()
                play.lose(reader)
        await trio.sleep(SMALL.session_ttl_s + 5)
        play.check()
        world.assert_nothing_left()
        assert server(world.state).queued == 0
