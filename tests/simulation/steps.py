"""What clients and the host program do: each step is one thing."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import trio

from actors import MailboxFull
from router.letters import Emit, SendTo
from router.sessions import Session
from tests.router.harness import Client, Json, World
from tests.simulation.account import Account, Ask
from tests.simulation.past import past_of
from tests.simulation.peer import Peer, Publish
from tests.simulation.setting import CHANNELS, FILTERS, POLICIES, SMALL
from tests.simulation.truth import Place, Truth

#: As many publishes of a client may be repeated.
_REPEATABLE = 4

Step = Callable[[], Awaitable[None]]


class Steps:
    """All steps.

    Attributes:
        world: The server.
        truth: What really happened.
        dice: Decides what they do.
        peers: The clients.
        at_rest: All that came before the next step is done when that begins.
    """

    def __init__(self, world: World, truth: Truth, dice: random.Random, peers: int) -> None:
        self.world = world
        self.truth = truth
        self.dice = dice
        self.at_rest = True
        self.peers = [Peer(truth, SMALL) for _ in range(peers)]
        self._letters = 0
        self._keys = 0

    def all(self) -> dict[str, tuple[float, Step]]:
        """By name: how often, and what."""
        return {
            "publish": (28, self.publish),
            "crowd": (1, self.crowd),
            "repeat": (4, self.repeat),
            "send to": (6, self.send_to),
            "stall": (6, self._stall),
            "flow": (6, self._flow),
            "subscribe": (8, self._subscribe),
            "ask anew": (3, self.ask_anew),
            "unsubscribe": (1, self._unsubscribe),
            "list": (1, self.ask_what),
            "vanish": (4, self._vanish),
            "come": (14, self._come),
            "speak": (14, self.speak),
            "leave": (0.5, self._leave),
            "sleep": (3, self._sleep),
        }

    async def settle(self) -> None:
        """Wait until nothing happens any more without the clock, and let the clients take what came."""
        await self.world.settle()
        for peer in self.peers:
            peer.listen()

    def session(self, peer: Peer) -> Session | None:
        """What the server has of a client."""
        return self.world.state.sessions.by_client(peer.client_id)

    def flushed(self, channel: str) -> int:
        """The last seq of a channel; nothing is under way."""
        stream = self.world.state.streams[channel]
        assert stream.seq == stream.flushed_seq
        return stream.flushed_seq

    @property
    def epoch(self) -> str:
        """The current one."""
        return self.world.state.epoch

    def some(self, fits: Callable[[Peer], bool]) -> Peer | None:
        """One of the clients that fit; None: there is none."""
        found = [peer for peer in self.peers if fits(peer)]
        return self.dice.choice(found) if found else None

    def _connected(self) -> tuple[Peer, Client] | None:
        peer = self.some(lambda each: each.client is not None)
        return None if peer is None or peer.client is None else (peer, peer.client)

    def _asker(self) -> Peer | None:
        """One that has said where it goes on: something else may come first."""
        return self.some(lambda each: each.client is not None and each.marks is None)

    # Events

    def _data(self) -> Json:
        data: Json = {"p": self.dice.randrange(10), "k": self.dice.choice("abc")}
        if self.dice.random() < 0.1:
            data["text"] = "x" * self.dice.randrange(400)
        return data

    async def publish(self) -> None:
        """The host publishes, or a client does, with a key or without."""
        channel = self.dice.choice(CHANNELS)
        batch = [self._data() for _ in range(math.ceil(self.dice.expovariate(0.25)))]
        peer = self.some(lambda each: each.client is not None)
        if peer is None or self.dice.random() < 0.5:
            for data in batch:
                await self.world.router.send(Emit(channel, "x", json.dumps(data).encode()))
            return
        key = None
        if self.dice.random() < 0.3:
            self._keys += 1
            key = f"key-{self._keys}"
            batch = [{**data, "once": [key, n]} for n, data in enumerate(batch)]
        self._say(peer)  # the first message says where it goes on
        peer.publish(Publish(channel, batch, key), self.epoch)
        del peer.publishes[:-_REPEATABLE]

    async def crowd(self) -> None:
        """More comes than the router's mailbox holds, and somebody leaves meanwhile."""
        try:
            while True:
                self.world.router.tell(Emit(self.dice.choice(CHANNELS), "x", json.dumps(self._data()).encode()))
        except MailboxFull:
            if (found := self._connected()) is not None:
                found[1].vanish()  # and does not know it yet

    async def repeat(self) -> None:
        """Publish with the same key once more, whether the first one was answered or not, on whatever connection."""
        peer = self.some(lambda each: each.client is not None and bool(each.publishes))
        if peer is not None:
            self._say(peer)
            peer.publish(self.dice.choice(peer.publishes), self.epoch)

    async def send_to(self) -> None:
        """The host sends some events to one client, or to all."""
        self._letters += 1
        target = self.dice.choice(self.peers).client_id if self.dice.random() < 0.6 else None
        for _ in range(math.ceil(self.dice.expovariate(0.5))):
            self._letters += 1
            data = {"n": self._letters, "text": "x" * self.dice.randrange(200)}
            await self.world.router.send(SendTo("x", json.dumps(data).encode(), client_id=target))

    # Reading

    async def _stall(self) -> None:
        if (found := self._connected()) is not None:
            _, client = found
            client.wire.per_write = self.dice.choice([None, 7, 100, 1000])
            client.stall(self.dice.choice([0, 1, self.dice.randrange(2000)]))

    async def _flow(self) -> None:
        if (found := self._connected()) is not None:
            found[1].flow(self.dice.choice([None, None, self.dice.randrange(1, 3000)]))

    async def _sleep(self) -> None:
        await trio.sleep(self.dice.choice([0.0004, 0.001, 0.017, 1, 6, 11, 25]))

    # Subscriptions

    def _options(self) -> tuple[Json, Ask]:
        """A filter and a policy; the place that they hold from is to be filled in."""
        options: Json = {"policy": self.dice.choice(POLICIES)}
        wanted, wants = self.dice.choice(FILTERS)
        if wanted is not None:
            options["filter"] = wanted
        latest = options["policy"] == "latest"
        key = "k" if latest and self.dice.random() < 0.7 else None
        if key is not None:
            options["key"] = f"data.{key}"
        return options, Ask(("", 0), wants, latest, key)

    def _some_past(self, channel: str) -> Json:
        chance, seq = self.dice.random(), self.flushed(channel)
        if chance < 0.3:
            epoch = self.epoch if chance < 0.25 else "elder"
            return {"recover": {channel: {"epoch": epoch, "seq": self.dice.randint(0, seq + 1)}}}
        if chance < 0.45:
            return {"last": self.dice.randint(1, 50)}
        if chance < 0.7:
            return {"since": self._some_time(channel)}
        return {}

    def _some_time(self, channel: str) -> str:
        """An event's own time, a millisecond beside it, or one that is before or after all."""
        clock, events = self.world.state.clock, self.truth.events(self.epoch, channel)
        chance = self.dice.random()
        if not events or chance < 0.1:
            return clock.timestamp(self.dice.choice([0, clock.unix_ms() + 1, clock.unix_ms() + 10**9]))
        timestamp = self.dice.choice(events[-60:]).timestamp
        if chance < 0.7:
            return timestamp
        return clock.timestamp(round(datetime.fromisoformat(timestamp).timestamp() * 1000) + self.dice.choice([-1, 1]))

    async def _subscribe(self) -> None:
        peer, channel = self._asker(), self.dice.choice(CHANNELS)
        if peer is None or channel in peer.accounts:
            return
        options, ask = self._options()
        past = self._some_past(channel)
        number, answer = await self._ask(peer, "subscribe", channels=[channel], **options, **past)
        if (moment := self.truth.done.get(number)) is None:
            return
        expected = past_of(self.truth, SMALL, moment, channel, past, ask.wants)
        if answer is not None:
            position = answer["positions"][channel]
            assert (position["epoch"], position["seq"]) == expected.start, (answer, past, expected)
            assert answer.get("recovered", {}) == ({channel: expected.whole} if past else {}), (answer, past, expected)
        if expected.place[0] not in self.truth.epochs:
            self.truth.epochs.insert(0, expected.place[0])
        joined, asks = (moment.epoch, moment.flushed[channel]), [ask._replace(behind=expected.place)]
        account = Account(self.truth, channel, expected.place, asks, joined, moment.epoch)
        account.high[expected.start[0]] = expected.start[1]
        account.astray = expected.place != expected.start
        account.unsure = peer.in_doubt  # its connection may be gone again
        peer.accounts[channel] = account

    async def ask_anew(self) -> None:
        """A client asks for something else on a channel."""
        peer = self._asker()
        if peer is None or not peer.accounts:
            return
        account = self.dice.choice([*peer.accounts.values()])
        options, ask = self._options()
        leaves = self.dice.random() < 0.2  # with what was under way still there
        number, _ = await self._ask(peer, "subscribe", leaves=leaves, channels=[account.channel], **options)
        if (moment := self.truth.done.get(number)) is not None:
            account.asks.append(ask._replace(behind=(moment.epoch, moment.flushed[account.channel])))

    async def _unsubscribe(self) -> None:
        peer = self._asker()
        if peer is None or not peer.accounts:
            return
        channel = self.dice.choice([*peer.accounts])
        number, answer = await self._ask(peer, "unsubscribe", channels=[channel])
        if number in self.truth.done:
            del peer.accounts[channel]
            assert answer is None or answer["channels"] == [channel]

    async def ask_what(self) -> None:
        """A client asks what it is subscribed to."""
        peer = self._asker()
        if peer is not None:
            _, answer = await self._ask(peer, "get_subscriptions")
            assert answer is None or answer["channels"] == sorted(peer.accounts)

    async def _ask(self, peer: Peer, kind: str, *, leaves: bool = False, **fields: Any) -> tuple[int, Json | None]:
        """Ask for something, and read on, up to the answer, or be gone; whether it was done, the truth knows."""
        number = peer.send(kind, **fields)
        assert peer.client is not None
        await self.world.settle()  # what waits for the client, waits while it is done
        if leaves:
            peer.client.vanish()
        else:
            peer.client.flow()
        answer = await peer.answer(number)
        if answer is None:
            await trio.sleep(1)  # the router may have died, too
        return number, None if answer is None or answer["type"] == "error" else answer

    # Coming and going

    async def _vanish(self) -> None:
        if (found := self._connected()) is not None:
            peer, client = found
            client.vanish()
            peer.lose()

    async def _leave(self) -> None:
        """It closes, for good or not."""
        peer = self._asker()
        if peer is not None:
            await self.close(peer, self.dice.choice([1000, 1001, 4000]))

    async def _come(self) -> None:
        """A connection, anew, or (now and then) beside the one it has."""
        beside = self.dice.random() < 0.1
        peer = self.some(lambda each: (each.client is not None) == beside)
        if peer is not None:
            await self.settle()
            await self._connect(peer)

    async def _connect(self, peer: Peer) -> None:
        speaks, plain = self.dice.random() < 0.6, self.dice.random() < 0.25
        lasts, elder = self._lasts(peer), peer.client
        client = self.world.open(
            "resume=1" if speaks else "",
            resume=peer.token,
            plain=plain,
            per_write=self.dice.choice([None, None, 11, 300]),
        )
        if self.dice.random() < 0.1:
            client.stall(self.dice.randrange(500))
            await self.world.settle()
            client.vanish()
        if (connected := await client.receive_or_end()) is None:  # it was lost on the way: the old token is good
            await self.world.settle()
            session = self.session(peer)
            if session is not None and elder is not None and session.lane is not elder.lane:
                await self._part(peer, elder)
            if plain:
                peer.doubt()
            return
        assert connected["type"] == "connected"
        assert connected["reconnected"] == lasts
        client.connected = connected
        if elder is not None:
            await self._part(peer, elder)
        peer.welcome(client, speaks=speaks)
        if self.dice.random() < 0.3:
            client.stall(self.dice.randrange(500))

    async def _part(self, peer: Peer, elder: Client) -> None:
        """A connection that was taken over gets the rest of a frame, replies that waited, and its close."""
        elder.flow()
        await self.world.settle()
        assert elder.closed is not None
        assert elder.closed[0] in (1006, 4001, 4502), elder.closed
        peer.hear_out(taken_over=True)

    def _lasts(self, peer: Peer) -> bool:
        """Whether a client's session is there to be resumed."""
        session = self.session(peer)
        if peer.token is None or session is None:
            return False
        return session.lane is not None or trio.current_time() - session.detached_at < SMALL.session_ttl_s

    async def speak(self) -> None:
        """A client says where it goes on."""
        peer = self.some(lambda each: each.marks is not None and each.client is not None)
        if peer is not None:
            self._say(peer)

    def _say(self, peer: Peer) -> None:
        """Say where it goes on, unless it has or its time for that is over."""
        session = self.session(peer)
        if peer.marks is None or peer.client is None:
            return
        if session is None or session.resume_by is None:
            peer.go_on()
            return
        positions: dict[str, Place] = {}
        for name, account in peer.accounts.items():
            epoch, seq = account.place
            chance = self.dice.random()
            if chance < 0.2:
                continue
            if chance < 0.5:
                seq = max(0, seq - self.dice.randrange(60))
            elif chance < 0.53 and epoch == self.epoch and self.at_rest:
                seq = self.flushed(name) + self.dice.randint(1, 5)
            positions[name] = epoch, seq
        peer.resume(positions)

    async def be_there(self, peer: Peer) -> None:
        """Have a connection, and read."""
        for _ in range(20):  # the connection may be lost each time
            if peer.client is not None and peer.client.gone:  # without its knowledge
                await peer.client.ended()
                await self.settle()
            if peer.client is None:
                await self._connect(peer)
                await self.settle()
        assert peer.client is not None
        self._say(peer)
        peer.client.wire.per_write = None
        peer.client.flow()

    async def close(self, peer: Peer, code: int = 1000) -> None:
        """Close; with 1000 for good."""
        assert peer.client is not None
        client = peer.client
        client.close(code)
        client.flow()
        answer, _ = await client.ended()
        peer.hear_out()
        if answer == 1000 and client.lane.close_request is None:  # else it was killed, or the server closed it first
            peer.forget()
