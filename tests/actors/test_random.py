"""Crashes, failing starts, tells, questions, spawns and stops in any order, and what holds whatever happens."""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import (
    ActorError,
    ActorGoneError,
    ChildSpec,
    Mailbox,
    MailboxFull,
    NoReplyError,
    Restart,
    RestartLimitError,
    Strategy,
    Supervisor,
)
from tests.actors.stage import Boom, Leave, Question, Riddle, restarts, states

STEPS = 250
POLICIES = {"a": Restart.PERMANENT, "b": Restart.TRANSIENT, "c": Restart.PERMANENT}
#: No wait in here is this long, so whoever waits longer would wait for ever.
FOR_EVER_S = 1e6


class Happenings:
    """What was done to the actors and what they did, by name."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.told: defaultdict[str, list[int]] = defaultdict(list)
        self.taken: defaultdict[str, list[int]] = defaultdict(list)
        self.finished: defaultdict[str, list[int]] = defaultdict(list)
        self.made: Counter[str] = Counter()
        self.alive: Counter[str] = Counter()
        self.most_alive: Counter[str] = Counter()
        self.asked = 0
        self.answers: Counter[str] = Counter()

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def moment_s(self) -> float:
        return self.random.choice([0, 0, 0.01, 0.3])


class Worker:
    """Numbers its work; may fail at any point of its life, though the very first start succeeds."""

    def __init__(self, name: str, happenings: Happenings) -> None:
        self.name = name
        self.happenings = happenings
        happenings.made[name] += 1
        self.first = happenings.made[name] == 1
        if not self.first and happenings.chance(0.1):
            raise Boom("in the factory")

    async def run(self, mailbox: Mailbox[Any], *, task_status: trio.TaskStatus[None]) -> None:
        world, name = self.happenings, self.name
        world.alive[name] += 1
        world.most_alive[name] = max(world.most_alive[name], world.alive[name])
        try:
            if self.first or await self.gets_up():
                task_status.started()
                async for message in mailbox:
                    if isinstance(message, Leave):
                        break
                    await self.handle(message)
            if world.chance(0.1):
                raise Boom("at its end")
        finally:
            world.alive[name] -= 1

    async def gets_up(self) -> bool:
        world = self.happenings
        await trio.sleep(world.moment_s())
        if world.chance(0.1):
            raise Boom("before it had started")
        if world.chance(0.05):
            await trio.sleep_forever()
        return not world.chance(0.05)

    async def handle(self, message: object) -> None:
        world = self.happenings
        match message:
            case Boom():
                raise message
            case Question():
                await trio.sleep(world.moment_s())
                message.reply.send(self.name)
            case Riddle():
                pass
            case int():
                world.taken[self.name].append(message)
                if world.chance(0.3):
                    await trio.sleep(world.moment_s())
                if world.chance(0.02):
                    raise Boom("at work")
                world.finished[self.name].append(message)


async def ask(supervisor: Supervisor, name: str, world: Happenings) -> None:
    world.asked += 1
    patience_s = world.random.choice([0.05, 1, FOR_EVER_S])
    with trio.move_on_after(patience_s) as deadline:
        try:
            answer = await supervisor.ref(name).ask(world.random.choice([Question, Question, Riddle]))
            world.answers["right" if answer == name else "wrong"] += 1
        except (NoReplyError, ActorGoneError) as error:
            world.answers[type(error).__name__] += 1
    if deadline.cancelled_caught:
        world.answers["waited too long" if patience_s < FOR_EVER_S else "waited for ever"] += 1


async def make_things_happen(supervisor: Supervisor, names: list[str], world: Happenings) -> None:
    async with trio.open_nursery() as askers:
        for number in range(STEPS):
            name = world.random.choice(names)
            try:
                match world.random.choices(["tell", "ask", "crash", "leave", "spawn", "wait"], [50, 15, 5, 3, 5, 22])[
                    0
                ]:
                    case "tell":
                        supervisor.ref(name).tell(number)
                        world.told[name].append(number)
                    case "ask":
                        askers.start_soon(ask, supervisor, name, world)
                    case "crash":
                        supervisor.ref(name).tell(Boom("as it was told"))
                    case "leave":
                        supervisor.ref(name).tell(Leave())
                    case "spawn":
                        spec = ChildSpec(f"spawned-{number}", lambda: Worker("spawned", world), Restart.TEMPORARY)
                        supervisor.spawn(spec).tell(world.random.choice([Boom(), Leave(), number]))
                    case "wait":
                        await trio.sleep(world.moment_s())
            except MailboxFull:
                await trio.sleep(world.moment_s())
            except ActorGoneError:
                pass
        if world.chance(0.5):
            supervisor.stop()
        else:
            askers.start_soon(stop_soon, supervisor, world)


async def stop_soon(supervisor: Supervisor, world: Happenings) -> None:
    await trio.sleep(world.moment_s())
    supervisor.stop()


async def run(supervisor: Supervisor, outcome: list[ActorError]) -> None:
    try:
        await supervisor.run()
    except RestartLimitError as error:
        outcome.append(error)


class Unread(logging.Handler):
    """Adds up the messages that were reported lost, by name; swallows all other records."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if "unread" in record.msg:
            match record.args:
                case (str(label), int(unread)):
                    self.counts[label.removeprefix("test/")] += unread


@contextmanager
def unread_messages() -> Iterator[Counter[str]]:
    logger, handler = logging.getLogger("actors"), Unread()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler.counts
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


@settings(max_examples=120, deadline=None, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    strategy=st.sampled_from(Strategy),
    max_restarts=st.sampled_from([8, 1_000_000]),
    stop_timeout_s=st.sampled_from([0.1, 60]),
)
def test_whatever_happens(seed: int, strategy: Strategy, max_restarts: int, stop_timeout_s: float) -> None:
    """Nobody waits for ever, no order is broken, no backlog is lost unsaid, and nothing is left running."""
    world = Happenings(seed)

    def spec(name: str) -> ChildSpec:
        return ChildSpec(name, lambda: Worker(name, world), POLICIES[name], 8, 1, stop_timeout_s)

    supervisor = Supervisor("test", [spec(name) for name in POLICIES], strategy=strategy, max_restarts=max_restarts)
    with unread_messages() as unread:
        gave_up = trio.run(play, supervisor, world, clock=MockClock(autojump_threshold=0))

    assert max_restarts == 8 or not gave_up
    assert not +world.alive
    assert states(supervisor) == dict.fromkeys(POLICIES, "ended")
    assert restarts(supervisor) == {name: world.made[name] - 1 for name in POLICIES}
    assert sum(world.answers.values()) == world.asked
    assert not world.answers["wrong"]
    assert not world.answers["waited for ever"]
    for name in POLICIES:
        assert world.most_alive[name] == 1
        told, taken, finished = world.told[name], world.taken[name], world.finished[name]
        assert taken == told[: len(taken)]
        assert len(told) - len(taken) <= unread[name]
        lost_in_hand = [number for number in taken if number not in finished]
        assert finished == [number for number in taken if number not in lost_in_hand]
        assert len(lost_in_hand) <= world.made[name]


async def play(supervisor: Supervisor, world: Happenings) -> bool:
    """From the start to the end of the supervisor, which is to leave no task behind; whether it gave up."""
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    outcome: list[ActorError] = []
    with trio.fail_after(2 * FOR_EVER_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, supervisor, outcome)
            await trio.testing.wait_all_tasks_blocked()
            await make_things_happen(supervisor, list(POLICIES), world)
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
    return bool(outcome)
