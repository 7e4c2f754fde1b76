"""What `sub` and `pub` have in common: whom to talk to, with what token."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from router.cli.target import Target

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Variables that are not settings of the server: `router.loading` lets them pass.
URL_VARIABLE = "NEUROGRAPH_URL"
TOKEN_VARIABLE = "NEUROGRAPH_TOKEN"  # noqa: S105 - a name
DEFAULT_URL = "ws://127.0.0.1:8000/ws"


def target_options(command: _Command) -> _Command:
    """The options of every command that talks to a server."""
    options = (
        click.option(
            "--url", metavar="URL", help=f"The server, ws:// or wss://.  [env: {URL_VARIABLE}; default: {DEFAULT_URL}]"
        ),
        click.option(
            "--token",
            metavar="JWT",
            help=f"Who we are. Everybody on this machine can see it in `ps`: --token-file and {TOKEN_VARIABLE} are "
            f"safer.  [env: {TOKEN_VARIABLE}]",
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            type=click.Path(),
            help="A file with the token; it is read again for each connection.",
        ),
        click.option(
            "--ca",
            metavar="FILE",
            type=click.Path(),
            help="With wss://, certificates to trust, instead of the system's.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def is_text(_context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A parameter's value, or each of several; the bytes of an argument need not be text.

    Raises:
        click.BadParameter: It is not UTF-8.
    """
    for text in (value,) if isinstance(value, str) else value or ():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise click.BadParameter(f"{text!r} is not UTF-8") from None
    return value


def target_of(url: str | None, token: str | None, token_file: str | None, ca: str | None) -> Target:
    """The server that the options and the environment name.

    Raises:
        click.UsageError: They contradict each other.
        router.cli.target.TargetError: They cannot be used.
    """
    from router.cli.target import Target

    if token is not None and token_file is not None:
        raise click.UsageError("--token and --token-file: give one of them")
    source: str | Callable[[], str | None] | None
    if token_file is not None:
        source = partial(_read_token, token_file)
    else:
        source = token or os.environ.get(TOKEN_VARIABLE, "").strip() or None
    return Target(url or os.environ.get(URL_VARIABLE, "").strip() or DEFAULT_URL, source, ca)


def _read_token(path: str) -> str | None:
    from router.cli.target import TargetError

    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise TargetError(f"token file {path!r} cannot be read: {reason}") from None


def complete_channel(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The system's channels whose names begin so."""
    from router.events import CHANNELS

    return [CompletionItem(name, help=spec.description) for name, spec in CHANNELS.items() if name.startswith(begun)]
