"""Logging as a program finds it, which pytest's own handlers hide."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_in_a_program() -> Iterator[None]:
    """Without pytest's handlers, which are back when pytest takes them off: so it is for use within a test only."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = handlers
