"""The command line as a whole: help, versions, one line for what is wrong, and that it starts quickly."""

import importlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from typing import Any

import click
import pytest

from router import __version__, cli
from router.cli import serving
from tests.cli.program import shell
from tests.e2e.program import ROOT, environment

COMMANDS = ("serve", "sub", "pub", "token", "config", "completion")


def exit_code_of(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return end.value.code


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_is_there_on_all_levels(command: tuple[str, ...], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(*command, flag) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith(f"Usage: {' '.join(('neurograph-router', *command))} [OPTIONS]")
    assert all(len(line) <= 100 for line in printed.out.splitlines())


def test_each_command_is_explained_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code_of("--help")
    told = re.findall(r"^  (\w+) +(\S.*)$", capsys.readouterr().out.partition("Commands:")[2], re.MULTILINE)
    assert sorted(name for name, _ in told) == sorted(COMMANDS)
    assert all(text.endswith(".") and not text.endswith("..") for _, text in told)


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of() == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Usage: neurograph-router [OPTIONS] COMMAND")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("--version") == 0
    assert capsys.readouterr().out == f"neurograph-router {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("server",), "neurograph-router: no such command 'server'; did you mean serve?; see --help"),
        (("nonsense",), "neurograph-router: no such command 'nonsense'; see --help"),
        (("serve", "--prot", "1"), "neurograph-router serve: no such option '--prot'; did you mean --port or --host?"),
        (("serve", "--port"), "neurograph-router: option '--port' requires an argument; see --help"),
        (("serve", "now"), "neurograph-router serve: got unexpected extra argument (now); see --help"),
        (("sub",), "neurograph-router sub: missing argument 'CHANNEL...'; see --help"),
        (("sub", "a", "--format", "xml"), "'xml' is not one of 'json', 'pretty', 'compact'; see --help"),
        (("sub", "a", "--count", "0"), "0 is not in the range x>=1; see --help"),
        (("token",), "neurograph-router token: missing option '--sub'; see --help"),
        (("completion", "tcsh"), "'tcsh' is not one of 'bash', 'zsh', 'fish'; see --help"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert said in line


def test_ctrl_c_ends_it_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    def end_by(number: signal.Signals) -> None:
        sys.exit(f"by {number.name}")

    monkeypatch.setattr(serving, "serve", interrupt)
    monkeypatch.setattr(cli, "end_by", end_by)
    assert exit_code_of("serve") == "by SIGINT"


def test_the_package_can_be_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["router", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("router", run_name="__main__")
    assert end.value.code == 0
    assert __version__ in capsys.readouterr().out


def test_the_module_that_runs_it_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("router.__main__")
    monkeypatch.delitem(sys.modules, "router.__main__")  # else it could not be run any more


QUICKLY = """
import json, sys
import router.cli
try:
    router.cli.main({arguments})
except SystemExit:
    pass
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["serve", "--help"], ["pub", "--help"]])
def test_help_waits_for_no_library_that_it_has_no_use_for(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUICKLY.format(arguments=arguments)],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        check=True,
        text=True,
    )
    loaded = set(json.loads(done.stderr))
    assert "click" in loaded
    assert loaded & {"trio", "msgspec", "websockets", "structlog", "quart", "hypercorn", "jwt"} == set()


def test_a_description_may_have_several_lines() -> None:
    assert cli._describe(click.UsageError("Choose from:\n\ta,\n\tb.")) == "choose from: a, b"


# Standard streams that cannot be used


@pytest.mark.parametrize("command", ["--version", "config", "token --sub ada", "completion bash"])
async def test_output_that_cannot_be_written(command: str) -> None:
    done = await shell(f"neurograph-router {command} >/dev/full", jwt_keys="k" * 32)
    assert done == (1, "", "neurograph-router: standard output cannot be written: No space left on device\n")


def test_output_that_cannot_be_written_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **more: object) -> None:
        if not more.get("err"):
            raise OSError(28, "No space left on device")
        echo(*_, **more)  # type: ignore[arg-type]

    echo = click.echo
    monkeypatch.setattr(click, "echo", fail)
    with monkeypatch.context() as context:
        context.setattr(sys, "stdout", sys.stdout)
        assert exit_code_of("config") == 1
        sys.stdout.close()
    assert capsys.readouterr().err == (
        "neurograph-router: standard output cannot be written: No space left on device\n"
    )


def test_without_standard_error_it_ends_as_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(sys, "stderr", None)
        assert exit_code_of("config", "--port", "http") == 2
        assert sys.stderr.name == os.devnull
        sys.stderr.close()


# Arguments that are no text

NO_TEXT = "\udcff"


@pytest.mark.parametrize(
    "arguments",
    [("sub", "a", NO_TEXT), ("pub", NO_TEXT, "x", "{}"), ("pub", "a", NO_TEXT, "{}"), ("sub", "a", "--url", NO_TEXT)],
)
def test_an_argument_that_is_no_text_is_told_in_one_line(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert r"'\udcff' is n" in line
