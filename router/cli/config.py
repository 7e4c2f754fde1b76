"""`neurograph-router config`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from router.cli.settings import config_options, load_settings, server_options
from router.cli.terminal import Notes

if TYPE_CHECKING:
    from router.loading import Loaded


@click.command(short_help="Print the configuration, and where it comes from.")
@click.option(
    "--format", "style", type=click.Choice(["toml", "json"]), default="toml", show_default=True, help="How to print it."
)
@config_options
@server_options
def config(style: str, file: str | None, settings: Sequence[str], **flags: object) -> None:
    """Print the configuration that `serve` would have, and where each value comes from.

    Keys are not shown. Printed as TOML it is a configuration file again. The files that it names are read as `serve`
    would read them; from an address nothing is fetched.
    """
    import json

    from router.loading.effective import as_data, as_toml

    loaded = load_settings(file, settings, flags)
    _check_files(loaded)
    if style == "toml":
        click.echo(as_toml(loaded), nl=False)
    else:
        click.echo(json.dumps(as_data(loaded), indent=2, ensure_ascii=False))
    for warning in loaded.warnings:
        Notes().warn(warning)


def _check_files(loaded: Loaded) -> None:
    """Check the files that a configuration names.

    Raises:
        router.config.ConfigError: The server would refuse one of them.
    """
    import trio

    from router.auth.tokens import KeyConfigError
    from router.config import ConfigError
    from router.logs import keep_to_the_host
    from router.reloading import check_files

    keep_to_the_host()  # standard output is the configuration's
    try:
        trio.run(check_files, loaded.config)
    except (ConfigError, KeyConfigError) as error:
        raise loaded.located(error) from None
