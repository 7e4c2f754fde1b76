"""`neurograph-router config`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from router.cli.settings import config_options, load_settings, server_options
from router.cli.terminal import Notes


@click.command(short_help="Print the configuration, and where it comes from.")
@click.option(
    "--format", "style", type=click.Choice(["toml", "json"]), default="toml", show_default=True, help="How to print it."
)
@config_options
@server_options
def config(style: str, file: str | None, settings: Sequence[str], **flags: object) -> None:
    """Print the configuration that `serve` would have, and where each value comes from.

    Keys are not shown. Printed as TOML it is a configuration file again.
    """
    import json

    from router.effective import as_data, as_toml

    loaded = load_settings(file, settings, flags)
    if style == "toml":
        click.echo(as_toml(loaded), nl=False)
    else:
        click.echo(json.dumps(as_data(loaded), indent=2, ensure_ascii=False))
    for warning in loaded.warnings:
        Notes().warn(warning)
