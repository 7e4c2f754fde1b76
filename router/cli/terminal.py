"""What people see: notes on standard error, colours where they are wanted, and an end as Unix programs end."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import IO, NoReturn

import click

#: The command's name.
NAME = "neurograph-router"
#: What a shell adds to the number of the signal that ended a program.
EXIT_BY_SIGNAL = 128

#: Characters that a terminal takes for commands, and ones that turn the writing direction around.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text`, whoever it came from, with everything that a terminal would obey written as escapes."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def span(first: int, last: int) -> str:
    """Numbers from one to another, for example `7` or `1-3`."""
    return str(first) if first == last else f"{first}-{last}"


def wants_colour(stream: IO[str] | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether to write colours: to a terminal that knows them, unless `NO_COLOR` is set (https://no-color.org)."""
    if stream is None or environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    return stream.isatty()


class Notes:
    """Writes to standard error. The mutable state is whether a progress line stands there."""

    def __init__(self, name: str = NAME, *, quiet: bool = False) -> None:
        """Begin.

        Args:
            name: Begins every note.
            quiet: Only errors and warnings.
        """
        self._name = name
        self._quiet = quiet
        self._colour = wants_colour(sys.stderr)
        self._progress = False
        self.on_terminal = sys.stderr is not None and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Tell what goes on."""
        if not self._quiet:
            self._write(text)

    def warn(self, text: str) -> None:
        """Tell what people must know, also where they asked for quiet."""
        self._write(text, fg="yellow")

    def error(self, text: str) -> None:
        """Tell why it cannot go on, or what was not done."""
        self._write(text, fg="red")

    def progress(self, text: str) -> None:
        """Show how far it is, on one line that is written over; empty: take it away. Only on a terminal."""
        if self.on_terminal and (text or self._progress):
            self._progress = bool(text)
            _echo(f"\r\x1b[K{text}", newline=False)

    def _write(self, text: str, fg: str | None = None) -> None:
        self.progress("")
        line = f"{self._name}: {printable(text)}"
        _echo(click.style(line, fg=fg, bold=True) if self._colour and fg else line)


def _echo(text: str, *, newline: bool = True) -> None:
    try:
        click.echo(text, err=True, nl=newline, color=True)
    except OSError:
        pass  # nobody can be told that nobody can be told


def end_by(number: signal.Signals) -> NoReturn:
    """End as if the signal had never been caught: so a shell stops its loop at Ctrl-C, and says 128 + the number."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    sys.exit(EXIT_BY_SIGNAL + number)  # the first process of a container is not ended by its signals
