"""`config`: what `serve` would have, as a file again or for a program."""

import json
from pathlib import Path

import pytest

from router.loading import load
from tests.cli.test_main import exit_code_of


def test_it_is_a_configuration_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "router.toml"
    file.write_text('drain_s = 3\n[channels."orders.*"]\ndescription = "Orders"\n')
    monkeypatch.setenv("NEUROGRAPH_CLOSE_S", "2")
    arguments = ["--config", str(file), "--port", "9", "--set", "handshake_s=4"]
    assert not exit_code_of("config", *arguments)
    printed = capsys.readouterr()
    assert printed.err == ""
    for source in (f"# file {file}", "# NEUROGRAPH_CLOSE_S", "# --port", "# --set handshake_s", "# default"):
        assert source in printed.out
    again = tmp_path / "again.toml"
    again.write_text(printed.out)
    config = load(str(again), {}).config
    assert (config.drain_s, config.close_s, config.port, config.handshake_s) == (3, 2, 9, 4)
    assert config.channels["orders.*"].description == "Orders"


def test_a_program_may_read_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NEUROGRAPH_JWT_KEYS", "k" * 32)
    assert not exit_code_of("config", "--format", "json", "--set", "port=9")
    printed = capsys.readouterr().out
    assert json.loads(printed)["settings"]["port"] == {"value": 9, "source": "--set port"}
    assert "k" * 32 not in printed


def test_what_is_doubtful_is_told_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "router.toml"
    file.write_text(f"jwt_keys = [{'k' * 32!r}]\n")
    file.chmod(0o644)
    assert not exit_code_of("config", "--config", str(file))
    printed = capsys.readouterr()
    assert "k" * 32 not in printed.out
    assert "chmod 600" in printed.err


def test_what_cannot_be_used_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("config", "--port", "http") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "neurograph-router: --port='http': must be a whole number from 0 to 65535\n"
