"""Random conversations: right ones, which must come back as they were, and broken ones, which must fail.

What a broken one has to lead to is told by a second, slow and simple reading of RFC 6455, `judge` below.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.peer import Message, assert_closes, assert_fails, open_peer
from tests.conformance.wire import LengthBits, Op, close, cut_at, fragments, frame, ping

real_server = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])

payload_of_ping = st.binary(max_size=125)


# Right ones.


@dataclass(frozen=True)
class Conversation:
    """What is sent, how it is cut, and what has to come back."""

    messages: list[Message]
    pings: list[bytes]
    frames: list[bytes]
    cuts: list[int]

    def pieces(self, data: bytes) -> list[bytes]:
        return [piece for piece in cut_at(data, self.cuts) if piece]


@st.composite
def any_message(draw: st.DrawFn) -> Message:
    """A short message of any content, or a long one of some size."""
    short: Message = draw(st.text(max_size=200) | st.binary(max_size=200))
    if draw(st.integers(0, 7)):
        return short
    size = draw(st.sampled_from([126, 1000, 65_535, 65_536, 200_000]))
    filled = short or "0"
    return filled * (size // len(filled) + 1)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages = draw(st.lists(any_message(), max_size=20))
    pings: list[bytes] = []
    frames: list[bytes] = []
    for message in messages:
        payload = message.encode() if isinstance(message, str) else message
        opcode = Op.TEXT if isinstance(message, str) else Op.BINARY
        edges = draw(st.lists(st.integers(0, len(payload)), max_size=4))
        for part in fragments(opcode, cut_at(payload, edges)):
            before = draw(st.lists(payload_of_ping, max_size=2))
            pings += before
            frames += [*map(ping, before), part]
    size = sum(map(len, frames))
    cuts = draw(st.lists(st.integers(0, size), max_size=12))
    return Conversation(messages, pings, frames, cuts)


@given(conversation=conversations())
@real_server
async def test_a_random_conversation_comes_back_as_it_was(echo_port: int, conversation: Conversation) -> None:
    async with open_peer(echo_port) as peer:
        await peer.exchange(
            *conversation.frames,
            messages=conversation.messages,
            pongs=conversation.pings,
            cut=conversation.pieces,
        )
        await peer.send(close(1000))
        await assert_closes(peer, 1000)


# Broken ones.


@dataclass(frozen=True)
class Spec:
    """A frame, legal or not, as the standard sees it."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    masked: bool = True
    length_bits: LengthBits | None = None

    def build(self) -> bytes:
        return frame(
            self.opcode,
            self.payload,
            fin=self.fin,
            rsv=self.rsv,
            masked=self.masked,
            length_bits=self.length_bits,
        )

    @property
    def breaks_a_rule_by_itself(self) -> bool:
        control = self.opcode >= Op.CLOSE
        return (
            self.rsv != 0
            or not self.masked
            or self.opcode not in list(Op)
            or self.length_bits not in {None, 7}
            or (control and (not self.fin or len(self.payload) > 125))
        )


@dataclass
class Verdict:
    """What must come back: messages, pongs, then a close frame with one of these codes."""

    messages: list[Message] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    codes: tuple[int, ...] = ()


def judge(specs: Sequence[Spec]) -> tuple[Verdict, int]:
    """Tell what a stream leads to, and which frame it ends with."""
    verdict = Verdict()
    begun: list[Spec] = []
    for number, spec in enumerate(specs):
        is_continuation = spec.opcode == Op.CONTINUATION
        out_of_place = spec.opcode < Op.CLOSE and is_continuation != bool(begun)
        if spec.breaks_a_rule_by_itself or out_of_place:
            verdict.codes = (1002,)
        elif spec.opcode == Op.PING:
            verdict.pongs.append(spec.payload)
        elif spec.opcode == Op.CLOSE:
            verdict.codes = judge_close(spec.payload)
        elif spec.opcode < Op.CLOSE:
            begun.append(spec)
            if spec.fin:
                payload = b"".join(part.payload for part in begun)
                verdict.messages.append(payload.decode() if begun[0].opcode == Op.TEXT else payload)
                begun.clear()
        if verdict.codes:
            return verdict, number
    raise AssertionError("a stream that does not end")


def judge_close(payload: bytes) -> tuple[int, ...]:
    if len(payload) < 2:
        return (1002,) if payload else (1000, NO_CODE)
    code = int.from_bytes(payload[:2], "big")
    if code == 1014:  # registered late: a server may know it or not
        return (1014, 1002)
    known = code in {1000, 1001, 1002, 1003, *range(1007, 1014)} or 3000 <= code <= 4999
    return (code,) if known else (1002,)


NO_CODE = -1

ascii_payload = st.text("abc", max_size=130).map(str.encode)
close_payload = st.just(b"") | st.just(b"\x03") | st.integers(990, 5010).map(lambda code: struct.pack("!H", code))


@st.composite
def legal_specs(draw: st.DrawFn) -> list[Spec]:
    """Some frames that are right one after the other, with perhaps a message left unfinished."""
    specs: list[Spec] = []
    begun = False
    for _ in range(draw(st.integers(0, 8))):
        opcode = draw(st.sampled_from([Op.CONTINUATION if begun else Op.TEXT, Op.PING, Op.PONG]))
        if opcode >= Op.CLOSE:
            specs.append(Spec(opcode, draw(payload_of_ping)))
        else:
            fin = draw(st.booleans())
            specs.append(Spec(opcode, draw(ascii_payload), fin=fin))
            begun = not fin
    return specs


@st.composite
def any_spec(draw: st.DrawFn) -> Spec:
    """A frame with any header whose length is true."""
    opcode = draw(st.integers(0, 15))
    payload = draw(close_payload if opcode == Op.CLOSE else ascii_payload)
    return Spec(
        opcode,
        payload,
        fin=draw(st.booleans()),
        rsv=draw(st.sampled_from([0, 0, 0, 1, 2, 4])),
        masked=draw(st.sampled_from([True, True, True, False])),
        length_bits=draw(st.sampled_from([None, None, None, *forced_lengths(payload)])),
    )


def forced_lengths(payload: bytes) -> Iterator[LengthBits]:
    if len(payload) < 126:
        yield 16
    yield 64


@given(
    start=legal_specs(),
    rest=st.lists(any_spec(), max_size=6),
    settled=st.booleans(),
    cuts=st.lists(st.integers(0, 1500), max_size=6),
)
@real_server
async def test_a_random_stream_leads_to_what_the_standard_says(
    echo_port: int, start: list[Spec], rest: list[Spec], settled: bool, cuts: list[int]
) -> None:
    specs = [*start, *rest, Spec(Op.CLOSE, struct.pack("!H", 1001))]
    verdict, last = judge(specs)
    built = [spec.build() for spec in specs]
    async with open_peer(echo_port) as peer:
        if settled:  # then everything up to the end must be answered, not only may be
            await peer.exchange(*built[:last], messages=verdict.messages, pongs=verdict.pongs)
            verdict.messages, verdict.pongs, built = [], [], built[last:]
        ending = await peer.ending(
            sending=b"".join(built),
            before=verdict.messages,
            pongs_before=verdict.pongs,
            cut=lambda data: cut_at(data, cuts),
        )
        code = NO_CODE if ending.close_frame and ending.code is None else ending.code
        assert code in verdict.codes, (ending, specs)
        assert ending.tcp == "eof"


# Text.


@given(
    payload=st.binary(max_size=40) | st.text(max_size=12).map(str.encode), cuts=st.lists(st.integers(0, 40), max_size=4)
)
@real_server
async def test_random_bytes_are_served_as_text_exactly_where_they_are_utf_8(
    echo_port: int, payload: bytes, cuts: list[int]
) -> None:
    frames = fragments(Op.TEXT, cut_at(payload, [min(cut, len(payload)) for cut in cuts]))
    async with open_peer(echo_port) as peer:
        await peer.send(*frames)
        try:
            message = payload.decode()
        except UnicodeDecodeError:
            await assert_fails(peer, 1007)
        else:
            await peer.receive(message)
