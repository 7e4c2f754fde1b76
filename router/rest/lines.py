"""Cuts the pieces in which a body comes into lines; no I/O."""

from __future__ import annotations

from collections.abc import Iterator


class Lines:
    """Cuts lines, and keeps no more of an unfinished one than a line may have.

    The mutable state is that rest, the number of the last line, and whether the unfinished line is too long already.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = b""
        self._number = 0
        self._too_long = False

    @property
    def next(self) -> int:
        """The number of the line that is not whole yet."""
        return self._number + 1

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes | None]]:
        """The lines that `data` ends, with their numbers from 1; None: too long. Blank ones are left out.

        Must be exhausted before the next call.
        """
        *ended, rest = (self._rest + data).split(b"\n")
        for line in ended:
            yield from self._end(line)
        self._rest = rest
        if len(rest) > self._max_bytes:
            self._too_long, self._rest = True, b""

    def end(self) -> Iterator[tuple[int, bytes | None]]:
        """The last line, where it has no end of its own."""
        return self._end(self._rest)

    def _end(self, line: bytes) -> Iterator[tuple[int, bytes | None]]:
        self._number += 1
        if self._too_long or len(line) > self._max_bytes:
            self._too_long = False
            yield self._number, None
        elif stripped := line.strip():
            yield self._number, stripped
