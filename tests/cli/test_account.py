"""What `pub` says of its lines."""

import pytest
from neurograph_ws_client import Published

from router.cli.account import Account, ranges
from router.cli.terminal import Notes


@pytest.mark.parametrize(("numbers", "text"), [([], ""), ([7], "7"), ([1, 2, 3], "1-3"), ([1, 3, 4, 9], "1, 3-4, 9")])
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_the_summary() -> None:
    account = Account(Notes(), "a", "stdin", numbered=True)
    assert account.summary() == "published 0 events on a"
    account.accept(Published("a", 6, 6, 0, "t"), 1)
    assert account.summary() == "published 1 event on a, seq 6"
    account.accept(Published("a", 7, 1004, 0, "t"), 998)
    account.accept(Published("a", 5, 5, 0, "t"), 1)
    assert account.summary() == "published 1,000 events on a, seq 5-1004"
    account.refuse([3, 4], "bad")
    assert account.summary() == "published 1,000 events on a, seq 5-1004; refused 2"


def test_lines_are_told_by_their_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    account = Account(Notes(), "a", "stdin", numbered=True)
    account.refuse([3], "bad")
    account.tell_open([9, 7, 8], 10)
    account.tell_open([], None)
    assert capsys.readouterr().err.splitlines() == [
        "neurograph-router: stdin:3: bad",
        "neurograph-router: stdin:7-9: sent and not acknowledged: perhaps published, perhaps not",
        "neurograph-router: stdin:10: from this line on nothing was sent",
    ]


def test_the_only_line_has_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    account = Account(Notes(), "a", "DATA", numbered=False)
    account.refuse([1], "bad")
    account.tell_open([1], 1)
    assert capsys.readouterr().err.splitlines() == [
        "neurograph-router: DATA: bad",
        "neurograph-router: DATA: sent and not acknowledged: perhaps published, perhaps not",
        "neurograph-router: DATA: it was not sent",
    ]
