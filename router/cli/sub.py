"""`neurograph-router sub`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import click

from router.cli.client import complete_channel, is_text, target_of, target_options
from router.cli.terminal import Notes, end_by, wants_colour

FORMATS = ("json", "pretty", "compact")


@click.command()
@click.argument(
    "channels", metavar="CHANNEL...", nargs=-1, required=True, callback=is_text, shell_complete=complete_channel
)
@click.option(
    "--format",
    "style",
    type=click.Choice(FORMATS),
    help="json: one event a line, as it came. compact: time, channel, seq, type and data on a line. pretty: spread out."
    "  [default: pretty on a terminal, else json]",
)
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="End after N events.")
@click.option("--no-reconnect", is_flag=True, help="Fail where the connection is lost, instead of coming back.")
@click.option("-q", "--quiet", is_flag=True, help="Besides events, tell only warnings and errors.")
@target_options
def sub(
    channels: Sequence[str],
    style: str | None,
    count: int | None,
    no_reconnect: bool,
    quiet: bool,
    **target: str | None,
) -> int:
    """Print the events of channels as they come.

    Events go to standard output, all else to standard error: whether we are connected, events that are missing
    (GAP), channels that we may not see. A lost connection is taken up again where it was. It ends with code 1 when
    nothing more can come, for instance because all channels were denied.

    \b
    neurograph-router sub metrics
    neurograph-router sub signals actions | jq .data
    neurograph-router sub logs --format compact | grep error
    """  # noqa: D301 - click wants that character
    from router.cli.foreground import Output, ReaderGone, run
    from router.cli.rendering import renderer
    from router.cli.subscriber import Subscriber

    notes = Notes(quiet=quiet)
    if sys.stdout is None:  # its number may belong to anything now
        raise click.UsageError("standard output is closed")
    try:
        render = renderer(style or ("pretty" if sys.stdout.isatty() else "json"), colour=wants_colour(sys.stdout))
        subscriber = Subscriber(
            channels,
            target_of(**target),
            Output(1),
            render,
            notes,
            count=count,
            reconnect=not no_reconnect,
        )
        outcome = run(subscriber.run)
    except ReaderGone:
        end_by(signal.SIGPIPE)
    except OSError as error:
        notes.error(f"standard output cannot be written: {error.strerror}")
        return 1
    if isinstance(outcome, signal.Signals):
        end_by(outcome)
    return outcome
