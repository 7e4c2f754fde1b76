"""Clients that stall, vanish, come back with old positions and publish meanwhile; a router that is killed at random.

All is decided by a seed, over memory and a clock that jumps. After every step the clients' accounts are compared with
the server's, and each message with what was promised: see `Account`.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any
from unittest import mock

import trio._core._run
from trio.testing import MockClock

from router import hub
from router.config import Config
from router.ledger import Ledger
from router.letters import Emit
from router.limits import Rate
from router.sessions import Session
from tests.router.harness import Client, Json, World, running
from tests.simulation.account import Account, Truth, Wants

CHANNELS = ("signals", "actions")
OFTEN = Rate(burst=100_000, per_s=100_000)
#: Bounds that are reached.
SMALL = Config(
    outbox_events=25,
    outbox_bytes=6_000,
    detached_events=15,
    max_detached_sessions=4,
    session_ttl_s=60,
    history_events=40,
    max_replay=30,
    heartbeat_s=10,
    silence_s=100_000,
    router_mailbox=200,
    rate_subscribe=OFTEN,
    rate_unsubscribe=OFTEN,
    rate_other=OFTEN,
)

_FILTERS: list[tuple[Json | None, Wants]] = [
    (None, lambda data: True),
    ({"data.p": {"$lt": 3}}, lambda data: data["p"] < 3),
    ({"data.p": 0}, lambda data: data["p"] == 0),
    ({"data.p": {"$gte": 3}}, lambda data: data["p"] >= 3),
]


class KilledError(Exception):
    """The router's end, as ordered."""


class Peer:
    """One client over all its connections.

    Attributes:
        client: Its connection now; None: it has none.
        token: To come back with; None: it is new.
        accounts: By channel.
        marks: Where the server would go on while it waits for the client to say so.
        epoch: The one that it was told last.
    """

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.client: Client | None = None
        self.client_id = ""
        self.token: str | None = None
        self.accounts: dict[str, Account] = {}
        self.marks: Json | None = None
        self.marks_before: Json | None = None
        self.said: dict[str, tuple[str, int]] = {}
        self.epoch = ""

    def forget(self) -> None:
        """Be new."""
        self.client, self.token, self.accounts, self.marks = None, None, {}, None

    def welcome(self, connected: Json) -> None:
        """Take what `connected` says; the client may still say where it goes on."""
        self.client_id, self.token, self.epoch = (
            connected["client_id"], connected["reconnection_token"], connected["epoch"],
        )  # fmt: skip
        if connected["reconnected"]:
            for account in self.accounts.values():
                account.withdraw()
            assert connected["channels"] == sorted(self.accounts)
            self.marks = connected["positions"]
        else:
            self.accounts, self.marks = {}, None

    def go_on(self, names: Any = None) -> None:
        """Go on from the server's marks."""
        for name, mark in (self.marks or {}).items():
            if names is None or name in names:
                self.accounts[name].go_on_from(mark["epoch"], mark["seq"])
        self.marks = None

    def listen(self) -> None:
        """Take what came."""
        if self.client is None:
            return
        for message in self.client.take():
            kind = message.get("type")
            if kind == "position":
                for name in message["positions"]:
                    self._about(name, message)
            elif kind is None or kind == "gap":
                self._about(message.get("of") or message["channel"], message)
            elif kind == "error":  # the router died of something else than the message
                assert (message["id"], message["code"]) == ("resume", "internal")
                self._unsay()
            else:
                assert kind in ("published", "ping", "pong", "resumed"), message
        if self.client.closed is not None:
            assert self.client.closed[0] in (1006, 4001), self.client.closed
            self.client = None

    def _unsay(self) -> None:
        """The server has not heard where the client goes on, and will go on from its marks."""
        for name, place in self.said.items():
            self.accounts[name].place, self.accounts[name].honest = place, None
        self.marks = self.marks_before

    def _about(self, channel: str, message: Json) -> None:
        if self.marks is not None:  # its time to speak is over
            self.go_on()
        self.accounts[channel].take(message, self.epoch)


class Simulation:
    """One run. The same seed gives the same run."""

    def __init__(self, seed: int, steps: int, peers: int = 6) -> None:
        self.random = random.Random(seed)
        self.steps = steps
        self.truth = Truth()
        self.peers = [Peer(self.truth) for _ in range(peers)]
        self.world: World
        #: The router dies after so many of its checkpoints; None: it lives.
        self.kill_in: int | None = None
        self.done: dict[str, int] = {}

    def run(self) -> None:
        """Run it under a clock of its own, the tasks in an order that the seed decides, too."""
        scheduler = mock.patch.multiple(trio._core._run, _ALLOW_DETERMINISTIC_SCHEDULING=True, _r=self.random)
        with scheduler:
            trio.run(self.main, clock=MockClock(autojump_threshold=0))

    async def main(self) -> None:
        """All steps, and then the end: everybody reads on, and nothing is left."""
        actions = self._actions()
        looks = mock.patch.multiple(hub, _READERS_BETWEEN_LOOKS=1)
        with self.truth.recorded(), looks, mock.patch.object(hub.Hub, "_yield_if_due", self._checkpoint):
            async with running(SMALL, watched=True) as world:
                self.world = world
                self.truth.begin(world.state.epoch)
                for _ in range(self.steps):
                    name = self.random.choices([*actions], [weight for weight, _ in actions.values()])[0]
                    await actions[name][1]()
                    self.done[name] = self.done.get(name, 0) + 1
                    await self._settle()
                await self._end()

    def _actions(self) -> dict[str, tuple[float, Callable[[], Any]]]:
        return {
            "publish": (30, self._publish),
            "stall": (6, self._stall),
            "flow": (6, self._flow),
            "subscribe": (8, self._subscribe),
            "ask anew": (3, self._ask_anew),
            "unsubscribe": (1, self._unsubscribe),
            "vanish": (4, self._vanish),
            "come": (14, self._come),
            "speak": (14, self._speak),
            "leave": (0.5, self._leave),
            "sleep": (2, self._sleep),
            "kill": (0.5, self._kill),
        }

    async def _checkpoint(self, *_: object) -> None:
        """The router's checkpoint amid its work."""
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                self.kill_in = None
                raise KilledError
        if self.random.random() < 0.2:
            await trio.lowlevel.checkpoint()

    # Steps

    def _one(self, *, connected: bool = True, flowing: bool = False) -> Peer | None:
        """Some client with a connection, or without; flowing: one that reads, and has said where it goes on."""
        found = [
            peer
            for peer in self.peers
            if (peer.client is not None) == connected
            and not (flowing and peer.client is not None and peer.client.wire.room is not None)
            and not (flowing and peer.marks is not None)
        ]
        return self.random.choice(found) if found else None

    def _event(self) -> Json:
        data = {"p": self.random.randrange(10), "k": self.random.choice("abc")}
        if self.random.random() < 0.1:
            data["text"] = "x" * self.random.randrange(400)
        return data

    async def _publish(self) -> None:
        channel = self.random.choice(CHANNELS)
        events = [self._event() for _ in range(math.ceil(self.random.expovariate(0.25)))]
        peer = self._one()
        if peer is not None and peer.client is not None and self.random.random() < 0.5:
            await self._speak_of(peer)  # the first message says where it goes on
            batch = [{"event_type": "x", "data": data} for data in events]
            peer.client.send("publish", channel=channel, events=batch)
        else:
            for data in events:
                self.world.router.tell(Emit(channel, "x", json.dumps(data).encode()))

    async def _stall(self) -> None:
        peer = self._one()
        if peer is not None and peer.client is not None:
            peer.client.wire.per_write = self.random.choice([None, 1, 100, 1000])
            peer.client.stall(self.random.choice([0, 1, self.random.randrange(2000)]))

    async def _flow(self) -> None:
        peer = self._one()
        if peer is not None and peer.client is not None:
            peer.client.flow(self.random.choice([None, None, self.random.randrange(1, 3000)]))

    async def _subscribe(self) -> None:
        peer, channel = self._one(flowing=True), self.random.choice(CHANNELS)
        if peer is None or peer.client is None or channel in peer.accounts:
            return
        wanted, wants = self.random.choice(_FILTERS)
        options: Json = {} if wanted is None else {"filter": wanted}
        policy = options["policy"] = self.random.choice(
            ["drop_oldest", "drop_oldest", "drop_newest", "latest", "disconnect"]
        )
        key = "k" if policy == "latest" and self.random.random() < 0.7 else None
        if key is not None:
            options["key"] = f"data.{key}"
        seq = self._flushed(channel)
        past = self.random.random()
        if past < 0.4:
            epoch = self.world.state.epoch if past < 0.35 else "elder"
            options["recover"] = {channel: {"epoch": epoch, "seq": self.random.randint(0, seq + 1)}}
        elif past < 0.6:
            options["last"] = self.random.randint(1, 50)
        peer.client.subscribe(channel, **options)
        answer = await peer.client.receive()
        while answer.get("type") != "subscribed":
            self._overtaken(peer, answer)
            answer = await peer.client.receive()
        position = answer["positions"][channel]
        if options.get("recover", {}).get(channel) not in (None, position):
            place = options["recover"][channel]["epoch"], options["recover"][channel]["seq"]
            if place[0] not in self.truth.epochs:
                self.truth.epochs.insert(0, place[0])
        else:
            place = position["epoch"], position["seq"]
        asked = [((place[0], place[1]), wants), ((self.world.state.epoch, seq), wants)]
        account = Account(self.truth, channel, place, policy == "latest", key, asked, self.world.state.epoch)
        account.high = {}
        account.high[self.world.state.epoch] = position["seq"]
        peer.accounts[channel] = account

    def _overtaken(self, peer: Peer, message: Json) -> None:
        assert peer.client is not None
        peer.client._received.appendleft(message)
        peer.listen()

    async def _ask_anew(self) -> None:
        """Other options, but no other policy where one is `latest`: what it replaced is not known then."""
        peer = self._one(flowing=True)
        if peer is None or peer.client is None or not peer.accounts:
            return
        account = self.random.choice(list(peer.accounts.values()))
        if account.latest:
            return
        wanted, wants = self.random.choice(_FILTERS)
        options: Json = {} if wanted is None else {"filter": wanted}
        seq = self._flushed(account.channel)
        peer.client.subscribe(account.channel, policy=self.random.choice(["drop_oldest", "drop_newest"]), **options)
        while (answer := await peer.client.receive()).get("type") != "subscribed":
            self._overtaken(peer, answer)
        account.wants.append(((self.world.state.epoch, seq), wants))

    async def _unsubscribe(self) -> None:
        peer = self._one(flowing=True)
        if peer is None or peer.client is None or not peer.accounts:
            return
        channel = self.random.choice(list(peer.accounts))
        peer.client.send("unsubscribe", channels=[channel])
        while (answer := await peer.client.receive()).get("type") != "unsubscribed":
            self._overtaken(peer, answer)
        del peer.accounts[channel]

    async def _vanish(self) -> None:
        peer = self._one()
        if peer is not None and peer.client is not None:
            peer.client.vanish()
            peer.client = None

    async def _leave(self) -> None:
        """It closes for good."""
        peer = self._one(flowing=True)
        if peer is not None and peer.client is not None:
            client = peer.client
            client.close(1000)
            await client.ended()
            client.take()
            peer.forget()

    async def _come(self) -> None:
        """A connection, anew, or (now and then) beside the one it has."""
        peer = self._one(connected=self.random.random() < 0.1)
        if peer is None:
            return
        speaks = self.random.random() < 0.6
        wire = {"per_write": self.random.choice([None, None, 3, 300])}
        client = await self.world.connect("resume=1" if speaks else "", resume=peer.token, **wire)
        peer.client = client
        peer.welcome(client.connected)
        if not speaks or not client.connected["reconnected"]:
            peer.go_on()
        if self.random.random() < 0.3:
            client.stall(self.random.randrange(500))

    async def _speak(self) -> None:
        waiting = [peer for peer in self.peers if peer.marks is not None and peer.client is not None]
        if waiting:
            await self._speak_of(self.random.choice(waiting))

    async def _speak_of(self, peer: Peer) -> None:
        session = self._session(peer)
        if peer.marks is None or peer.client is None:
            return
        if session is None or session.resume_by is None:  # its time was over
            peer.go_on()
            return
        positions: Json = {}
        for name, account in peer.accounts.items():
            epoch, seq = account.place
            chance = self.random.random()
            if chance < 0.2:
                continue
            if chance < 0.5:
                seq = max(0, seq - self.random.randrange(60))
            elif chance < 0.53 and epoch == self.world.state.epoch:
                seq = self._flushed(name) + self.random.randint(1, 5)
            positions[name] = {"epoch": epoch, "seq": seq}
        peer.client.send("resume", positions=positions, id="resume")
        peer.marks_before = peer.marks
        peer.said = {name: account.place for name, account in peer.accounts.items()}
        peer.go_on([name for name in peer.accounts if name not in positions])
        for name, position in positions.items():
            peer.accounts[name].claim(position["epoch"], position["seq"])

    async def _sleep(self) -> None:
        await trio.sleep(self.random.choice([1, 6, 11, 70]))

    async def _kill(self) -> None:
        """The router dies, at rest or amid what comes next."""
        if self.random.random() < 0.3:
            await self.world.router.send(Emit("no such channel", "x", b"{}"))
        else:
            self.kill_in = self.random.randrange(6)
            for _ in range(3):
                await self._publish()
        await self._settle(checks=False)
        await trio.sleep(3)
        self.kill_in = None
        self.truth.begin(self.world.state.epoch)

    # What holds after each step

    def _flushed(self, channel: str) -> int:
        stream = self.world.state.streams[channel]
        assert stream.seq == stream.flushed_seq
        return stream.flushed_seq

    def _session(self, peer: Peer) -> Session | None:
        return self.world.state.sessions.by_client(peer.client_id)

    async def _settle(self, *, checks: bool = True) -> None:
        await self.world.settle()
        for peer in self.peers:
            peer.listen()
        if checks:
            for peer in self.peers:
                self._check_ledgers(peer)

    def _check_ledgers(self, peer: Peer) -> None:
        session, state = self._session(peer), self.world.state
        if session is None:
            return
        assert session.outbox.events <= session.outbox.max_events
        assert session.outbox.size <= session.outbox.max_bytes
        assert set(session.subscriptions) == set(peer.accounts)
        for name, subscription in session.subscriptions.items():
            account, queue, lane = peer.accounts[name], subscription.queue, session.lane
            ledger = state.ledger(session, subscription)
            adds_up(ledger)
            in_doubt = peer.client is None and lane is not None  # it went, and the server has not seen it
            if account.epoch != state.epoch:
                account.epoch, account.delivered, account.resent = state.epoch, ledger.delivered, ledger.resent
                account.lost = None
            elif not in_doubt:
                assert (account.delivered, account.resent) == (ledger.delivered, ledger.resent), (account, ledger)
            quiet = not session.outbox.holds(queue) and not (lane is not None and lane.carries(queue))
            if quiet and account.lost is not None:
                told = {reason: lost for reason, lost in ledger.dropped.items() if reason != "epoch_changed"}
                assert account.lost == sum(told.values()), (account, ledger)

    async def _end(self) -> None:
        self.kill_in = None
        for peer in self.peers:
            for _ in range(2):  # it may be too slow for its policy yet
                await self._be_there(peer)
                await self._settle()
        for peer in self.peers:
            assert peer.client is not None
            for name, account in peer.accounts.items():
                account.nothing_missing(self._flushed(name))
            peer.client.close(1000)
            await peer.client.ended()
            peer.client = None
        await trio.sleep(SMALL.session_ttl_s + 5)
        self.world.assert_nothing_left()
        for channel in CHANNELS:
            total = self.world.state.ledger_of_channel(channel)
            adds_up(total)
            assert total.queued == 0

    async def _be_there(self, peer: Peer) -> None:
        """It has a connection and reads."""
        if peer.client is None:
            peer.client = await self.world.connect(resume=peer.token)
            peer.welcome(peer.client.connected)
            peer.go_on()
        else:
            await self._speak_of(peer)
        peer.client.wire.per_write = None
        peer.client.flow()


def adds_up(ledger: Ledger) -> None:
    """The sums of an account."""
    assert ledger.offered == ledger.filtered + ledger.matched
    dropped = sum(ledger.dropped.values())
    assert ledger.matched == ledger.delivered + ledger.queued + ledger.replaced + dropped
    figures = (ledger.filtered, ledger.delivered, ledger.queued, ledger.replaced, ledger.resent)
    assert min(*figures, *ledger.dropped.values()) >= 0, ledger
