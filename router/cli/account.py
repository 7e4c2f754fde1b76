"""What became of each line of `pub`'s input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from neurograph_ws_client import Published

from router.cli.terminal import Notes, span


class Account:
    """Counts what was accepted, and tells what was not. The mutable state is the counts, and the seqs given."""

    def __init__(self, notes: Notes, channel: str, name: str, *, numbered: bool) -> None:
        """Begin.

        Args:
            notes: Are told of every line that was not published.
            channel: Where events go.
            name: What notes call the input, for example `stdin`.
            numbered: Whether notes name lines: not where there is but one.
        """
        self._notes = notes
        self._channel = channel
        self._name = name
        self._numbered = numbered
        self._first_seq: int | None = None
        self._last_seq = 0
        self.accepted = 0
        self.refused = 0

    def accept(self, published: Published, events: int) -> None:
        """Events were published; of several batches any may be told first."""
        self.accepted += events
        if self._first_seq is None or published.first < self._first_seq:
            self._first_seq = published.first
        self._last_seq = max(self._last_seq, published.last)

    def refuse(self, lines: Sequence[int], reason: str) -> None:
        """Lines were not published."""
        self.refused += len(lines)
        self._notes.error(f"{self._where(lines)}: {reason}")

    def tell_open(self, unanswered: Iterable[int], unsent: int | None) -> None:
        """Tell what is left where it ended before its time.

        Args:
            unanswered: Lines that were sent and not acknowledged.
            unsent: The first line that was not sent; None: all were.
        """
        if lines := sorted(unanswered):
            self._notes.error(f"{self._where(lines)}: sent and not acknowledged: perhaps published, perhaps not")
        if unsent is not None:
            what = "from this line on nothing was sent" if self._numbered else "it was not sent"
            self._notes.error(f"{self._where([unsent])}: {what}")

    def summary(self) -> str:
        """The account in a line."""
        seqs = ""
        if self._first_seq is not None:
            seqs = f", seq {span(self._first_seq, self._last_seq)}"
        refused = f"; refused {self.refused:,}" if self.refused else ""
        return f"published {self.accepted:,} event{'' if self.accepted == 1 else 's'} on {self._channel}{seqs}{refused}"

    def _where(self, lines: Sequence[int]) -> str:
        return f"{self._name}:{ranges(lines)}" if self._numbered else self._name


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, for example `1-3, 7`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(span(first, last) for first, last in spans)
