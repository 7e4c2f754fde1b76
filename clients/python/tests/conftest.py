"""Makes the helpers beside the tests importable, from wherever the tests are run, and keeps logging as it was."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A client with `debug=True` writes to the stderr of its test, which is closed behind it."""
    log = logging.getLogger("neurograph_ws_client")
    handlers, level = list(log.handlers), log.level
    yield
    log.handlers[:] = handlers
    log.setLevel(level)
