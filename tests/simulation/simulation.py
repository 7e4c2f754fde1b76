"""Clients that stall, vanish, come back with old positions and publish meanwhile; actors that are killed at random.

All is decided by a seed, over memory and a clock that jumps. After every step the clients' accounts are compared with
the server's, and each message with what was promised: see `Account`, `Post` and `Peer`.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import trio._core._run
from trio.testing import MockClock

from router import liveness, outbox
from router.connection import Connection
from router.hub import distributing
from router.ledger import Ledger
from tests.router.harness import Wire, World, running
from tests.simulation.account import Account
from tests.simulation.faults import Faults
from tests.simulation.killing import Killer, tasks_of
from tests.simulation.peer import Peer
from tests.simulation.setting import CHANNELS, SMALL
from tests.simulation.steps import Steps
from tests.simulation.truth import Truth


class Simulation:
    """One run. The same seed gives the same run, to the byte.

    Attributes:
        done: How often each step was done.
        killer: Who kills actors.
    """

    def __init__(self, seed: int, steps: int, peers: int = 6) -> None:
        self._dice = random.Random(seed)
        self._count = steps
        self._peers = peers
        self._truth = Truth(SMALL.publish_key_s)
        self._written = hashlib.sha256()
        self.killer = Killer()
        self.done: dict[str, int] = {}
        self._world: World
        self._steps: Steps

    @property
    def digest(self) -> str:
        """Of all bytes that the server wrote, in their order."""
        return self._written.hexdigest()

    def run(self) -> None:
        """Run it under a clock of its own."""
        with _chance_decided_by(self._dice), self._recorded():
            trio.run(self._main, clock=MockClock(autojump_threshold=0))

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        try_write = Wire.try_write

        def writing(wire: Wire, buffer: bytes | memoryview) -> int:
            size = try_write(wire, buffer)
            self._written.update(buffer[:size])
            return size

        with mock.patch.object(Wire, "try_write", writing), self._truth.recorded():
            yield

    async def _main(self) -> None:
        """All steps, and then the end: everybody reads on, and nothing is left."""
        with ExitStack() as patches:
            patches.enter_context(mock.patch.object(distributing, "_READERS_BETWEEN_LOOKS", 1))
            patches.enter_context(mock.patch.object(distributing.Distributor, "_yield_if_due", self._yield))
            patches.enter_context(mock.patch.object(liveness, "_CONNECTIONS_BETWEEN_YIELDS", 1))
            patches.enter_context(self.killer.at_work())
            async with running(SMALL, watched=True) as world:
                self._world = world
                self._truth.begin(world.state.epoch)
                self._steps = Steps(world, self._truth, self._dice, self._peers)
                steps = self._steps.all() | Faults(self._steps, self.killer).all()
                for _ in range(self._count):
                    name = self._dice.choices([*steps], [weight for weight, _ in steps.values()])[0]
                    await steps[name][1]()
                    self.done[name] = self.done.get(name, 0) + 1
                    await self._settle()
                await self._end()

    async def _yield(self, *_: object) -> None:
        """The router lets others run amid its work: not when the time has come, for here it stands still."""
        if self.killer.dooms(trio.lowlevel.current_task()) or self._dice.random() < 0.2:
            await trio.lowlevel.checkpoint()

    # What holds after each step

    async def _settle(self) -> None:
        await self._steps.settle()
        for peer in self._steps.peers:
            peer.check_published()
            self._check(peer)

    def _check(self, peer: Peer) -> None:
        session, state = self._steps.session(peer), self._world.state
        if session is None:
            return
        assert session.outbox.events <= session.outbox.max_events
        assert session.outbox.size <= session.outbox.max_bytes
        assert set(session.subscriptions) == set(peer.accounts)
        lane = session.lane
        if peer.reads and lane is not None and not lane.handing_over:  # else its publish waits for room
            assert peer.all_answered
        gone = peer.client is None or peer.client.gone
        in_doubt = gone and lane is not None  # it went, and the server has not seen it
        # What `send_all` was given counts as sent, and it may not have come yet.
        amid = peer.client is not None and peer.client.plain and not peer.reads
        for name, subscription in session.subscriptions.items():
            account, queue = peer.accounts[name], subscription.queue
            ledger = state.ledger(subscription)
            adds_up(ledger)
            if in_doubt:
                continue
            at_rest = not session.outbox.holds(queue) and not (lane is not None and lane.carries(queue))
            _compare(account, ledger, state.epoch, amid=amid, at_rest=at_rest)
        for name, post in peer.posts.items():
            letters = session.queue(name)
            on_its_way = session.outbox.holds(letters) or (lane is not None and lane.carries(letters))
            if not (in_doubt or amid or on_its_way):
                post.come_to_rest()

    # The end

    async def _end(self) -> None:
        self.killer.spare()
        for peer in self._steps.peers:
            for _ in range(2):  # it may be too slow for its policy yet
                await self._steps.be_there(peer)
                await self._settle()
        await trio.sleep(SMALL.resume_s + 1)  # a new client that may say where it goes on has nothing to say
        await self._settle()
        for peer in self._steps.peers:
            assert peer.all_answered
            for name, account in peer.accounts.items():
                account.nothing_missing(self._steps.flushed(name))
            for post in peer.posts.values():
                post.nothing_missing()
            await self._steps.close(peer)
        await trio.sleep(SMALL.session_ttl_s + 5)
        await self._steps.settle()
        self._world.assert_nothing_left()
        assert sorted(each.name for each in tasks_of("connections")) == []
        for channel in CHANNELS:
            total = self._world.state.ledger_of_channel(channel)
            adds_up(total)
            assert total.queued == 0


def adds_up(ledger: Ledger) -> None:
    """The sums of an account."""
    assert ledger.offered == ledger.filtered + ledger.matched
    dropped = sum(ledger.dropped.values())
    assert ledger.matched == ledger.delivered + ledger.queued + ledger.replaced + dropped
    figures = (ledger.filtered, ledger.delivered, ledger.queued, ledger.replaced, ledger.resent)
    assert min(*figures, *ledger.dropped.values()) >= 0, ledger


def _compare(account: Account, ledger: Ledger, epoch: str, *, amid: bool, at_rest: bool) -> None:
    """A client's own count with the server's.

    Args:
        account: The client's.
        ledger: The server's.
        epoch: Whose sums those are.
        amid: Of what counts as sent, a part may not have come yet.
        at_rest: Nothing is under way to the client.
    """
    if account.epoch != epoch:
        account.epoch, account.unsure = epoch, True
    lost = sum(events for reason, events in ledger.dropped.items() if reason != "epoch_changed")
    if account.unsure:
        if at_rest and not amid:
            account.delivered, account.resent, account.lost = ledger.delivered, ledger.resent, lost
            account.unsure = False
        return
    if amid:
        assert account.delivered <= ledger.delivered, (account, ledger)
        assert account.resent <= ledger.resent, (account, ledger)
        return
    assert account.delivered == ledger.delivered, (account, ledger)
    assert account.resent == ledger.resent, (account, ledger)
    if at_rest:
        assert account.lost == lost, (account, ledger)


@contextmanager
def _chance_decided_by(dice: random.Random) -> Iterator[None]:
    """All that else differs between runs: the order of tasks and of sets, tokens, who of equals goes first."""
    chance = random.Random(dice.random())
    seen: dict[object, int] = {}

    def number(thing: object) -> int:
        return seen.setdefault(thing, len(seen))

    def number_of_lane(connection: Connection) -> int:
        return number(connection.lane)

    with ExitStack() as patches:
        scheduler = mock.patch.multiple(trio._core._run, _ALLOW_DETERMINISTIC_SCHEDULING=True, _r=dice)
        patches.enter_context(scheduler)
        patches.enter_context(mock.patch.object(os, "urandom", chance.randbytes))
        patches.enter_context(mock.patch.object(random, "_urandom", chance.randbytes))
        patches.enter_context(mock.patch.object(outbox, "id", number, create=True))
        patches.enter_context(mock.patch.object(Connection, "__hash__", number_of_lane))
        yield
