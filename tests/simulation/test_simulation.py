"""Whole runs of the simulation. `make simulate SEEDS=1000` makes many more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.simulation import Simulation

_ROOT = Path(__file__).parents[2]
_DEADLINE_S = 120.0


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_missing_unsaid_and_all_accounts_add_up(seed: int) -> None:
    simulation = Simulation(seed, steps=1000)
    simulation.run()
    assert sum(simulation.done.values()) == 1000
    steps = ("publish", "repeat", "send to", "subscribe", "ask anew", "vanish", "come", "speak", "kill connection")
    assert min(simulation.done[step] for step in steps) > 0
    assert simulation.killer.struck > 0


def test_a_seed_gives_the_same_run_to_the_byte() -> None:
    """In any process: neither addresses nor the hashes of strings decide anything."""
    digests = {_digest(7, hashes) for hashes in ("1", "2")}
    assert len(digests) == 1
    assert digests != {_digest(8, "1")}


def _digest(seed: int, hashes: str) -> str:
    program = [sys.executable, "-m", "tests.simulation", "1", str(seed), "300"]
    environment = {**os.environ, "PYTHONHASHSEED": hashes}
    said = subprocess.run(
        program, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=_DEADLINE_S, check=True
    )
    return said.stdout.splitlines()[0]
