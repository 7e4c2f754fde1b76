"""The input of `pub`: what a line may be, and that it does not matter in which pieces it comes."""

import itertools
import json
from collections.abc import Iterator, Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from router.cli.lines import BadLine, Batch, EventMaker, Given, Lines, from_data, from_event


class Pieces:
    """Gives its pieces one by one."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._left = [piece for piece in pieces if piece]

    async def read(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._left.pop(0) if self._left else b""


async def read(
    pieces: Sequence[bytes], make: EventMaker | None = None, max_bytes: int = 1000, *, stop_at_bad: bool = False
) -> tuple[list[Batch], list[tuple[int, str]], Lines]:
    """All batches, what is told of bad lines, and the reader."""
    told: list[tuple[int, str]] = []

    def tell(lines: Sequence[int], reason: str) -> None:
        told.extend((number, reason) for number in lines)

    lines = Lines(Pieces(pieces), make or from_data("x"), tell, max_bytes, stop_at_bad=stop_at_bad)
    batches = []
    while (batch := await lines.take()) is not None:
        batches.append(batch)
    return batches, told, lines


def events(batches: Sequence[Batch]) -> Iterator[tuple[int, object]]:
    for batch in batches:
        yield from zip(batch.lines, map(json.loads, batch.events), strict=True)


# What a line may be


@pytest.mark.parametrize("line", ["{}", ' {"a": [1, "ü", null]} ', '{"a":"\\u0000"}'])
def test_data_stand_in_an_event_as_they_came(line: str) -> None:
    event = from_data('odd "type"')(line.encode())
    assert json.loads(event) == {"event_type": 'odd "type"', "data": json.loads(line)}
    assert line.encode() in event


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b'{"a":}', "not JSON"),
        (b'{}},{"event_type":"y","data":{}', "not JSON"),  # else it would become two events
        (b"[1]", "data must be a JSON object"),
        (b"null", "data must be a JSON object"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_data(line: bytes, told: str) -> None:
    with pytest.raises(BadLine, match=told):
        from_data("x")(line)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('{"event_type":"x","data":{"a":1}}', {"event_type": "x", "data": {"a": 1}}),
        ('{"data":{},"event_type":"x","seq":4,"channel":"c","timestamp":"t"}', {"event_type": "x", "data": {}}),
        ('{"event_type":"x"}', {"event_type": "x", "data": {}}),
    ],
)
def test_an_event_is_its_type_and_data(line: str, event: object) -> None:
    assert json.loads(from_event(line.encode())) == event


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{}", "^event_type is missing$"),
        (b'{"event_type":1}', "^event_type: expected `str`, got `int`$"),
        (b'{"event_type":"x","data":[]}', "data must be a JSON object"),
        (b"[]", "^expected `object`, got `array`$"),
        (b"nonsense", "not JSON"),
    ],
)
def test_what_is_no_event(line: bytes, told: str) -> None:
    with pytest.raises(BadLine, match=told):
        from_event(line)


# Lines and batches


async def test_lines_are_counted_blank_ones_too() -> None:
    batches, told, lines = await read([b'{"n":1}\n\n \t\r\n{"n":4}\r\nbad\n{"n":6}'])
    assert [(number, event["data"]) for number, event in events(batches)] == [  # type: ignore[index]
        (1, {"n": 1}),
        (4, {"n": 4}),
        (6, {"n": 6}),
    ]
    assert told == [(5, "it is not JSON: invalid character (byte 0)")]
    assert lines.next_line is None


async def test_a_batch_has_what_one_read_gave() -> None:
    batches, _, _ = await read([b"{}\n{}\n{", b"}\n", b"{}"])
    assert [batch.lines for batch in batches] == [[1, 2], [3], [4]]


async def test_a_batch_has_1000_events_at_most() -> None:
    batches, _, _ = await read([b"{}\n" * 2500], max_bytes=10**6)
    assert [len(batch.events) for batch in batches] == [1000, 1000, 500]


@pytest.mark.parametrize("max_bytes", range(100, 160))
async def test_a_batch_fits_into_a_message(max_bytes: int) -> None:
    batches, told, _ = await read([b"{}\n" * 30], max_bytes=max_bytes)
    assert told == []
    sizes = [len(b",".join(batch.events)) for batch in batches]
    assert max(sizes) < max_bytes
    assert all(size + len(b',{"event_type":"x","data":{}}') >= max_bytes for size in sizes[:-1])  # and fills it


async def test_a_line_that_fits_into_no_message_is_bad() -> None:
    small, long = b"{}", b'{"a":"%b"}' % (b"x" * 5000)
    for pieces in ([b"\n".join((small, long, small))], [small + b"\n" + long[:700], long[700:] + b"\n", small]):
        batches, told, _ = await read(pieces, max_bytes=500)
        assert [number for number, _ in events(batches)] == [1, 3]
        assert told == [(2, "it is longer than the 500 bytes that fit into a message")]


async def test_an_endless_line_is_not_kept() -> None:
    kept = []

    class Watching(Pieces):
        async def read(self) -> bytes:
            kept.append(len(lines._rest))
            return await super().read()

    lines = Lines(Watching([b"x" * 400] * 1000), from_data("x"), lambda *_: None, 500, stop_at_bad=False)
    assert await lines.take() is None
    assert max(kept) <= 500


async def test_it_stops_at_a_bad_line_where_it_shall() -> None:
    batches, told, lines = await read([b'{"n":1}\n{"n":2}\nbad\n{"n":4}\nbad\n', b"{}"], stop_at_bad=True)
    assert [number for number, _ in events(batches)] == [1, 2]
    assert [number for number, _ in told] == [3]
    assert lines.next_line == 4


async def test_it_stops_at_a_long_line_where_it_shall() -> None:
    batches, told, _ = await read([b"{}\n" + b"x" * 600, b"\n{}"], max_bytes=500, stop_at_bad=True)
    assert [number for number, _ in events(batches)] == [1]
    assert [number for number, _ in told] == [2]


async def test_the_next_line_is_the_first_that_was_not_taken() -> None:
    lines = Lines(Pieces([b"{}\n" * 1001]), from_data("x"), lambda *_: None, 10**6, stop_at_bad=False)
    assert lines.next_line == 1
    assert await lines.take() is not None
    assert lines.next_line == 1001
    assert await lines.take() is not None
    assert lines.next_line == 1002  # who knows what comes
    assert await lines.take() is None
    assert lines.next_line is None


async def test_one_line_that_is_there_already() -> None:
    given = Given(b"{}")
    assert [await given.read(), await given.read(), await given.read()] == [b"{}", b"", b""]


@given(
    st.lists(st.sampled_from([b'{"a":1}', b"bad", b"", b" ", b'{"b":"%b"}' % (b"y" * 80), b"z" * 90]), max_size=8),
    st.sampled_from([b"", b"\n"]),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_it_does_not_matter_in_which_pieces_lines_come(given_lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    content = b"\n".join(given_lines) + end
    places = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    pieces = [content[begin:stop] for begin, stop in itertools.pairwise(places)]

    async def both() -> None:
        whole = await read([content], max_bytes=70)
        cut = await read(pieces, max_bytes=70)
        assert list(events(cut[0])) == list(events(whole[0]))
        assert [number for number, _ in cut[1]] == [number for number, _ in whole[1]]

    trio.run(both)
