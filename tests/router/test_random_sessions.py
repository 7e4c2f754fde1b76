"""Random conversations of several clients that publish, subscribe, stall, vanish, resume and take over.

Every client keeps its own account of what the contract promises it. On each connection a channel goes on from the
position that `subscribed` or `connected` gave: the next message about it is the event with the next seq, or a gap
that begins there. So nothing comes twice, out of order, or is missing unsaid; and when all is quiet, every account
has come to the end of its stream. The router crashes now and then, also amid a fan-out.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.batches import Batch
from router.config import Config
from router.lanes import Lane
from router.limits import Rate
from router.queues import Queue
from router.sessions import Session
from tests.router.harness import Client, Json, World, running

CHANNELS = ("signals", "actions", "logs")
#: Bounds that are reached, and rates that are not.
OFTEN = Rate(burst=1000, per_s=1000)
SMALL = Config(
    outbox_events=40,
    detached_events=15,
    router_mailbox=3,
    rate_subscribe=OFTEN,
    rate_unsubscribe=OFTEN,
    rate_get_subscriptions=OFTEN,
)
Position = tuple[str, int]


class Account:
    """What one client knows of its session. Everything it is told is checked against the contract."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.token: str | None = None
        #: Of the channels subscribed to, as far as messages told; kept over connections.
        self.positions: dict[str, Position] = {}
        #: An epoch broke off there, and where the channel goes on has not been told yet.
        self.broken: set[str] = set()
        self.last_id = self.answered_id = 0
        self.events = self.lost = self.breaks = 0
        #: Whether requests were under way when the last connection ended: then the session may have changed unseen.
        self.unsure = False

    def ask(self, kind: str, **fields: object) -> None:
        assert self.client is not None
        self.last_id += 1
        self.client.send(kind, id=self.last_id, **fields)

    def begin(self, client: Client, connected: Json, *, resumes: bool, ahead: float) -> None:
        """Take note of `connected`.

        Args:
            client: The new connection.
            connected: What it was told.
            resumes: The session must have been there.
            ahead: So many events more than the marks say may the last connection have got.
        """
        client.connected = connected
        self.client, self.token = client, client.token
        self.last_id = self.answered_id = 0
        told = {name: (at["epoch"], at["seq"]) for name, at in connected.get("positions", {}).items()}
        if resumes:
            assert connected["reconnected"]
            assert self.unsure or sorted(told) == sorted(self.positions)
            assert sorted(told) == connected["channels"]
            for name, (epoch, seq) in told.items():
                mine = self.positions.get(name, (epoch, seq))
                as_told = mine[0] == epoch and seq <= mine[1] <= seq + ahead
                assert self.unsure or name in self.broken or as_told, (name, mine, told)
        else:
            assert not connected["reconnected"]
            assert told == {}
        self.positions, self.broken, self.unsure = told, set(), False

    def read(self) -> None:
        """Look through all that has come."""
        assert self.client is not None
        for message in self.client.take():
            self._note(message)
        if self.client.closed is not None:
            self.unsure |= self.answered_id < self.last_id

    def _note(self, message: Json) -> None:
        kind = message.get("type")
        if "id" in message:
            assert message["id"] == self.answered_id + 1, "one reply each, in the order of the requests"
            self.answered_id += 1
        if kind is None:
            self._note_event(message)
        elif kind == "gap":
            self._note_gap(message)
        elif kind == "position":
            for name, at in message["positions"].items():
                assert name in self.broken
                self.broken.remove(name)
                self.positions[name] = (at["epoch"], at["seq"])
        elif kind == "subscribed":
            for name, at in message["positions"].items():
                mine = self.positions.get(name)
                assert mine is None or name in self.broken or mine == (at["epoch"], at["seq"]), (name, mine, at)
                self.positions[name] = (at["epoch"], at["seq"])
        elif kind == "unsubscribed":
            for name in message["channels"]:
                del self.positions[name]
                self.broken.discard(name)
        elif kind == "subscriptions":
            assert message["channels"] == sorted(self.positions)
        else:
            assert kind in ("published", "pong") or message["code"] == "internal", message

    def _note_event(self, event: Json) -> None:
        name = event["channel"]
        assert name not in self.broken
        epoch, seq = self.positions[name]
        assert event["seq"] == seq + 1, (event, self.positions)
        self.positions[name] = (epoch, seq + 1)
        self.events += 1

    def _note_gap(self, gap: Json) -> None:
        name = gap["of"]
        epoch, seq = self.positions[name]
        assert (gap["epoch"], gap["from"]) == (epoch, seq + 1), (gap, self.positions)
        if gap["reason"] == "epoch_changed":
            assert gap["to"] is gap["count"] is None
            self.broken.add(name)
            self.breaks += 1
        else:
            assert gap["count"] == gap["to"] - gap["from"] + 1 > 0
            self.positions[name] = (epoch, gap["to"])
            self.lost += gap["count"]


class Bomb:
    """Fails in the fan-out when its time has come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for kind in (Lane, Session):
            monkeypatch.setattr(kind, "offer", self._wrap(kind.offer))

    def _wrap(self, offer: Callable[[Any, Queue, Batch], None]) -> Callable[[Any, Queue, Batch], None]:
        def offer_or_fail(outlet: Any, queue: Queue, batch: Batch) -> None:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    self.left = None
                    raise RuntimeError("amid a fan-out")
            offer(outlet, queue, batch)

        return offer_or_fail


class Play:
    """One random run."""

    def __init__(self, world: World, dice: random.Random, bomb: Bomb) -> None:
        self.world = world
        self.dice = dice
        self.bomb = bomb
        self.accounts = [Account() for _ in range(4)]
        self.resumed = self.taken_over = 0

    async def connect(self, account: Account) -> None:
        """Open a connection: a first one, one that resumes, or one that takes over."""
        old = account.client
        if old is not None:
            await self.world.settle()
            account.read()
            account.unsure |= account.answered_id < account.last_id
        takes_over = old is not None and old.closed is None and not old.gone
        ahead = 0.0
        if old is not None and old.plain:
            ahead = math.inf  # how much of a `send_all` is out cannot be known: it is all repeated
        elif takes_over:
            ahead = 1  # it gets the rest of an event that was on its way
        plain, per_write = self.dice.random() < 0.1, self.dice.choice([None, None, 1, 5, 40])
        client = self.world.open(resume=account.token, plain=plain, per_write=per_write)
        with trio.fail_after(10):
            connected = await client.expect("connected")
        if old is not None:
            self.resumed += 1
            self.taken_over += takes_over
        account.begin(client, connected, resumes=old is not None, ahead=ahead)
        if takes_over and old is not None:
            old.flow()

    async def step(self) -> None:
        account = self.dice.choice(self.accounts)
        client = account.client
        if client is None or not client.usable:
            await self.connect(account)
            return
        match self.dice.randrange(20):
            case 0 | 1:
                account.ask("subscribe", channels=self.some())
            case 2:
                account.ask("unsubscribe", channels=self.some())
            case 3:
                account.ask("get_subscriptions")
            case 4 | 5 | 6 | 7 | 8:
                count = self.dice.choice([1, 1, 1, 3, 12])
                events = [{"event_type": "x", "data": {"n": n}} for n in range(count)]
                account.ask("publish", channel=self.dice.choice(CHANNELS), events=events)
            case 9:
                account.ask("ping")
            case 10 | 11 | 12:
                client.stall(self.dice.choice([0, 0, 60, 300, 1500]))
            case 13 | 14:
                client.flow()
            case 15:
                client.vanish()
            case 16:
                client.close(self.dice.choice([1001, 4000]))
                client.flow()
            case 17:
                await self.connect(account)
            case 18:
                await trio.sleep(self.dice.choice([0.1, 3, 25]))
            case _:
                if self.dice.random() < 0.25:
                    self.bomb.left = self.dice.randrange(6)
                    await trio.sleep(5)
                elif self.dice.random() < 0.25:
                    await self.world.crash()
                    await trio.sleep(5)
        if self.dice.random() < 0.7:
            await self.world.settle()

    def some(self) -> list[str]:
        return self.dice.sample(CHANNELS, self.dice.randint(1, len(CHANNELS)))

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            await self.step()
            for account in self.accounts:
                if account.client is not None:
                    account.read()
        self.bomb.left = None
        await self.rest()

    async def rest(self) -> None:
        """Let everything come to its end, and look whether it has."""
        for account in self.accounts:
            if account.client is None or not account.client.usable:
                await self.connect(account)
            assert account.client is not None
            account.client.flow()
        await trio.sleep(1)
        streams = self.world.state.streams
        for account in self.accounts:
            account.read()
            assert account.client is not None
            assert account.client.closed is None
            assert account.answered_id == account.last_id
            assert account.broken == set()
            assert account.positions == {
                name: (self.world.state.epoch, streams[name].seq) for name in account.positions
            }
            session = self.world.state.sessions.by_client(account.client.client_id)
            assert session is not None
            assert sorted(session.subscriptions) == sorted(account.positions)
        for account in self.accounts:
            assert account.client is not None
            account.client.close()
        await trio.sleep(5)
        self.world.assert_nothing_left()


@pytest.mark.parametrize("seed", range(40))
async def test_nothing_comes_twice_or_out_of_order_or_is_missing_unsaid(
    seed: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(SMALL) as world:
        play = Play(world, random.Random(seed), Bomb(monkeypatch))
        await play.run(200)
        assert sum(account.events for account in play.accounts) > 50
        assert play.resumed > 10
