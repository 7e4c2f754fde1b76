"""Every code block of the documentation does what it says, and so does every message within its text."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.blocks import DOCUMENTS, Block, find_blocks, find_messages
from tests.docs.runners import run, stage
from tests.docs.shell import matches

BLOCKS = [block for document in DOCUMENTS for block in find_blocks(document)]
MESSAGES = [message for document in DOCUMENTS for message in find_messages(document)]


@pytest.mark.parametrize("block", [*BLOCKS, *MESSAGES], ids=str)
def test_a_block_does_what_it_says(block: Block, tmp_path: Path) -> None:
    with ExitStack() as running:
        run(block, stage(block, tmp_path, running))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_block_is_overlooked(document: Path) -> None:
    fences = [line for line in document.read_text("utf-8").splitlines() if line.strip().startswith(("```", "~~~"))]
    assert len(fences) == 2 * len(list(find_blocks(document)))


@pytest.mark.parametrize(
    ("shown", "written", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a b", "ab", False),
        ("a", "a b", False),
        ("", "a", False),
        ('{"a":1,\n "b":2}', '{"a":1,"b":2}', True),
        ("a … d", "a b c d", True),
        ("a … d", "a b c", False),
        ("at 2026-11-24T06:09:14.924Z", "at 2027-01-01T00:00:00.000Z", True),
        ('"epoch":"6ac4a5b44214"', '"epoch":"00c4a5b44299"', True),
        ('"seq":1', '"seq":2', False),
    ],
)
def test_what_is_shown_is_compared(shown: str, written: str, same: bool) -> None:
    assert matches(shown, written) is same
