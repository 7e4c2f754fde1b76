"""How a block of each language is run; one that does not do what it says raises an error."""

import configparser
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from benchmarks.programs import build
from router.loading import load
from router.protocol import MESSAGE_TYPES, Refusal, decode
from tests.docs import programs
from tests.docs.blocks import ROOT, Block
from tests.docs.programs import DEADLINE_S
from tests.docs.shell import run_console, run_sh
from tests.e2e.chromium import run_page
from tests.e2e.nginx import DOCUMENTED

#: Blocks that start the router themselves.
_STARTS_ONE = re.compile(r"\bmake run\b|neurograph-router serve\b|\bRouter\(|bin/baseline\b", re.MULTILINE)
_SERVER_MESSAGES = json.loads((ROOT / "clients" / "fixtures" / "server_messages.json").read_text("utf-8"))
_MERMAID = ROOT / "tests" / "docs" / "node_modules" / "@mermaid-js" / "tiny" / "dist" / "mermaid.tiny.js"

_JS = "console.log = (...said) => done(said);\n{block}"
_DRAWING = """{library}
addEventListener("load", async () => done((await mermaid.render("drawing", {block})).svg));"""


@dataclass
class Stage:
    """What a block finds around it.

    Attributes:
        folder: An empty folder, with the files of the blocks above.
        port: The router's, in place of 8000 wherever a block says so.
        environment: Its settings, and where clients find it.
    """

    folder: Path
    port: int
    environment: dict[str, str]

    def put(self, text: str) -> str:
        """The block's text with the real port in it."""
        return re.sub(r"\b8000\b", str(self.port), text)


def stage(block: Block, folder: Path, programs_running: ExitStack) -> Stage:
    """Prepare the folder, and a router where the block talks to one that it does not start."""
    needs_one = "8000" in block.text or re.search(r"neurograph-router (sub|pub)\b", block.text)
    if needs_one and block.language in ("sh", "console", "js", "python") and not _STARTS_ONE.search(block.text):
        port = programs_running.enter_context(programs.router(*block.notes.settings))
    else:
        port = programs.free_port()
    environment = programs.variables(*block.notes.settings, f"port={port}", f"url=ws://127.0.0.1:{port}/ws")
    ready = Stage(folder, port, environment)
    for name, text in block.files.items():
        (folder / name).write_text(ready.put(text), "utf-8")
    return ready


def run(block: Block, at: Stage) -> None:
    """Run a block by its language."""
    assert block.language in _RUNNERS, f"nothing runs a block of {block.language or 'no language'}"
    _RUNNERS[block.language](at.put(block.text), at)


def _run_sh(text: str, at: Stage) -> None:
    if "benchmarks/bin/" in text:
        build()
        (at.folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    run_sh(text, at.folder, at.environment)


def _run_console(text: str, at: Stage) -> None:
    run_console(text, at.folder, at.environment)


def _run_python(text: str, at: Stage) -> None:
    (at.folder / "block.py").write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "block.py"],
        cwd=at.folder,
        env=at.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()


def _run_toml(text: str, at: Stage) -> None:
    path = at.folder / "block.toml"
    path.write_text(text, "utf-8")
    load(str(path), environment={})


def _run_js(text: str, at: Stage) -> None:
    """A page's script: it is to log something, and not to fail before."""
    _open_page(_JS.format(block=text), at)


def _run_mermaid(text: str, at: Stage) -> None:
    library = _MERMAID.read_text("utf-8").replace("<!--", "<\\!--")  # the page would take it for its own
    assert "<svg" in _open_page(_DRAWING.format(library=library, block=json.dumps(text)), at)


def _open_page(script: str, at: Stage) -> str:
    """What a page with this script tells first."""

    async def open_it() -> Any:
        with trio.fail_after(DEADLINE_S):
            return await run_page(script, at.folder / "chromium")

    told = trio.run(open_it)
    assert not (isinstance(told, dict) and "error" in told), told
    return str(told)


def _run_json(text: str, _: Stage) -> None:
    """A message: from a client, if the server's own decoder takes it; else one of the server's, in shape."""
    message = json.loads(text)
    kind = message.get("type", "event")
    if kind in MESSAGE_TYPES and "timestamp" not in message:  # `ping` and `pong` go both ways
        try:
            decode(text.encode())
        except Refusal as refusal:
            raise AssertionError(refusal.message) from None
    else:
        known = [case["message"] for case in _SERVER_MESSAGES if case["type"] == kind]
        assert any(_is_alike(message, each) for each in known), f"no {kind} of the contract looks so: {text}"


def _is_alike(message: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both have the same fields, apart from `id`, of the same kinds."""
    fields, others = ({**each, "id": None} for each in (message, other))
    return fields.keys() == others.keys() and all(
        value is None or others[name] is None or type(value) is type(others[name]) for name, value in fields.items()
    )


def _run_nginx(text: str, at: Stage) -> None:
    """The file that nginx itself runs with in the end-to-end tests."""
    assert text == at.put(DOCUMENTED.read_text("utf-8")), f"it differs from {DOCUMENTED}"


def _run_ini(text: str, at: Stage) -> None:
    """A systemd unit: what it starts are commands of ours that take these flags, with files that exist here."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    assert {"Unit", "Service", "Install"} <= set(unit), unit.sections()
    start = shlex.split(unit["Service"]["ExecStart"])
    assert Path(start[0]).name == "neurograph-router", start
    flags = [str(at.folder / Path(word).name) if word.startswith("/") else word for word in start[1:]]
    run_sh(f"neurograph-router {shlex.join(flags)}", at.folder, at.environment)


_RUNNERS: Mapping[str, Callable[[str, Stage], None]] = {
    "sh": _run_sh,
    "console": _run_console,
    "python": _run_python,
    "toml": _run_toml,
    "json": _run_json,
    "js": _run_js,
    "mermaid": _run_mermaid,
    "nginx": _run_nginx,
    "ini": _run_ini,
}
