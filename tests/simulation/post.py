"""What one client makes of `personal` or of `global`: events without positions, in order; those lost are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.router.harness import Json
from tests.simulation.truth import Truth


@dataclass
class Post:
    """One client's account of `personal` or `global`.

    Attributes:
        truth: What really was sent.
        client_id: To whom.
        channel: Of the two.
        taken: How many of them it knows of, those lost among them.
        lost: How many it was told are missing, at this place.
        unsure: Some that the server takes for sent may not have come.
    """

    truth: Truth
    client_id: str
    channel: str
    taken: int = 0
    lost: int = 0
    unsure: bool = False

    @property
    def _sent(self) -> list[int]:
        return self.truth.letters.get((self.client_id, self.channel), [])

    def take(self, message: Json) -> None:
        """A message about the channel."""
        if message.get("type") == "gap":
            assert (message["from"], message["to"]) == (None, None)
            assert message["count"] > 0
            self.lost += message["count"]
            return
        at = self._sent.index(message["data"]["n"])
        assert at >= self.taken, f"{message} comes twice, or late: {self}"
        self.nothing_missing(at)
        self.taken, self.lost, self.unsure = at + 1, 0, False

    def nothing_missing(self, to: Any = None) -> None:
        """All up to one (None: all that were sent) have come or were told of."""
        to = len(self._sent) if to is None else to
        missing = to - self.taken
        assert missing == self.lost or (self.unsure and missing >= self.lost), f"{missing} missing up to {to}: {self}"

    def come_to_rest(self) -> None:
        """Nothing is under way."""
        self.nothing_missing()
        self.taken, self.lost, self.unsure = len(self._sent), 0, False
