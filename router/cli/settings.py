"""The configuration as commands get it: a file, `NEUROGRAPH_*` variables, flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from router.loading import Loaded

_Command = TypeVar("_Command", bound=Callable[..., Any])
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def config_options(command: _Command) -> _Command:
    """The options of every command that reads the configuration."""
    command = click.option(
        "--set",
        "settings",
        metavar="NAME=VALUE",
        multiple=True,
        help="A setting by its name, for example drain_s=30; may be given several times.",
    )(command)
    return click.option(
        "--config",
        "file",
        metavar="FILE",
        type=click.Path(),
        help="TOML file with settings. [env: NEUROGRAPH_CONFIG]",
    )(command)


def server_options(command: _Command) -> _Command:
    """The options for single settings."""
    options = (
        click.option("--host", metavar="ADDRESS", help="Address to bind.  [default: 127.0.0.1]"),
        click.option("--port", metavar="PORT", help="Port to bind, 0 for a free one.  [default: 8000]"),
        click.option(
            "--log-level",
            metavar="LEVEL",
            shell_complete=lambda _context, _option, begun: [name for name in _LOG_LEVELS if name.startswith(begun)],
            help=f"{', '.join(_LOG_LEVELS[:-1])} or {_LOG_LEVELS[-1]}.  [default: info]",
        ),
        click.option(
            "--insecure",
            is_flag=True,
            default=None,
            help="Bind any address though no key is configured; who comes without a token has few rights.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def load_settings(file: str | None, settings: Sequence[str], flags: Mapping[str, object]) -> Loaded:
    """Read the configuration.

    Args:
        file: The value of `--config`.
        settings: The values of `--set`; of two for one setting the later wins.
        flags: The values of other options, by the setting's name; None: not given.

    Raises:
        click.UsageError: A value of `--set` is not `NAME=VALUE`, or names what another option gave.
        router.config.ConfigError: As `router.loading.load`.
    """
    from router.loading import Flag, load

    given = {name: Flag(f"--{name.replace('_', '-')}", value) for name, value in flags.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set {setting}: write it as NAME=VALUE")
        if flags.get(name) is not None:
            raise click.UsageError(f"--set {setting}: {given[name].label} says something else already")
        given[name] = Flag(f"--set {name}", value)
    return load(file, flags=given)
