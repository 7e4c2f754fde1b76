"""`serve`: where its settings come from, the exit code, and what signals do."""

import json
import logging
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing

from router.auth.tokens import KeyConfigError
from router.cli import serving
from router.config import Config, ConfigError
from router.loading import Loaded
from tests.cli.test_main import exit_code_of


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

    def serve(read: Callable[[], Loaded]) -> int:
        configs.append(read().config)
        return 0

    monkeypatch.setattr(serving, "serve", serve)
    return configs


# Settings


def test_the_defaults_are_those_of_the_configuration(served: list[Config]) -> None:
    assert exit_code_of("serve") == 0
    assert served == [Config()]


def test_flags_win_over_variables_and_those_over_the_file(
    served: list[Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "router.toml"
    file.write_text("port = 2\ndrain_s = 4\nclose_s = 5\nmessage_s = 6\n")
    monkeypatch.setenv("NEUROGRAPH_PORT", "1")
    monkeypatch.setenv("NEUROGRAPH_HOST", "::1")
    monkeypatch.setenv("NEUROGRAPH_DRAIN_S", "3")
    flags = ["--port", "0", "--log-level", "DEBUG", "--insecure", "--host", "0.0.0.0", "--config", str(file)]
    assert exit_code_of("serve", *flags, "--set", "close_s=7", "--set", "close_s=8") == 0
    assert served == [
        Config(host="0.0.0.0", port=0, log_level="debug", insecure=True, drain_s=3, close_s=8, message_s=6)
    ]


def test_variables_are_read_at_the_call(served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROGRAPH_INSECURE", "true")
    monkeypatch.setenv("NEUROGRAPH_LOG_LEVEL", "error")
    exit_code_of("serve")
    assert served == [Config(insecure=True, log_level="error")]


def test_the_variables_of_clients_are_no_settings(served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROGRAPH_URL", "ws://h")
    monkeypatch.setenv("NEUROGRAPH_TOKEN", "a.b.c")
    exit_code_of("serve")
    assert served == [Config()]


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (("serve", "--port", "http"), {}, "--port='http': must be a whole number from 0 to 65535"),
        (("serve", "--port", "65536"), {}, "--port='65536'"),
        (("serve", "--log-level", "loud"), {}, "--log-level='loud': must be debug, info"),
        (("serve", "--host", "0.0.0.0"), {}, "--insecure"),
        (("serve", "--config", "/nowhere/router.toml"), {}, "/nowhere/router.toml cannot be read"),
        (("serve", "--set", "drain_s"), {}, "--set drain_s: write it as NAME=VALUE"),
        (("serve", "--set", "drain=3"), {}, "--set drain: there is no such setting; did you mean drain_s"),
        (("serve", "--set", "drain_s=soon"), {}, "--set drain_s='soon'"),
        (("serve", "--set", "port=1", "--port", "2"), {}, "--set port=1: --port says something else already"),
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
    assert re.fullmatch(rf"neurograph-router.*{re.escape(said)}.*\n", printed.err), printed.err


# The life of the process


class Server:
    """Stands in for the server; `life` is what it does, `accept` what it thinks of another configuration."""

    life: Callable[["Server"], Awaitable[None]]
    accept: Callable[["Server", Config], Awaitable[None]]

    def __init__(self, config: Config, log_handler: logging.Handler) -> None:
        self.config = config
        self.stopped = trio.Event()
        self.reloads: list[Config] = []
        self.reloaded = trio.Event()

    def stop(self) -> None:
        self.stopped.set()

    async def run(self, *, task_status: trio.TaskStatus[object]) -> None:  # noqa: ASYNC128 - its life says so
        self.started = task_status.started
        await type(self).life(self)

    async def reload(self, config: Config) -> None:
        self.reloads.append(config)
        try:
            await type(self).accept(self, config)
        finally:
            self.reloaded.set()


async def take(_server: Server, _config: Config) -> None:
    await trio.lowlevel.checkpoint()


def use(
    monkeypatch: pytest.MonkeyPatch,
    life: Callable[[Server], Awaitable[None]],
    accept: Callable[[Server, Config], Awaitable[None]] = take,
) -> None:
    monkeypatch.setattr(Server, "life", life, raising=False)
    monkeypatch.setattr(Server, "accept", accept, raising=False)
    monkeypatch.setattr(serving, "Server", Server)


def records_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


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


def test_it_needs_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def live(server: Server) -> None:
        server.started()
        hang_up()
        await server.reloaded.wait()

    use(monkeypatch, live)
    with monkeypatch.context() as context:
        context.setattr(sys, "stderr", None)
        assert exit_code_of("serve") == 0
        sys.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def live(server: Server) -> None:
        os.kill(os.getpid(), number)
        await server.stopped.wait()

    use(monkeypatch, live)
    assert exit_code_of("serve") == 0
    (record,) = records_of(capsys)
    assert {"event": "stopping", "signal": number.name}.items() <= record.items()


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
    (record,) = records_of(capsys)
    assert (record["event"], record["level"]) == ("the server failed", "critical")
    assert record["reason"] == "KeyError: 'no key'; ValueError: no value"
    assert "Traceback" in record["exception"]
    assert "in fail" in record["exception"]


def test_what_is_doubtful_in_the_configuration_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    file = tmp_path / "router.toml"
    file.write_text(f"jwt_keys = [{'k' * 32!r}]\n")
    file.chmod(0o644)

    async def live(server: Server) -> None:
        server.started()
        os.kill(os.getpid(), signal.SIGHUP)
        await server.reloaded.wait()
        await trio.testing.wait_all_tasks_blocked()

    use(monkeypatch, live)
    assert exit_code_of("serve", "--config", str(file)) == 0
    assert ["chmod 600" in record["event"] for record in records_of(capsys)] == [True, True]


# SIGHUP


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


class Hearing:
    """Reads another configuration each time."""

    def __init__(self, *configs: Config | Exception) -> None:
        self._left = list(configs)

    def __call__(self) -> Loaded:
        config = self._left.pop(0)
        if isinstance(config, Exception):
            hang_up()  # the next one is read as if nothing had been
            raise config
        return Loaded(config, {}, places={"jwt_keys": lambda _: "NEUROGRAPH_JWT_KEYS"})


def test_hanging_up_puts_the_configuration_in_force(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Config(jwt_keys=("a" * 32,))
    both = msgspec.structs.replace(start, jwt_audience="us", drain_s=3)
    back = msgspec.structs.replace(start, jwt_audience="us")

    async def live(server: Server) -> None:
        server.started()
        for _ in range(3):
            server.reloaded = trio.Event()
            hang_up()
            await server.reloaded.wait()
            await trio.testing.wait_all_tasks_blocked()
        assert server.reloads == [both, back, both]

    use(monkeypatch, live)
    assert serving.serve(Hearing(start, both, back, both)) == 0
    told = [(record["level"], record["event"], record["settings"]) for record in records_of(capsys)]
    assert told == [
        ("info", "changed settings are in force", ["jwt_audience"]),
        ("warning", "changed settings wait for a restart", ["drain_s"]),
        ("warning", "changed settings wait for a restart", ["drain_s"]),  # having been taken back in between
    ]


@pytest.mark.parametrize(
    ("by", "error"),
    [
        ("file", ConfigError("no such setting")),
        ("server", ConfigError("no such setting")),
        ("server", KeyConfigError("jwt_keys[0]: it is weak")),
    ],
)
def test_a_bad_configuration_changes_nothing(
    by: str, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start, other = Config(), Config(jwt_audience="us")

    async def accept(_: Server, config: Config) -> None:
        await trio.lowlevel.checkpoint()
        if config is other:
            hang_up()  # the next one is read as if nothing had been
            raise error

    async def live(server: Server) -> None:
        server.started()
        hang_up()
        while start not in server.reloads:
            server.reloaded = trio.Event()
            await server.reloaded.wait()
        await trio.testing.wait_all_tasks_blocked()

    use(monkeypatch, live, accept)
    assert serving.serve(Hearing(start, error if by == "file" else other, start)) == 0
    (record,) = records_of(capsys)
    assert record["event"] == "the configuration cannot be used, so nothing has changed"
    place = "NEUROGRAPH_JWT_KEYS: " if isinstance(error, KeyConfigError) else ""
    assert (record["level"], record["reason"]) == ("error", f"{place}{error}")


def test_a_fault_of_ours_while_reading_ends_no_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def accept(_server: Server, _config: Config) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError("ours")

    async def live(server: Server) -> None:
        server.started()
        hang_up()
        await server.reloaded.wait()
        await trio.testing.wait_all_tasks_blocked()

    use(monkeypatch, live, accept)
    assert serving.serve(Hearing(Config(), Config())) == 0
    (record,) = records_of(capsys)
    assert (record["level"], record["reason"]) == ("error", "ZeroDivisionError('ours')")
    assert "Traceback" in record["exception"]


def test_one_is_done_after_the_other_and_none_before_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = 0

    async def accept(server: Server, _: Config) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        if len(server.reloads) == 1:
            hang_up()  # amid a reload
        await trio.testing.wait_all_tasks_blocked()
        inside -= 1

    async def live(server: Server) -> None:
        hang_up()
        await trio.testing.wait_all_tasks_blocked()
        assert server.reloads == []
        server.started()
        while len(server.reloads) < 2:
            server.reloaded = trio.Event()
            await server.reloaded.wait()

    use(monkeypatch, live, accept)
    assert serving.serve(Hearing(Config(), Config(), Config())) == 0


def test_a_closed_terminal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, True, False])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: next(answers))  # for the log, at the start, at the signal

    async def live(server: Server) -> None:
        server.started()
        hang_up()
        await server.stopped.wait()

    use(monkeypatch, live)
    assert serving.serve(Hearing(Config())) == 0
