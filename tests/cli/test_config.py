"""`config`: what `serve` would have, as a file again or for a program."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.auth.tokens import Authenticator
from router.loading import load
from tests.certificates import certificate
from tests.cli.program import run
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


# The files that it names


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"jwt_keys": "short"}, "NEUROGRAPH_JWT_KEYS: jwt_keys[0]: 5 bytes are too short"),
        (
            {"jwt_public_key_file": "/nowhere"},
            "NEUROGRAPH_JWT_PUBLIC_KEY_FILE: jwt_public_key_file '/nowhere' cannot be read: No such file",
        ),
        ({"jwt_public_key_file": __file__}, "NEUROGRAPH_JWT_PUBLIC_KEY_FILE: jwt_public_key_file: not readable"),
        ({"jwks": "/nowhere"}, "NEUROGRAPH_JWKS: jwks: /nowhere: No such file"),
        (
            {"tls_certificate_file": __file__, "tls_key_file": "/nowhere"},
            "NEUROGRAPH_TLS_KEY_FILE: tls_key_file '/nowhere' cannot be read: No such file",
        ),
        (
            {"jwt_keys": "k" * 32, "jwt_algorithms": "HS256,HS385"},
            "NEUROGRAPH_JWT_ALGORITHMS: jwt_algorithms: no configured key is for HS385",
        ),
    ],
)
@pytest.mark.parametrize("command", ["config", "serve"])
async def test_what_the_server_would_refuse_is_refused(command: str, settings: dict[str, Any], said: str) -> None:
    done = await run(command, **settings)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith(f"neurograph-router: {said}")


def test_the_line_of_a_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "router.toml"
    file.write_text('port = 1\njwt_keys = ["short"]\n')
    assert exit_code_of("config", "--config", str(file)) == 2
    assert capsys.readouterr().err.startswith(f"neurograph-router: {file}:2: jwt_keys[0]: 5 bytes are too short")


@pytest.mark.parametrize("command", ["config", "serve"])
async def test_the_line_of_the_very_channel_is_told(command: str, tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.write_text('[channels.a]\n[channels."b.*"]\npolicy = "latest"\nschema_file = "/nowhere/b.json"\n')
    done = await run(command, "--config", str(file))
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        f"neurograph-router: {file}:4: channels.\"b.*\".schema_file = '/nowhere/b.json': "
        "the file cannot be read: No such file or directory"
    )


async def test_files_that_are_good_leave_no_word(tmp_path: Path) -> None:
    done = await run("config", **certificate(tmp_path).settings)
    assert (done.code, done.err) == (0, "")
    again = tmp_path / "again.toml"
    again.write_text(done.out)
    assert load(str(again), {}).config.tls_key_file is not None


async def test_what_is_logged_meanwhile_does_not_get_into_the_output(tmp_path: Path) -> None:
    done = await run("config", jwks="http://keys.example/set")
    assert done.code == 0
    assert "jwks is fetched without TLS" in done.err
    again = tmp_path / "again.toml"
    again.write_text(done.out)
    assert load(str(again), {}).config.port == 8000


def test_nothing_is_fetched_from_an_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(_: object) -> None:
        raise AssertionError("it fetches")

    monkeypatch.setattr(Authenticator, "start", start)
    assert not exit_code_of("config", "--set", "jwks=https://keys.example/set")
    assert capsys.readouterr().err == ""
