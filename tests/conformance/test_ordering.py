"""Messages come back in the order they were sent in, however each of them travels.

A server may treat whole messages and fragmented ones on different paths; nothing may overtake on either.
"""

import pytest

from tests.conformance.peer import Message, Peer
from tests.conformance.wire import Cut, Op, binary, fragments, ping, pong, random_cuts, text, whole

CUTS = pytest.mark.parametrize(
    "cut", [whole, random_cuts(1), random_cuts(2), random_cuts(3)], ids=["one write", "cuts 1", "cuts 2", "cuts 3"]
)


def split(message: Message, pieces: int) -> list[bytes]:
    """The frames of this message in so many fragments of about the same size."""
    payload = message.encode() if isinstance(message, str) else message
    opcode = Op.TEXT if isinstance(message, str) else Op.BINARY
    size = len(payload)
    edges = [size * n // pieces for n in range(pieces + 1)]
    return fragments(opcode, [payload[edges[n] : edges[n + 1]] for n in range(pieces)])


async def test_a_whole_message_does_not_overtake_a_fragmented_one(peer: Peer) -> None:
    for _ in range(50):
        await peer.exchange(*split("fragmented", 2), text("whole"), messages=["fragmented", "whole"])


async def test_a_fragmented_message_does_not_overtake_a_whole_one(peer: Peer) -> None:
    for _ in range(50):
        await peer.exchange(text("whole"), *split("fragmented", 2), messages=["whole", "fragmented"])


async def test_an_empty_whole_message_does_not_overtake_a_large_fragmented_one(peer: Peer) -> None:
    large = bytes(300_000)
    for _ in range(5):
        await peer.exchange(*split(large, 30), binary(b""), text(""), messages=[large, b"", ""])


@CUTS
async def test_whole_and_fragmented_messages_keep_their_order(peer: Peer, cut: Cut) -> None:
    messages = [f"message {n}" for n in range(300)]
    frames = [piece for n, message in enumerate(messages) for piece in split(message, 1 + n % 3)]
    await peer.exchange(*frames, messages=messages, cut=cut)


@CUTS
async def test_many_messages_around_a_fragmented_one_with_pings_keep_their_order(peer: Peer, cut: Cut) -> None:
    before = [f"before {n}" for n in range(100)]
    after = [f"after {n}" for n in range(100)]
    first, second, third = split("in three fragments", 3)
    frames = [
        *map(text, before),
        *(ping(b"1"), first, ping(b"2"), pong(b"unasked"), second, ping(b"3"), third, ping(b"4")),
        *map(text, after),
    ]
    await peer.exchange(
        *frames, messages=[*before, "in three fragments", *after], pongs=[b"1", b"2", b"3", b"4"], cut=cut
    )


async def test_text_and_binary_messages_keep_their_order_and_their_type(peer: Peer) -> None:
    messages: list[Message] = []
    for n in range(100):
        messages += [f"text {n}", b"binary %d" % n]
    frames = [piece for n, message in enumerate(messages) for piece in split(message, 1 + n % 2)]
    await peer.exchange(*frames, messages=messages)


async def test_large_fragmented_and_small_whole_messages_keep_their_order(peer: Peer) -> None:
    messages: list[Message] = []
    frames: list[bytes] = []
    for n in range(10):
        large, small = bytes([n]) * 150_000, f"small {n}"
        messages += [large, small]
        frames += [*split(large, 7), text(small)]
    await peer.exchange(*frames, messages=messages)


async def test_a_message_that_comes_while_its_elder_is_still_under_way_waits_its_turn(peer: Peer) -> None:
    first, second = split("elder", 2)
    for n in range(50):
        await peer.send(first, ping(b"%d" % n))
        await peer.receive(pongs=[b"%d" % n])
        await peer.exchange(second, text("younger"), messages=["elder", "younger"])


async def test_a_long_stream_of_every_kind_keeps_its_order(peer: Peer) -> None:
    messages: list[Message] = []
    frames: list[bytes] = []
    for n in range(1000):
        message: Message = f"{n}," * (n % 50) if n % 3 else b"%d;" % n * (n % 400)
        messages.append(message)
        frames += split(message, 1 if n % 4 else 1 + n % 5)
        frames += [ping(b"%d" % n)] if n % 10 == 0 else []
    await peer.exchange(*frames, messages=messages, pongs=[b"%d" % n for n in range(0, 1000, 10)])
