"""`token`: what it signs is what the server of the same configuration takes."""

import time
from pathlib import Path
from typing import Any

import click
import jwt
import pytest
import trio

from router.auth.tokens import Authenticator, Identity, JwtSettings
from router.cli.token import seconds_of
from tests.cli.test_main import exit_code_of

KEY = "0123456789abcdef0123456789abcdef"


class Signing:
    """Runs `token` with a key."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def token(self, *arguments: str) -> str:
        """What it prints: the token alone."""
        assert not exit_code_of("token", *arguments)
        printed = self._capsys.readouterr()
        assert printed.err == ""
        (line,) = printed.out.splitlines()
        return line

    def claims(self, *arguments: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(self.token(*arguments), KEY, ["HS256"], {"verify_aud": False})
        return claims

    def refused(self, *arguments: str) -> str:
        assert exit_code_of("token", *arguments) == 2
        printed = self._capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        return line


@pytest.fixture
def signing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Signing:
    monkeypatch.setenv("NEUROGRAPH_JWT_KEYS", f"{KEY},{'o' * 32}")
    return Signing(capsys)


def verify(token: str, **settings: Any) -> Identity:
    authenticator = Authenticator(JwtSettings(jwt_keys=(KEY,), **settings))
    return trio.run(authenticator.verify, token)


def test_a_token_of_few_words(signing: Signing) -> None:
    claims = signing.claims("--sub", "alice")
    assert sorted(claims) == ["exp", "iat", "jti", "role", "sub"]
    assert (claims["sub"], claims["role"]) == ("alice", "viewer")
    assert claims["exp"] == claims["iat"] + 3600
    assert abs(claims["iat"] - time.time()) < 60
    assert signing.claims("--sub", "alice")["jti"] != claims["jti"]


def test_a_token_of_many_words(signing: Signing) -> None:
    arguments = ["--sub", "alice", "--role", "bot", "--expires", "1d12h", "--jti", "mine"]
    arguments += ["--subscribe", "signals", "--subscribe", "orders.*", "--publish", "signals"]
    arguments += ["--claim", 'team={"name":"x"}', "--claim", "level=3"]
    claims = signing.claims(*arguments)
    assert claims.pop("exp") == claims.pop("iat") + 36 * 3600
    assert claims == {
        "sub": "alice",
        "role": "bot",
        "jti": "mine",
        "subscribe": ["signals", "orders.*"],
        "publish": ["signals"],
        "team": {"name": "x"},
        "level": 3,
    }


def test_the_server_takes_it(signing: Signing) -> None:
    identity = verify(signing.token("--sub", "alice", "--role", "developer", "--publish", "signals"))
    assert (identity.user_id, identity.role, identity.publish) == ("alice", "developer", ("signals",))


def test_audience_and_issuer_are_those_of_the_configuration(signing: Signing, tmp_path: Path) -> None:
    file = tmp_path / "router.toml"
    file.write_text('jwt_audience = "us"\njwt_algorithms = ["HS256", "ES256"]\njwks = "keys.json"\n')
    token = signing.token("--sub", "alice", "--config", str(file), "--set", "jwt_issuer=me")
    assert verify(token, audience="us", issuer="me").user_id == "alice"


def test_it_may_be_good_for_ever(signing: Signing) -> None:
    assert "exp" not in signing.claims("--sub", "alice", "--expires", "never")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("7d", 604_800), ("2w", 1_209_600), ("never", None)],
)
def test_durations(text: str, seconds: int | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1x", "-1h", "1.5h", "1 h", "0s", "101y", "999999w", "²h", "Never"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write it as 90s"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--expires", "soon"], "'soon': write it as 90s"),
        (["--role", "developr"], "did you mean developer?"),
        (["--role", "zzz"], "there is no role 'zzz', only admin, developer, viewer, bot, anonymous; see --help"),
        (["--claim", "x"], "'x': write it as NAME=JSON"),
        (["--claim", "=1"], "write it as NAME=JSON"),
        (["--claim", "x=y"], """text stands in quotes: 'x="y"'"""),
        (["--claim", "exp=1"], "exp is set by --expires"),
        (["--claim", "nbf=99999999999"], "the server would refuse this token: the token is not valid yet (nbf)"),
        (["--set", "jwt_keys=short"], "--set jwt_keys: jwt_keys[0]: 5 bytes are too short"),
        (["--set", "jwt_algorithms=ES256"], "jwt_algorithms allows no HS*"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(arguments: list[str], said: str, signing: Signing) -> None:
    assert said in signing.refused("--sub", "alice", *arguments)


def test_without_a_key_it_says_how_to_get_one(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUROGRAPH_JWT_KEYS")
    line = signing.refused("--sub", "alice")
    assert line.startswith("neurograph-router: there is no key to sign with: set NEUROGRAPH_JWT_KEYS")
    assert "openssl rand -hex 32" in line
