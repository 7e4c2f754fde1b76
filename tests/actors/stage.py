"""Actors that do as they are told and write down what happens, for the tests of what happens around them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from actors import Actor, Call, ChildSpec, Mailbox, Restart, Supervisor

#: An actor's whole life as one function of its mailbox and of what says that it has started.
Life = Callable[[Mailbox[Any], Callable[[], None]], Awaitable[None]]


class Boom(Exception):
    """The error of the tests. Told to a `Player`, it is raised there."""


class Question(Call[str]):
    """A `Player` answers with its name."""


class Riddle(Call[str]):
    """A `Player` keeps this one and does not answer."""


@dataclass(frozen=True)
class Work:
    """A `Player` is busy with this for so many seconds; infinitely: until it is cancelled."""

    for_s: float = math.inf


class Leave:
    """A `Player` returns from `run`, though its mailbox goes on."""


class Player:
    """Writes its entrance, its messages and its exit into the log."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def run(self, mailbox: Mailbox[Any], *, task_status: trio.TaskStatus[None]) -> None:
        self.log.append(f"{self.name} starts")
        try:
            task_status.started()
            async for message in mailbox:
                match message:
                    case Boom():
                        raise message
                    case Question():
                        message.reply.send(self.name)
                    case Riddle():
                        pass
                    case Work():
                        await trio.sleep(message.for_s)
                    case Leave():
                        return
                    case _:
                        self.log.append(f"{self.name}: {message}")
        finally:
            self.log.append(f"{self.name} ends")


class Scripted:
    """An actor whose whole life is one function."""

    def __init__(self, life: Life) -> None:
        self.life = life

    async def run(self, mailbox: Mailbox[Any], *, task_status: trio.TaskStatus[None]) -> None:
        await self.life(mailbox, lambda: task_status.started())


def fails(error: Exception) -> Actor:
    """A factory's work that does not succeed."""
    raise error


async def never_starts(mailbox: Mailbox[Any], started: Callable[[], None]) -> None:
    await trio.sleep_forever()


def player(name: str, log: list[str], restart: Restart = Restart.PERMANENT, **more: Any) -> ChildSpec:
    return ChildSpec(name, lambda: Player(name, log), restart, **more)


def scripted(name: str, life: Life, **more: Any) -> ChildSpec:
    return ChildSpec(name, lambda: Scripted(life), **more)


def in_turn(*factories: Callable[[], Actor]) -> Callable[[], Actor]:
    """A factory that does the first of these at the first start, and so on; the last from then on."""
    left = list(factories)
    return lambda: (left.pop(0) if len(left) > 1 else left[0])()


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[None]:
    """The supervisor runs within, and is told to stop at the end."""
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        yield
        supervisor.stop()


def states(supervisor: Supervisor) -> dict[str, str]:
    return {node.name: node.state for node in supervisor.tree()}


def restarts(supervisor: Supervisor) -> dict[str, int]:
    return {node.name: node.restarts for node in supervisor.tree()}
