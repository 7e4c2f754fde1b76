"""The real server, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

#: For its start, and for its end.
DEADLINE_S: Final = 60.0
_ROOT: Final = Path(__file__).parents[3]


class Router:
    """A server that runs."""

    def __init__(self, port: int = 0, **settings: object) -> None:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("NEUROGRAPH_")}
        variables |= {f"NEUROGRAPH_{name.upper()}": str(value) for name, value in settings.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "router", "serve", "--port", str(port)],
            cwd=_ROOT, env=variables, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._listening = threading.Event()
        self._records: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._listening.wait(DEADLINE_S), "it does not listen"
        self.port: int = next(record["port"] for record in self._records if record["event"] == "listening")

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._records.append(json.loads(line))
            if self._records[-1]["event"] == "listening":
                self._listening.set()

    def end(self, number: signal.Signals) -> None:
        """Stop it, and wait."""
        self._process.send_signal(number)
        self._process.wait(DEADLINE_S)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    @property
    def runs(self) -> bool:
        return self._process.poll() is None


@contextmanager
def router(port: int = 0, **settings: object) -> Iterator[Router]:
    """Run a server to the end of the context, if it does not end before."""
    one = Router(port, **settings)
    try:
        yield one
    finally:
        if one.runs:
            one.end(signal.SIGTERM)
