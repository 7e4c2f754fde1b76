"""The tree of supervisors and actors, as data: for a status page, a test or a person at a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ActorNode:
    """One supervisor or actor at the moment of the snapshot.

    Attributes:
        name: Its name below its supervisor.
        kind: `supervisor`, or the restart policy of an actor.
        state: `starting`, `running`, `exited` (for a moment), `restarting`, `stopping` or `ended`.
        restarts: How often it was started again.
        mailbox_depth: Messages that wait.
        mailbox_size: Messages that fit.
        children: What it supervises, in start order.
    """

    name: str
    kind: str
    state: str
    restarts: int
    mailbox_depth: int
    mailbox_size: int
    children: tuple[ActorNode, ...] = field(default=())

    def walk(self, depth: int = 0) -> Iterator[tuple[int, ActorNode]]:
        """This node and all below it, each with its depth, parents first."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)

    def __str__(self) -> str:
        return "\n".join(
            f"{'  ' * depth}{node.name} [{node.kind}] {node.state}"
            f" mailbox {node.mailbox_depth}/{node.mailbox_size} restarts {node.restarts}"
            for depth, node in self.walk()
        )
