"""Whole runs of the simulation. `make simulate SEEDS=1000` makes many more."""

import pytest

from tests.simulation.simulation import Simulation


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_missing_unsaid_and_all_accounts_add_up(seed: int) -> None:
    simulation = Simulation(seed, steps=1000)
    simulation.run()
    assert sum(simulation.done.values()) == 1000
    assert min(simulation.done[step] for step in ("publish", "vanish", "come", "speak", "kill")) > 0
