"""The command line. Each command imports what it needs when it runs, so that `--help` and completion are quick."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TextIO

import click
from click.exceptions import NoArgsIsHelpError

from router import __version__
from router.cli import completion, config, pub, serve, sub, token
from router.cli.terminal import NAME, Notes, end_by
from router.errors import RouterError

EXIT_FAILURE = 1
EXIT_USAGE = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"{NAME} %(version)s")
def command() -> None:
    """Real-time event routing over WebSocket.

    `COMMAND --help` tells more of each command.
    """


for _each in (serve.serve, sub.sub, pub.pub, token.token, config.config, completion.completion):
    command.add_command(_each)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    The exit code is 0 where all went well, 1 after a failure, 2 for arguments or settings that cannot be used. What
    is wrong stands in one line on standard error.
    """
    if sys.stderr is None:  # its number may come to belong to anything; nobody wants to hear
        sys.stderr = _nowhere()
    try:
        code = command.main(arguments, prog_name=NAME, standalone_mode=False)
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except click.UsageError as error:
        Notes(NAME if error.ctx is None else error.ctx.command_path).error(f"{_describe(error)}; see --help")
        sys.exit(EXIT_USAGE)
    except RouterError as error:
        Notes().error(str(error))
        sys.exit(EXIT_USAGE)
    except OSError as error:  # whatever else is read or written has errors of its own
        sys.stdout = _nowhere()  # else what it holds would be written once more at the end
        Notes().error(f"standard output cannot be written: {error.strerror}")
        sys.exit(EXIT_FAILURE)
    except click.Abort:  # Ctrl-C
        end_by(signal.SIGINT)
    sys.exit(code)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _describe(error: click.UsageError) -> str:
    """What click has to say, on one line and as part of a sentence."""
    near: Sequence[str] | None = getattr(error, "possibilities", None)
    text = error.message if near else error.format_message()
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    text = " ".join(text.split()).removesuffix(".")
    begins = text[:1].lower() if text[1:2].islower() else text[:1]
    return f"{begins}{text[1:]}{hint}"
