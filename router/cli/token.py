"""`neurograph-router token`."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from router.cli.settings import config_options, load_settings

if TYPE_CHECKING:
    from router.config import Config

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?:\d+[smhdw])+").fullmatch
_MAX_S = 100 * 366 * 86_400
#: Claims that have an option, or that the configuration gives.
_TAKEN = {
    "sub": "--sub", "role": "--role", "exp": "--expires", "jti": "--jti", "subscribe": "--subscribe",
    "publish": "--publish", "aud": "jwt_audience in the configuration", "iss": "jwt_issuer in the configuration",
    "iat": "nothing: it is now",
}  # fmt: skip


def seconds_of(text: str) -> int | None:
    """A duration such as `90s`, `1h30m` or `7d` in seconds; None: `never`.

    Raises:
        click.BadParameter: It is none.
    """
    if text == "never":
        return None
    seconds = sum(int(number) * _UNITS_S[unit] for number, unit in re.findall(r"(\d+)([smhdw])", text))
    if not _DURATION(text) or not 0 < seconds <= _MAX_S:
        raise click.BadParameter(f"{text!r}: write it as 90s, 15m, 1h, 7d or 4w, 100 years at most, or never")
    return seconds


def _complete_role(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    from router.permissions import ROLES

    return [CompletionItem(name) for name in ROLES if name.startswith(begun)]


@click.command()
@click.option("--sub", "user", metavar="USER", required=True, help="Whose token it is.")
@click.option("--role", default="viewer", show_default=True, shell_complete=_complete_role, help="What it may do.")
@click.option(
    "--expires",
    metavar="TIME",
    default="1h",
    show_default=True,
    callback=lambda _context, _parameter, value: seconds_of(value),
    help="For how long it is good: 90s, 15m, 1h, 7d, or never.",
)
@click.option("--subscribe", metavar="PATTERN", multiple=True, help="Only these channels, whatever the role may see.")
@click.option("--publish", metavar="PATTERN", multiple=True, help="Only to these channels, whatever the role may.")
@click.option(
    "--jti", metavar="TEXT", default="auto", help="The id by which it can be revoked.  [default: a random one]"
)
@click.option("--claim", "claims", metavar="NAME=JSON", multiple=True, help="One more claim.")
@config_options
def token(
    user: str,
    role: str,
    expires: int | None,
    subscribe: Sequence[str],
    publish: Sequence[str],
    jti: str,
    claims: Sequence[str],
    file: str | None,
    settings: Sequence[str],
) -> None:
    """Sign a token with the configured key, and print it.

    The key is the first of jwt_keys, from the same configuration as the server's. An issuer in front of the server,
    which signs with a private key of its own, makes tokens by its own means.

    \b
    export NEUROGRAPH_TOKEN="$(neurograph-router token --sub alice --role developer --expires 8h)"
    """  # noqa: D301 - click wants that character
    from router.config import ConfigError

    loaded = load_settings(file, settings, {})
    config = loaded.config
    _check_role(role, config)
    now = int(time.time())
    made: dict[str, Any] = {"sub": user, "role": role, "iat": now}
    made["jti"] = secrets.token_urlsafe(12) if jti == "auto" else jti
    given = {
        "exp": None if expires is None else now + expires,
        "subscribe": list(subscribe) or None,
        "publish": list(publish) or None,
        "aud": config.jwt_audience,
        "iss": config.jwt_issuer,
    }
    made |= {name: value for name, value in given.items() if value is not None}
    made |= dict(map(_claim, claims))
    try:
        signed = sign(made, config)
    except ConfigError as error:
        raise loaded.located(error) from None
    click.echo(signed)


def _check_role(role: str, config: Config) -> None:
    if role not in config.roles:
        near = get_close_matches(role, config.roles, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise click.BadParameter(
            f"there is no role {role!r}, only {', '.join(config.roles)}{hint}", param_hint="--role"
        )


def _claim(text: str) -> tuple[str, object]:
    import msgspec

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r}: write it as NAME=JSON", param_hint="--claim")
    if name in _TAKEN:
        raise click.BadParameter(f"{name} is set by {_TAKEN[name]}", param_hint="--claim")
    try:
        return name, msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError):
        raise click.BadParameter(
            f"{text!r}: the value is not JSON; text stands in quotes: '{name}=\"{value}\"'", param_hint="--claim"
        ) from None


def sign(claims: dict[str, Any], config: Config) -> str:
    """Sign a token and check it as the server would.

    Raises:
        router.config.ConfigError: There is no key to sign with, or the server would refuse the token.
    """
    import trio

    from router.auth.tokens import Authenticator, InvalidTokenError, JwtSettings, KeyConfigError
    from router.config import ConfigError

    if not config.jwt_keys:
        raise ConfigError(
            "there is no key to sign with: set NEUROGRAPH_JWT_KEYS, or jwt_keys in the configuration file, as "
            "the server has it; `openssl rand -hex 32` makes one"
        )
    settings = JwtSettings(
        jwt_keys=config.jwt_keys,
        algorithms=tuple(name for name in config.jwt_algorithms if name.startswith("HS")) or config.jwt_algorithms,
        audience=config.jwt_audience,
        issuer=config.jwt_issuer,
    )
    try:
        authenticator = Authenticator(settings)
        signed = authenticator.sign(claims)
        trio.run(authenticator.verify, signed)
    except KeyConfigError as error:
        raise ConfigError(str(error)) from None
    except InvalidTokenError as error:
        raise ConfigError(f"the server would refuse this token: {error.reason}") from None
    return signed
