"""Where the client writes what happens; never a token."""

from __future__ import annotations

import logging
import sys
from typing import Final

log: Final = logging.getLogger("neurograph_ws_client")


def show_debug() -> None:
    """Write all of it to stderr, unless the program has its own idea of that."""
    log.setLevel(logging.DEBUG)
    if not log.hasHandlers():  # the root's count: they would write each line a second time
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        log.addHandler(handler)
