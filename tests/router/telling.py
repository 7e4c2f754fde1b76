"""What a client was told, short enough to be written into a test."""

from __future__ import annotations

from collections.abc import Sequence

from router.letters import Emit
from tests.router.harness import Client, Json, World

SLOW, OVERFLOW, TRIMMED, BREAK = "slow_consumer", "buffer_overflow", "history_trimmed", "epoch_changed"

#: An event's seq; a gap as (from, to, count, reason), with "inexact" where it is; any other message's type.
Short = int | str | tuple[object, ...]


def short(message: Json) -> Short:
    match message.get("type"):
        case None:
            seq: int = message["seq"]
            return seq
        case "gap":
            exact = () if message.get("exact", True) else ("inexact",)
            return (message["from"], message["to"], message["count"], message["reason"], *exact)
        case kind:
            return str(kind)


def told(messages: Sequence[Json], channel: str | None = "signals") -> list[Short]:
    """Messages in short, those about one channel; None: all."""
    return [short(message) for message in messages if channel in (None, message.get("channel"), message.get("of"))]


def gap(first: int | None, last: int | None, reason: str = SLOW, *exact: str) -> Short:
    count = None if first is None or last is None else last - first + 1
    return (first, last, count, reason, *exact)


def at(world: World, seq: int, epoch: str | None = None) -> Json:
    """A position."""
    return {"epoch": epoch or world.state.epoch, "seq": seq}


async def publish(world: World, count: int = 1, channel: str = "signals", *, together: bool = True) -> None:
    """Publish events whose `data.n` is their number, and wait until they are where they go.

    Args:
        world: Where.
        count: How many.
        channel: On which channel.
        together: In one batch.
    """
    first = world.state.streams[channel].seq + 1 if channel in world.state.streams else 1
    for n in range(first, first + count):
        world.router.tell(Emit(channel, "x", b'{"n":%d,"half":%d,"odd":%d}' % (n, n // 2, n % 2)))
        if not together:
            await world.settle()
    await world.settle()


async def away(world: World, client: Client) -> None:
    """The client's connection is gone, and its session waits."""
    client.take()
    client.vanish()
    await world.settle()
