"""What fails: actors die at any of their checkpoints, and the router amid a fan-out or of a message."""

from __future__ import annotations

import trio

from router.letters import Emit
from tests.simulation.killing import Cancel, Killer, tasks_of
from tests.simulation.steps import Step, Steps

#: Restarts within the supervisor's period are fewer than it bears.
_BETWEEN_DEATHS_S = 3


class Faults:
    """Steps that end actors."""

    def __init__(self, steps: Steps, killer: Killer) -> None:
        self._steps = steps
        self._killer = killer

    def all(self) -> dict[str, tuple[float, Step]]:
        """By name: how often, and what."""
        return {
            "kill connection": (1.5, self._kill_connection),
            "kill router": (0.5, self._kill_router),
            "kill liveness": (0.3, self._kill_liveness),
        }

    async def _kill_connection(self) -> None:
        """One of the two tasks of a connection dies at a checkpoint in what comes next."""
        dice = self._steps.dice
        peer = self._steps.some(lambda each: each.client is not None)
        if peer is None or peer.client is None:
            return
        name = peer.client.name
        tasks = tasks_of(f"connections/{name}")
        if tasks:  # the server may have seen its end already
            cancel = self._steps.world.connections._spawned[name].cancel
            self._killer.doom(dice.choice(tasks), dice.randrange(12), self._perhaps(cancel))

    async def _kill_liveness(self) -> None:
        self._doom_service("liveness")
        await trio.sleep(self._steps.dice.choice([1, 11]))
        await self._come_back()

    async def _kill_router(self) -> None:
        """The router dies at rest, of a message, or amid what comes next."""
        steps, dice = self._steps, self._steps.dice
        kind = dice.random()
        if kind < 0.2:
            await steps.world.router.send(Emit("no such channel", "x", b"{}"))
        elif kind < 0.5:
            self._killer.break_off(dice.randrange(12))
        else:
            self._doom_service("router")
        publishing = [steps.publish, steps.publish, steps.crowd, steps.repeat, steps.send_to]
        steps.at_rest = False
        for _ in range(4):
            await dice.choice([*publishing, steps.speak, steps.ask_what, steps.ask_anew])()
        await self._come_back()

    def _doom_service(self, name: str) -> None:
        [task] = tasks_of(f"services/{name}")
        cancel = self._steps.world.services._static[name].cancel
        self._killer.doom(task, self._steps.dice.randrange(8), self._perhaps(cancel))

    def _perhaps(self, cancel: Cancel) -> Cancel | None:
        return cancel if self._steps.dice.random() < 0.3 else None

    async def _come_back(self) -> None:
        await self._steps.settle()
        self._killer.spare()
        await trio.sleep(_BETWEEN_DEATHS_S)
        self._steps.at_rest = True
        self._steps.truth.begin(self._steps.epoch)
