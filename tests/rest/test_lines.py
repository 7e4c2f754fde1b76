"""Lines, however the pieces are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.rest.lines import Lines

Cut = list[tuple[int, bytes | None]]


def cut(pieces: list[bytes], max_bytes: int = 100) -> Cut:
    lines = Lines(max_bytes)
    found = [line for piece in pieces for line in lines.feed(piece)]
    return [*found, *lines.end()]


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", []),
        (b"\n", []),
        (b"a", [(1, b"a")]),
        (b"a\n", [(1, b"a")]),
        (b"a\nb", [(1, b"a"), (2, b"b")]),
        (b"a\r\nb\r\n", [(1, b"a"), (2, b"b")]),
        (b"\n\na\n \t\r\n b \n", [(3, b"a"), (5, b"b")]),
        (b"x" * 100, [(1, b"x" * 100)]),
        (b"x" * 101, [(1, None)]),
        (b"x" * 101 + b"\na\n", [(1, None), (2, b"a")]),
        (b"a\n" + b"x" * 350 + b"\nb\n" + b"y" * 250, [(1, b"a"), (2, None), (3, b"b"), (4, None)]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 7, 99, 100, 101, 10_000])
def test_lines(body: bytes, lines: Cut, size: int) -> None:
    assert cut([body[at : at + size] for at in range(0, len(body), size)]) == lines


@given(st.lists(st.text("ab \r\n", max_size=30).map(str.encode)))
def test_it_does_not_matter_where_pieces_end(pieces: list[bytes]) -> None:
    assert cut(pieces, 8) == cut([b"".join(pieces)], 8)


def test_no_more_is_kept_of_a_line_than_it_may_have() -> None:
    lines = Lines(10)
    for _ in range(1000):
        assert list(lines.feed(b"xxxxxxx")) == []
        assert len(lines._rest) <= 10
    assert list(lines.feed(b"\n")) == [(1, None)]
