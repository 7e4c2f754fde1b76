"""Blocks in the words of a shell: `sh`, of which only the success counts, and `console`, with what it shows."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.blocks import ROOT
from tests.docs.programs import BIN, DEADLINE_S

_PRELUDE = Path(__file__).with_name("prelude.sh")
#: How long what a program in the background shows is waited for.
_BACKGROUND_S = 20
#: Commands come by descriptor 3, each ended by NUL; NUL, the exit code and NUL stand behind what each has written.
_LOOP = "set +e; while IFS= read -r -d '' -u 3 line; do eval \"$line\" </dev/null 3<&-; printf '\\0%d\\0' $?; done"
#: What is another one each time: timestamps, client ids, epochs.
_ANY = (
    re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    re.compile(r"\b[0-9a-f]{12}\b"),
)


def run_sh(text: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a script to its end; it must succeed."""
    script = f"source {_PRELUDE}\n{text}"
    with _bash(script, folder, environment) as bash, _deadline(bash, DEADLINE_S):
        written, _ = bash.communicate()
    assert bash.returncode == 0, f"exit code {bash.returncode}:\n{written.decode()}"


def run_console(text: str, folder: Path, environment: dict[str, str]) -> None:
    """Type each command, once the one before has shown what it is to show."""
    if re.search(r"^> ", text, re.MULTILINE):
        _converse(text, folder, environment)
        return
    commands, typed = os.pipe()
    with os.fdopen(typed, "wb", buffering=0) as typing:
        script = f"exec 3<&{commands}; source {_PRELUDE}; {_LOOP}"
        with _bash(script, folder, environment, commands) as bash:
            os.close(commands)
            background = False
            for command, shown in _steps(text):
                typing.write(command.encode() + b"\0")
                background = background or command.endswith("&")
                _await_shown(bash, command, shown, background)
            typing.close()
            with _deadline(bash, DEADLINE_S):
                rest, _ = bash.communicate()
    assert bash.returncode == 0, rest.decode()
    assert rest.strip() == b"", f"it shows more at its end: {rest.decode()}"


def _steps(text: str) -> Iterator[tuple[str, str]]:
    """Each command, and what is shown behind it."""
    first, *steps = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert first == "", f"a console begins with a prompt, `$ `, not with {first!r}"
    for step in steps:
        command = re.match(r"(?:.*\\\n)*.*\n", step)
        assert command
        yield command[0].rstrip("\n"), step[command.end() :]


def _await_shown(bash: "subprocess.Popen[bytes]", command: str, shown: str, background: bool) -> None:
    """Read until the command has ended and has shown what it is to show; one in the background may take its time."""
    written = b""
    with _deadline(bash, DEADLINE_S):
        while not (ended := re.search(rb"\0(\d+)\0", written)):
            written += _read(bash, f"$ {command}\n", written)
    with _deadline(bash, _BACKGROUND_S):
        while not matches(shown, seen := re.sub(rb"\0\d+\0", b"", written).decode()):
            wrong = f"$ {command}\nshows:\n{seen}\nand not:\n{shown}"
            assert background, wrong
            written += _read(bash, wrong, b"")
    assert ended[1] == b"0" or shown, f"$ {command}\nexit code {ended[1].decode()}, which nothing shows"


def _converse(text: str, folder: Path, environment: dict[str, str]) -> None:
    """A program that is typed to: `> ` is what people type, `< ` what it shows, among other lines perhaps."""
    ((command, conversation),) = _steps(text)
    script = f"source {_PRELUDE}; {command}"
    with _bash(script, folder, environment, stdin=subprocess.PIPE) as bash, _deadline(bash, DEADLINE_S):
        assert bash.stdin is not None
        seen = b""
        for line in conversation.splitlines():
            if line.startswith("> "):
                bash.stdin.write(line[2:].encode() + b"\n")
                bash.stdin.flush()
                continue
            rest = seen
            while True:
                first, newline, rest = rest.partition(b"\n")
                if newline and matches(line.removeprefix("< "), first.lstrip(b"> ").decode()):
                    seen = rest
                    break
                if not newline:
                    seen += _read(bash, f"never shown: {line}\n", seen)
                    rest = seen
        _kill(bash)


def matches(shown: str, written: str) -> bool:
    """Whether that was written.

    `…` is anything, a time any time, an id any id, and a line may be broken where people could not read on.
    """
    for each in _ANY:
        shown, written = each.sub("ANY", shown), each.sub("ANY", written)
    pattern = re.escape(shown.strip()).replace("…", ".*?")
    return re.fullmatch(re.sub(r"\\\n(\\ )+", r"\\s*", pattern), written.strip(), re.DOTALL) is not None


@contextmanager
def _bash(
    script: str, folder: Path, environment: dict[str, str], *descriptors: int, stdin: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[bytes]"]:
    """Bash with this script, in a process group that is gone when the context ends."""
    variables = environment | {
        "PATH": f"{BIN}:{ROOT}/tests/e2e/node_modules/.bin:{environment['PATH']}",
        "ROOT": str(ROOT),
        "ROUTER_LOG": str(folder / "router.log"),
    }
    (folder / "router.log").touch()
    with subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-c", script],
        cwd=folder, env=variables, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        pass_fds=descriptors, start_new_session=True,
    ) as bash:  # fmt: skip
        try:
            yield bash
        finally:
            _kill(bash)


def _read(bash: "subprocess.Popen[bytes]", wrong: str, seen: bytes) -> bytes:
    assert bash.stdout is not None
    data = os.read(bash.stdout.fileno(), 65536)
    assert data, f"{wrong}{seen.decode()}"
    return data


@contextmanager
def _deadline(bash: "subprocess.Popen[bytes]", within_s: float) -> Iterator[None]:
    """Kill what still runs by then; whoever reads its output finds an end."""
    timer = threading.Timer(within_s, _kill, [bash])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill(bash: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(bash.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
