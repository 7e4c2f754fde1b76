"""The router that a block talks to, and what is in its environment."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: For one block; passes only where something hangs.
DEADLINE_S = 60
#: Where this Python's commands are, `neurograph-router` among them.
BIN = Path(sys.executable).parent
KEY = "a-key-for-the-tests-of-the-documentation-alone-0123456789"


def variables(*settings: str) -> dict[str, str]:
    """This process's environment, with these settings (`name=value`, `key`) and no others of the router."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEUROGRAPH_")}
    for setting in settings:
        name, _, value = (f"jwt_keys={KEY}" if setting == "key" else setting).partition("=")
        environment[f"NEUROGRAPH_{name.upper()}"] = value
    return environment


def free_port() -> int:
    """A port that nobody listens on now, for programs that cannot choose one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def router(*settings: str) -> Iterator[int]:
    """A router on a port of its own; it has gone down in order when the context ends."""
    command = [str(BIN / "neurograph-router"), "serve", "--port", "0"]
    with subprocess.Popen(command, env=variables(*settings), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        deadline = threading.Timer(DEADLINE_S, process.kill)
        deadline.start()
        said = []
        try:
            for line in process.stderr:
                said.append(line)
                if b'"event": "listening"' in line:
                    break
            else:
                raise AssertionError(f"it did not start: {said}")
            deadline.cancel()
            port = int(json.loads(said[-1])["port"])
            rest = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
            rest.start()
            yield port
            process.terminate()
            assert process.wait(DEADLINE_S) == 0, said
            rest.join(DEADLINE_S)
        finally:
            deadline.cancel()
            process.kill()
