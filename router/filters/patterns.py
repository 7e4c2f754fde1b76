"""`$wildcard` and `$regex`: patterns that strangers wrote, matched in time that grows with the text alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import re2  # type: ignore[import-untyped]

#: Of a pattern: reading 50,000 characters of it took half a second.
MAX_PATTERN_CHARACTERS: Final = 1000
#: RE2 instructions of all of a filter's patterns. The worst of patterns took 2 µs for each byte of text at this size.
#: A class such as `\\pL` has 1,200.
MAX_PROGRAM: Final = 1500
#: For one pattern: its program, and the states that it has met.
_MAX_MEMORY_BYTES: Final = 1024 * 1024

TextTest = Callable[[str], bool]


class Pattern(NamedTuple):
    """A compiled pattern.

    Attributes:
        prefix: What the text must begin with, where that is all; else None.
        test: Whether a text matches. Never raises.
        program: Its size in RE2 instructions; 0 where it does without RE2.
    """

    prefix: str | None
    test: TextTest
    program: int = 0


class PatternError(ValueError):
    """A pattern that RE2 cannot read, or that is too large; says which of the two."""


def wildcard(text: str) -> Pattern:
    """A pattern for the whole of a string: `*` stands for any characters, `?` for one.

    Raises:
        PatternError: It is too large.
    """
    _check_length(text)
    if "?" in text:
        pieces = {"*": ".*", "?": "."}
        expression = "".join(pieces.get(character) or re2.escape(character) for character in text)
        return _compile(rf"(?s)\A{expression}\z")
    first, *rest = text.split("*")
    if not rest:
        return Pattern(None, first.__eq__)
    if not any(rest):
        return Pattern(first, lambda value: value.startswith(first))
    return Pattern(None, _in_order(first, tuple(filter(None, rest[:-1])), rest[-1]))


def regex(text: str) -> Pattern:
    """An RE2 pattern, found anywhere.

    Raises:
        PatternError: It is not valid, or too large.
    """
    _check_length(text)
    return _compile(text)


def _in_order(first: str, middle: tuple[str, ...], last: str) -> TextTest:
    """Whether a text begins, goes on and ends with these parts: taking each as early as it can be is enough."""
    least = len(first) + len(last)

    def test(text: str) -> bool:
        if len(text) < least or not text.startswith(first) or not text.endswith(last):
            return False
        start, end = len(first), len(text) - len(last)
        for part in middle:
            found = text.find(part, start, end)
            if found < 0:
                return False
            start = found + len(part)
        return True

    return test


def _check_length(text: str) -> None:
    if len(text) > MAX_PATTERN_CHARACTERS:
        raise PatternError(f"it has {len(text)} characters, at most {MAX_PATTERN_CHARACTERS} are read")


def _options() -> Any:
    options = re2.Options()
    options.max_mem = _MAX_MEMORY_BYTES
    options.log_errors = False  # they are the client's, not ours
    options.never_capture = True  # nobody asks what a group matched
    return options


def _compile(expression: str) -> Pattern:
    try:
        compiled = re2.compile(expression, _options())
    except re2.error as error:
        (reason,) = error.args
        raise PatternError(reason.decode(errors="replace")[:80]) from None  # it may quote the whole pattern
    search = compiled.search

    # Searching in bytes does without translating positions back, and is twice as fast.
    def test(text: str) -> bool:
        return search(text.encode("utf-8", "surrogatepass")) is not None

    return Pattern(None, test, compiled.programsize)
