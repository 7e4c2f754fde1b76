"""How a case is run: which servers, how often, in which order."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .servers import ROUTER, Server, ServerKind, serving

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What the command line asked for.

    Attributes:
        kinds: the servers it named; a case leaves out those it is not about.
        beside: the router of another checkout, measured wherever this one's is; `None`: none.
        repeats: how often each is measured.
        quick: short runs, to see that everything works; the numbers mean little.
        server_core: the core a server runs on.
        load_core: the core the load runs on.
        open_files: the limit of open files.
    """

    kinds: Sequence[ServerKind]
    beside: ServerKind | None
    repeats: int
    quick: bool
    server_core: int
    load_core: int
    open_files: int

    def alternate(
        self, kinds: Sequence[ServerKind], what: str, measure: Callable[[Server], T]
    ) -> dict[ServerKind, list[T]]:
        """Measures by turns those of the servers that the command line named, and the router beside.

        Args:
            kinds: the servers the case is about.
            what: the measurement, for the progress line.
            measure: makes one measurement of a running server.
        """
        chosen = [kind for kind in kinds if kind in self.kinds]
        if self.beside is not None and ROUTER in chosen:
            chosen.insert(chosen.index(ROUTER) + 1, self.beside)
        return self.by_turns(chosen, what, measure)

    def by_turns(
        self, kinds: Sequence[ServerKind], what: str, measure: Callable[[Server], T]
    ) -> dict[ServerKind, list[T]]:
        """Measures servers by turns, A B A B, a fresh process each time.

        Whatever changes on the machine in the meantime then meets all of them alike. The arguments are `alternate`'s.
        """
        found: dict[ServerKind, list[T]] = {kind: [] for kind in kinds}
        for turn in range(1, self.repeats + 1):
            for kind in kinds:
                print(f"{what}: {kind.name}, {turn} of {self.repeats}", file=sys.stderr, flush=True)
                with serving(kind, self.server_core) as server:
                    found[kind].append(measure(server))
        return found
