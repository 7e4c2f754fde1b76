"""`sub` and `pub` as commands: their arguments, whom they talk to, and how they end; the work itself stands in."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from neurograph_ws_client import ConnectError

from router.cli import foreground
from router.cli import pub as pub_module
from router.cli import publisher as publisher_module
from router.cli import sub as sub_module
from router.cli import subscriber as subscriber_module
from router.cli.account import Account
from router.cli.client import DEFAULT_URL
from router.cli.foreground import Input, ReaderGone
from router.cli.lines import Given
from router.cli.publisher import Publication
from router.cli.target import Target
from tests.cli.test_main import exit_code_of

Outcome = int | signal.Signals | Exception


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """What comes of the work: a test may put something else there."""
    outcomes: list[Outcome] = [0]

    def run(_: Callable[[], Awaitable[int]]) -> int | signal.Signals:
        (result,) = outcomes
        if isinstance(result, Exception):
            raise result
        return result

    def end_by(number: signal.Signals) -> None:
        sys.exit(f"by {number.name}")

    monkeypatch.setattr(foreground, "run", run)
    for module in (sub_module, pub_module):
        monkeypatch.setattr(module, "end_by", end_by)
    return outcomes


class Subscriber:
    """Takes note of what `sub` asks for."""

    made: list["Subscriber"]

    def __init__(self, channels: Any, target: Target, output: Any, render: Any, notes: Any, **options: Any) -> None:
        target.client()
        self.channels, self.target, self.output, self.render, self.options = channels, target, output, render, options
        self.made.append(self)

    async def run(self) -> int:
        raise NotImplementedError


class Publisher:
    """Takes note of what `pub` asks for."""

    made: list["Publisher"]

    def __init__(self, what: Publication, target: Target, notes: Any) -> None:
        target.client()
        self.what, self.target, self.notes = what, target, notes
        self.account = Account(notes, what.channel, what.name, numbered=True)
        self.made.append(self)

    async def run(self) -> int:
        raise NotImplementedError

    def tell_open(self) -> None:
        self.notes.error("what became of the lines")


@pytest.fixture(autouse=True)
def noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Subscriber, "made", [], raising=False)
    monkeypatch.setattr(Publisher, "made", [], raising=False)
    monkeypatch.setattr(subscriber_module, "Subscriber", Subscriber)
    monkeypatch.setattr(publisher_module, "Publisher", Publisher)


def subscriber(*arguments: str) -> Subscriber:
    exit_code_of("sub", *arguments)
    (made,) = Subscriber.made
    return made


def publisher(*arguments: str) -> Publisher:
    exit_code_of("pub", *arguments)
    (made,) = Publisher.made
    return made


# Whom to talk to


def test_the_server_is_this_machine_unless_something_else_is_said(
    outcome: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert subscriber("a").target.url == DEFAULT_URL
    monkeypatch.setenv("NEUROGRAPH_URL", "ws://elsewhere/ws")
    assert publisher("a", "x", "{}").target.url == "ws://elsewhere/ws"
    Subscriber.made.clear()
    assert subscriber("a", "--url", "ws://here/ws").target.url == "ws://here/ws"


def test_the_token_comes_from_a_flag_a_file_or_a_variable(
    outcome: list[Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert subscriber("a").target.token is None
    monkeypatch.setenv("NEUROGRAPH_TOKEN", " from.the.environment ")
    Subscriber.made.clear()
    assert subscriber("a").target.token == "from.the.environment"
    Subscriber.made.clear()
    assert subscriber("a", "--token", "from.the.flag").target.token == "from.the.flag"
    Subscriber.made.clear()
    file = tmp_path / "token"
    file.write_text("from.the.file\n")
    token = subscriber("a", "--token-file", str(file)).target.token
    assert callable(token)
    assert token() == "from.the.file"
    file.write_text("a.fresh.one\n")
    assert token() == "a.fresh.one"
    file.write_text("\n")
    assert token() is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--url", "http://h"],
            "'http://h' is not a router's address (scheme isn't ws or wss); write it as ws://127.0.0.1",
        ),
        (["--token", "a", "--token-file", "b"], "--token and --token-file: give one of them"),
        (["--token", "two words"], "characters that no token has"),
        (["--token-file", "/nowhere/token"], "token file '/nowhere/token' cannot be read: No such file or directory"),
        (["--ca", "/nowhere/ca.pem"], "with wss:// only"),
        (["--url", "wss://h", "--ca", "/nowhere/ca.pem"], "CA file '/nowhere/ca.pem' cannot be used"),
    ],
)
@pytest.mark.parametrize("command", [("sub", "a"), ("pub", "a", "x", "{}")])
def test_what_cannot_be_used_is_told_in_one_line(
    command: tuple[str, ...],
    arguments: list[str],
    said: str,
    outcome: list[Outcome],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code_of(*command, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_token_file_that_is_no_text(
    outcome: list[Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xff")
    assert exit_code_of("sub", "a", "--token-file", str(file)) == 2
    assert "it is not text" in capsys.readouterr().err


# sub


@pytest.mark.parametrize(
    ("arguments", "terminal", "name", "colour"),
    [
        ([], False, "json", False),
        ([], True, "pretty", True),
        (["--format", "compact"], True, "compact", True),
        (["--format", "pretty"], False, "pretty", False),
    ],
)
def test_events_are_pretty_on_a_terminal_and_json_elsewhere(
    arguments: list[str],
    terminal: bool,
    name: str,
    colour: bool,
    outcome: list[Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def renderer(name: str, *, colour: bool) -> None:
        asked.append((name, colour))

    monkeypatch.setattr("router.cli.rendering.renderer", renderer)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    subscriber("a", *arguments)
    assert asked == [(name, colour)]


def test_what_sub_is_asked_for(outcome: list[Outcome]) -> None:
    made = subscriber("a", "b")
    assert (made.channels, made.options) == (("a", "b"), {"count": None, "reconnect": True})
    Subscriber.made.clear()
    made = subscriber("a", "--count", "3", "--no-reconnect", "-q")
    assert made.options == {"count": 3, "reconnect": False}


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (0, 0, ""),
        (1, 1, ""),
        (signal.SIGINT, "by SIGINT", ""),
        (ReaderGone(), "by SIGPIPE", ""),
        (OSError(28, "No space left on device"), 1, "standard output cannot be written: No space left on device"),
    ],
)
def test_how_sub_ends(
    result: Outcome, code: object, said: str, outcome: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome[:] = [result]
    assert exit_code_of("sub", "a") == code
    assert capsys.readouterr().err == (f"neurograph-router: {said}\n" if said else "")


def test_sub_needs_an_output(
    outcome: list[Outcome], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as context:
        context.setattr(sys, "stdout", None)
        assert exit_code_of("sub", "a") == 2
    assert "standard output is closed" in capsys.readouterr().err


# pub


def test_one_event(outcome: list[Outcome]) -> None:
    what = publisher("a", "x.y", '{\n  "n": 1\n}').what
    assert isinstance(what.source, Given)
    assert (what.channel, what.name, what.numbered) == ("a", "DATA", False)
    assert what.make(b"{}") == b'{"event_type":"x.y","data":{}}'


def test_lines_of_data(outcome: list[Outcome]) -> None:
    what = publisher("a", "x.y", "-", "--stop-on-error", "--in-flight", "2").what
    assert isinstance(what.source, Input)
    assert (what.name, what.numbered, what.in_flight, what.stop_on_error) == ("stdin", True, 2, True)
    assert what.make(b"{}") == b'{"event_type":"x.y","data":{}}'


def test_lines_of_events(outcome: list[Outcome], tmp_path: Path) -> None:
    what = publisher("a", "--events", "-").what
    assert (what.name, what.in_flight, what.stop_on_error) == ("stdin", 8, False)
    assert what.make(b'{"event_type":"z"}') == b'{"event_type":"z","data":{}}'
    Publisher.made.clear()
    file = tmp_path / "events"
    file.touch()
    what = publisher("a", "--events", str(file)).what
    assert isinstance(what.source, Input)
    assert what.name == str(file)
    os.close(what.source._descriptor)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "give EVENT_TYPE and DATA"),
        (["a", "x"], "give EVENT_TYPE and DATA"),
        (["a", "x", "--events", "-"], "give no EVENT_TYPE and DATA beside it"),
        (["a", "x", "{"], "DATA '{': it is not JSON"),
        (["a", "x", "[1]"], "DATA '[1]': data must be a JSON object"),
        (["a", "x", '"' + "y" * 1000 + '"'], f"""DATA '"{"y" * 59}…': data must be a JSON object"""),
        (["a", "x", "{}", "more"], "unexpected extra argument"),
        (["a", "--events", "/nowhere/events"], "--events /nowhere/events: No such file or directory"),
        (["a", "x", "-", "--in-flight", "65"], "65 is not in the range"),
    ],
)
def test_what_pub_cannot_do(
    arguments: list[str], said: str, outcome: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of("pub", *arguments) == 2
    assert Publisher.made == []
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("arguments", [("x", "-"), ("--events", "-")])
def test_pub_needs_an_input(
    arguments: tuple[str, ...],
    outcome: list[Outcome],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert exit_code_of("pub", "a", *arguments) == 2
    assert "standard input is closed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("result", "code", "told"),
    [
        (0, 0, []),
        (1, 1, []),
        (signal.SIGTERM, "by SIGTERM", ["what became of the lines"]),
        (ConnectError("full", code=1013), 1, ["refused: full (1013)", "what became of the lines"]),
    ],
)
def test_how_pub_ends(
    result: Outcome, code: object, told: list[str], outcome: list[Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    outcome[:] = [result]
    assert exit_code_of("pub", "a", "x", "{}") == code
    assert capsys.readouterr().err.splitlines() == [f"neurograph-router: {text}" for text in told]


@pytest.mark.parametrize(("arguments", "terminal"), [(["-v"], False), ([], True)])
def test_the_summary_is_for_people(
    arguments: list[str],
    terminal: bool,
    outcome: list[Outcome],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert exit_code_of("pub", "a", "x", "{}", *arguments) == 0
    assert capsys.readouterr().err == "neurograph-router: published 0 events on a\n"
