"""`neurograph-router serve`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from router.cli.settings import config_options, load_settings, server_options


@click.command()
@config_options
@server_options
def serve(file: str | None, settings: Sequence[str], **flags: object) -> int:
    """Serve WebSocket and HTTP on one port.

    Settings come from a file, from variables NEUROGRAPH_<SETTING> and from options; what is later in this list wins.
    `neurograph-router config` shows what that makes.

    SIGTERM and SIGINT end it in order, a second one at once. SIGHUP reads keys, permissions and channels again.
    """
    from router.cli.serving import serve as run

    return run(lambda: load_settings(file, settings, flags))
