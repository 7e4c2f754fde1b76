"""`neurograph-router pub`."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from router.cli.client import complete_channel, is_text, target_of, target_options
from router.cli.terminal import Notes, end_by

if TYPE_CHECKING:
    from router.cli.foreground import Input
    from router.cli.publisher import Publication

#: Characters of DATA that an error repeats.
_SHOWN = 60


@click.command()
@click.argument("channel", callback=is_text, shell_complete=complete_channel)
@click.argument("event_type", required=False, callback=is_text)
@click.argument("data", required=False)
@click.option(
    "--events",
    "file",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help='Publish a file\'s lines, each {"event_type": …, "data": …}; -: standard input.',
)
@click.option("--stop-on-error", is_flag=True, help="Publish nothing after the first bad line; one batch at a time.")
@click.option(
    "--in-flight",
    metavar="N",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Batches on their way at once. With 1 the events after one that the server refuses keep their order.",
)
@click.option("-v", "--verbose", is_flag=True, help="Tell at the end what was published, also where nobody looks.")
@target_options
def pub(
    channel: str,
    event_type: str | None,
    data: str | None,
    file: str | None,
    stop_on_error: bool,
    in_flight: int,
    verbose: bool,
    **target: str | None,
) -> int:
    """Publish events on a channel.

    DATA is a JSON object, or - for one on each line of standard input. Lines go in batches as they come; a bad one
    is told with its number and the others go on. The exit code is 0 only if the server has accepted every event.
    Where it ends before its time it tells which lines were not acknowledged.

    \b
    neurograph-router pub signals signal.input.text '{"priority": 200}'
    jq -c . readings.json | neurograph-router pub signals signal.reading -
    neurograph-router pub signals --events events.ndjson
    """  # noqa: D301 - click wants that character
    from neurograph_ws_client import ConnectError

    from router.cli.foreground import run
    from router.cli.publisher import Publisher
    from router.cli.target import explain

    what = _publication(channel, event_type, data, file, in_flight, stop_on_error)
    notes = Notes()
    publisher = Publisher(what, target_of(**target), notes)
    try:
        outcome = run(publisher.run)
    except ConnectError as error:
        notes.error(explain(error))
        publisher.tell_open()
        return 1
    if isinstance(outcome, signal.Signals):
        publisher.tell_open()
        end_by(outcome)
    if verbose or notes.on_terminal:
        notes.say(publisher.account.summary())
    return outcome


def _publication(
    channel: str, event_type: str | None, data: str | None, file: str | None, in_flight: int, stop_on_error: bool
) -> Publication:
    """What the arguments ask for.

    Raises:
        click.UsageError: They do not fit together, or DATA is not a JSON object, or the file cannot be opened.
    """
    from router.cli.lines import BadLine, Given, from_data, from_event
    from router.cli.publisher import Publication

    if file is not None:
        if event_type is not None:
            raise click.UsageError("--events FILE has the types and data: give no EVENT_TYPE and DATA beside it")
        source, name = _open(file)
        return Publication(channel, source, name, from_event, in_flight=in_flight, stop_on_error=stop_on_error)
    if event_type is None or data is None:
        raise click.UsageError("give EVENT_TYPE and DATA (a JSON object, - for lines of standard input), or --events")
    make = from_data(event_type)
    if data == "-":
        source, name = _open("-")
        return Publication(channel, source, name, make, in_flight=in_flight, stop_on_error=stop_on_error)
    line = " ".join(data.split("\n")).encode(errors="surrogateescape")  # between tokens only, JSON has no others
    try:
        make(line)
    except BadLine as bad:
        shown = data if len(data) <= _SHOWN else f"{data[:_SHOWN]}…"
        raise click.UsageError(f"DATA {shown!r}: {bad}") from None
    return Publication(channel, Given(line), "DATA", make, numbered=False)


def _open(file: str) -> tuple[Input, str]:
    from router.cli.foreground import Input

    if file == "-":
        if sys.stdin is None:  # its number may belong to anything now
            raise click.UsageError("standard input is closed")
        return Input(0), "stdin"
    try:
        return Input(os.open(file, os.O_RDONLY)), file
    except OSError as error:
        raise click.UsageError(f"--events {file}: {error.strerror}") from None
