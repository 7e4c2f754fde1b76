"""Numbers made readable: medians with their spread, ratios of neighbours, Markdown tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

from .servers import ServerKind

Run = TypeVar("Run")


@dataclass(frozen=True)
class Column(Generic[Run]):
    """One figure of a run.

    Attributes:
        head: the column's name.
        value: takes the figure out of a run.
        digits: how many decimals it is worth.
        compared: whether its ratio to another server is shown.
    """

    head: str
    value: Callable[[Run], float]
    digits: int = 0
    compared: bool = False


class Report(Generic[Run]):
    """What a case has found out: a table, sentences below it, and what makes it worthless.

    Args:
        title: the heading.
        rows: what the rows differ in besides the server, such as `subscribers`; empty where nothing.
        columns: the figures.
    """

    def __init__(self, title: str, rows: str, columns: Sequence[Column[Run]]) -> None:
        self.notes: list[str] = []
        self.faults: list[str] = []
        self._title = title
        self._columns = columns
        self._labelled = bool(rows)
        self._table = [[rows, "server", *(column.head for column in columns)]]

    def add(self, label: str, found: Mapping[ServerKind, Sequence[Run]]) -> None:
        """Adds a row for each server, the runs of `found` as medians with their spread."""
        for kind, runs in found.items():
            cells = [spread([column.value(run) for run in runs], column.digits) for column in self._columns]
            self._table.append([label, kind.name, *cells])

    def compare(
        self, label: str, found: Mapping[ServerKind, Sequence[Run]], kind: ServerKind, other: ServerKind | None
    ) -> None:
        """Adds a row with the ratios of one server to another, where both were measured."""
        if other is None or kind not in found or other not in found:
            return
        cells = [
            ratios([column.value(run) for run in found[kind]], [column.value(run) for run in found[other]])
            if column.compared
            else ""
            for column in self._columns
        ]
        self._table.append([label, f"{kind.name} ÷ {other.name}", *cells])

    def markdown(self, command: str) -> str:
        """The whole as Markdown, with the command that made it."""
        table = self._table if self._labelled else [row[1:] for row in self._table]
        lines = [f"### {self._title}", "", f"`{command}`", "", _row(table[0])]
        words = len(table[0]) - len(self._columns)
        lines.append(_row(["---"] * words + ["---:"] * len(self._columns)))
        lines += [_row(row) for row in table[1:]]
        lines += ["", *(f"- {note}" for note in self.notes)]
        lines += [f"- **Fault: {fault}**" for fault in self.faults]
        return "\n".join(lines).rstrip() + "\n"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median and, of several values, the least and the greatest: `5.1 (4.9–5.6)`."""
    if not values:
        return "–"
    middle = f"{median(values):,.{digits}f}"
    if min(values) == max(values):
        return middle
    return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def ratios(values: Sequence[float], others: Sequence[float]) -> str:
    """The ratio of each value to the one measured right after it, as a median with its spread.

    Neighbours in time share whatever else the machine was doing, so their ratio varies less than either.
    """
    found = [value / other for value, other in zip(values, others, strict=True) if other]
    return spread(found, 2 if not found or median(found) >= 0.1 else 4)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
