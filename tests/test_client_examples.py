"""The examples that stand on the Python client: the monitor for terminals, and the notebook."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from neurograph_ws_client import NeurographWSClient

from tests.docs.programs import DEADLINE_S, free_port, router, variables

EXAMPLES = Path(__file__).parents[1] / "examples"
MONITOR = [sys.executable, "-W", "error", str(EXAMPLES / "terminal_monitor.py")]
NOTEBOOK = EXAMPLES / "live_metrics.ipynb"


def publish(port: int, channel: str, event_type: str, data: dict[str, Any]) -> None:
    async def main() -> None:
        async with NeurographWSClient(f"ws://127.0.0.1:{port}") as client:
            await client.publish(channel, event_type, data)

    asyncio.run(main())


def url(port: int) -> dict[str, str]:
    return variables(f"url=ws://127.0.0.1:{port}/ws") | {"COLUMNS": "120"}


@contextmanager
def monitor(port: int, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The monitor, which is to end by itself, or by a signal, in good order."""
    with subprocess.Popen(MONITOR, env=url(port), **streams) as process:
        deadline = threading.Timer(DEADLINE_S, process.kill)
        deadline.start()
        try:
            yield process
            assert process.wait() == 0
        finally:
            deadline.cancel()
            process.kill()


def test_the_monitor_shows_once_what_there_is() -> None:
    with router("metrics_interval_s=0.1") as port:
        publish(port, "signals", "signal.input.text", {"priority": 200})
        publish(port, "logs", "log.info", {"service": "of a stranger", "message": "\x1b[2Jgone"})
        done = subprocess.run(
            [*MONITOR, "--once"], env=url(port), capture_output=True, text=True, timeout=DEADLINE_S, check=True
        )
    assert done.stderr == ""
    for shown in (
        f"ws://127.0.0.1:{port}/ws",
        "● open  as nobody (admin)",
        "signal.input.text  priority=200",
        "memory",
    ):
        assert shown in done.stdout
    assert "of a stranger �[2Jgone" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_monitor_writes_lines_into_a_pipe_until_nobody_reads() -> None:
    with (
        router("metrics_interval_s=0.1") as port,
        monitor(port, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"\tconnection\topen\tas nobody (admin)\n" in process.stdout.readline()
        publish(port, "actions", "action.executed", {"status": "done"})
        while b"\tactions\taction.executed\tstatus=done\n" not in process.stdout.readline():
            pass
        process.stdout.close()
        assert process.stderr.read() == b""


def test_the_monitor_fills_a_terminal_and_outlives_the_router() -> None:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    seen = b""

    def read_until(text: str) -> None:
        nonlocal seen
        while text.encode() not in seen:
            seen += os.read(ours, 65_536)
        seen = seen[seen.index(text.encode()) :]

    with ExitStack() as until_stopped:
        port = until_stopped.enter_context(router("metrics_interval_s=0.1"))
        with monitor(port, stdin=its, stdout=its, stderr=its) as process:
            os.close(its)
            read_until("\x1b[?1049h")  # the screen is its own from now on
            read_until("as nobody (admin)")
            publish(port, "signals", "signal.input.text", {"priority": 200})
            read_until("priority=200")
            until_stopped.close()
            read_until("waiting")
            process.send_signal(signal.SIGINT)
            read_until("\x1b[?1049l")
    os.close(ours)


def test_the_monitor_says_why_there_is_nothing_to_show() -> None:
    done = subprocess.run(
        [*MONITOR, "--once"], env=url(free_port()), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cannot connect to ws://127.0.0.1:")
    assert done.stderr.count("\n") == 1


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def test_the_notebook_plots_live(tmp_path: Path) -> None:
    notebook = read()
    cells = {cell["id"]: cell for cell in notebook.cells}
    assert "POINTS = 60\n" in cells["connect"]["source"]
    cells["connect"]["source"] = cells["connect"]["source"].replace("POINTS = 60\n", "POINTS = 5\n")
    drawn = nbformat.v4.new_code_cell("[len(line.get_xdata()) for line in lines.values()]")  # type: ignore[no-untyped-call]
    notebook.cells.append(drawn)
    folders = {name: str(tmp_path) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "MPLCONFIGDIR")}
    with router("metrics_interval_s=0.1") as port:
        NotebookClient(notebook, timeout=DEADLINE_S, kernel_name="python3").execute(env=url(port) | folders)
    (plot,) = cells["plot"]["outputs"]
    assert base64.b64decode(plot["data"]["image/png"]).startswith(b"\x89PNG")
    assert "closed>" in cells["end"]["outputs"][0]["data"]["text/plain"]
    assert drawn["outputs"][0]["data"]["text/plain"] == "[5, 5, 5, 5]"
    (printed,) = cells["history"]["outputs"]
    assert printed["text"].count(" MB\n") == 3


def test_the_notebook_is_kept_without_what_it_printed() -> None:
    notebook = read()
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert cell["metadata"] == {}
