"""The command line: one line for what is wrong, the exit code, and what signals do."""

import importlib
import json
import logging
import os
import re
import runpy
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import structlog
import trio

from router import __version__, cli
from router.auth import KeyConfigError
from router.config import Config, ConfigError


@pytest.fixture(autouse=True)
def settings_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("NEUROGRAPH_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**before)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Gets the configurations that would be served."""
    configs: list[Config] = []

    def serve(config: Config) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(cli, "serve", serve)
    return configs


def exit_code_of(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return end.value.code


# Settings


def test_the_defaults_are_those_of_the_configuration(served: list[Config]) -> None:
    assert exit_code_of("serve") == 0
    assert served == [Config()]


def test_flags_win_over_variables(served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROGRAPH_PORT", "1")
    monkeypatch.setenv("NEUROGRAPH_HOST", "::1")
    monkeypatch.setenv("NEUROGRAPH_DRAIN_S", "3")
    flags = ["--port", "0", "--log-level", "DEBUG", "--insecure", "--host", "0.0.0.0"]
    assert exit_code_of("serve", *flags) == 0
    assert served == [Config(host="0.0.0.0", port=0, log_level="debug", insecure=True, drain_s=3)]


def test_variables_are_read_at_the_call(served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROGRAPH_INSECURE", "true")
    monkeypatch.setenv("NEUROGRAPH_LOG_LEVEL", "error")
    exit_code_of("serve")
    assert served == [Config(insecure=True, log_level="error")]


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        ((), {}, "command"),
        (("server",), {}, "'server'"),
        (("serve", "--prot", "1"), {}, "--prot"),
        (("serve", "--port"), {}, "--port"),
        (("serve", "--port", "http"), {}, "port='http': must be a whole number from 0 to 65535"),
        (("serve", "--port", "65536"), {}, "port='65536'"),
        (("serve", "--log-level", "loud"), {}, "log-level='loud': must be debug, info"),
        (("serve", "--host", "0.0.0.0"), {}, "set NEUROGRAPH_JWT_KEYS, .* or say --insecure"),
        (("serve",), {"NEUROGRAPH_PROT": "1"}, "did you mean NEUROGRAPH_PORT"),
        (("serve",), {"NEUROGRAPH_DRAIN_S": "soon"}, "NEUROGRAPH_DRAIN_S='soon'"),
        (("serve",), {"NEUROGRAPH_LOG_LEVEL": "loud"}, "NEUROGRAPH_LOG_LEVEL='loud'"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    arguments: tuple[str, ...],
    variables: dict[str, str],
    said: str,
    served: list[Config],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert exit_code_of(*arguments) == 2
    assert served == []
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf"neurograph-router.*{said}.*\n", printed.err), printed.err


@pytest.mark.parametrize("error", [ConfigError("the port is taken"), KeyConfigError("the key is weak")])
def test_what_the_server_finds_wrong_is_told_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(_: Server) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    use(monkeypatch, refuse)
    assert exit_code_of("serve") == 2
    assert capsys.readouterr().err == f"neurograph-router: {error}\n"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("--version") == 0
    assert capsys.readouterr().out == f"neurograph-router {__version__}\n"


def test_the_package_can_be_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["router", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("router", run_name="__main__")
    assert end.value.code == 0
    assert __version__ in capsys.readouterr().out


def test_the_module_that_runs_it_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("router.__main__")
    monkeypatch.delitem(sys.modules, "router.__main__")  # else it could not be run any more


# The life of the process


class Server:
    """Stands in for the server; `life` is what it does."""

    life: Callable[["Server"], Awaitable[None]]

    def __init__(self, config: Config, log_handler: logging.Handler) -> None:
        self.stopped = trio.Event()

    def stop(self) -> None:
        self.stopped.set()

    async def run(self) -> None:
        await type(self).life(self)


def use(monkeypatch: pytest.MonkeyPatch, life: Callable[[Server], Awaitable[None]]) -> None:
    monkeypatch.setattr(Server, "life", life, raising=False)
    monkeypatch.setattr(cli, "Server", Server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def live(server: Server) -> None:
        os.kill(os.getpid(), number)
        await server.stopped.wait()

    use(monkeypatch, live)
    assert exit_code_of("serve") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert {"event": "stopping", "signal": number.name}.items() <= json.loads(line).items()


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(
    second: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def live(server: Server) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await server.stopped.wait()
        os.kill(os.getpid(), second)
        await trio.sleep_forever()

    use(monkeypatch, live)
    assert exit_code_of("serve") == code


def test_a_server_that_ends_by_itself_has_ended_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def live(_: Server) -> None:
        await trio.lowlevel.checkpoint()

    use(monkeypatch, live)
    assert exit_code_of("serve") == 0


def test_a_failure_is_told_in_a_line_with_its_causes_and_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(_: Server) -> None:
        await trio.lowlevel.checkpoint()
        inner = ExceptionGroup("inner", [KeyError("no key")])
        raise ExceptionGroup("outer", [inner, ValueError("no value")])

    use(monkeypatch, fail)
    assert exit_code_of("serve") == 1
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["event"], record["level"]) == ("the server failed", "critical")
    assert record["reason"] == "KeyError: 'no key'; ValueError: no value"
    assert "Traceback" in record["exception"]
    assert "in fail" in record["exception"]
