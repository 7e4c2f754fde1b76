"""The command line: `neurograph-router serve`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

import structlog
import trio

from router import __version__, logs
from router.auth import KeyConfigError
from router.config import Config, ConfigError
from router.feeds.logs import LogHandler
from router.loading import Flag, load
from router.server import Server

log = structlog.get_logger("router")

EXIT_FAILURE = 1
EXIT_USAGE = 2
#: What a shell adds to the number of the signal that ended a program.
EXIT_BY_SIGNAL = 128


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    The exit code is 0 after an orderly stop, 1 after a failure, 2 for a setting that cannot be used, and 128 and
    the number of the second signal where one was needed.
    """
    options = _parser().parse_args(arguments)
    try:
        given = {name: getattr(options, name) for name in ("host", "port", "insecure", "log_level")}
        flags = {name: Flag(f"--{name.replace('_', '-')}", value) for name, value in given.items() if value is not None}
        config = load(flags=flags).config
        sys.exit(serve(config))
    except (ConfigError, KeyConfigError) as error:
        sys.stderr.write(f"neurograph-router: {error}\n")
        sys.exit(EXIT_USAGE)


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="neurograph-router", description="Real-time event routing over WebSocket.")
    parser.add_argument("--version", action="version", version=f"neurograph-router {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve_command = commands.add_parser(
        "serve",
        help="serve WebSocket and HTTP on one port",
        description="Serve WebSocket and HTTP on one port. Every setting is also a variable NEUROGRAPH_<SETTING>.",
    )
    serve_command.add_argument("--host", help="address to bind (127.0.0.1)")
    serve_command.add_argument("--port", help="port to bind, 0 for a free one (8000)")
    serve_command.add_argument("--log-level", help="debug, info, warning, error or critical (info)")
    serve_command.add_argument(
        "--insecure",
        action="store_true",
        default=None,
        help="bind any address though no key is configured; anonymous has few rights",
    )
    return parser


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends everything at once.

    Returns:
        The exit code, as `main` has it.

    Raises:
        ConfigError: A key cannot be used, or the address cannot be bound.
        KeyConfigError: Likewise.
    """
    handler = LogHandler()
    logs.configure(config.log_level, sys.stderr, handler)
    try:
        return trio.run(_serve, Server(config, handler))
    except (ConfigError, KeyConfigError):
        raise
    except Exception as error:
        reasons = [f"{type(each).__name__}: {each}" for each in _leaves(error)]
        log.critical("the server failed", reason="; ".join(reasons), exc_info=error)
        return EXIT_FAILURE


def _leaves(error: Exception) -> Iterator[Exception]:
    """What went wrong, out of the groups that nurseries wrap it in."""
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


async def _serve(server: Server) -> int:
    exit_code = 0
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:

        async def watch(*, task_status: trio.TaskStatus[None]) -> None:
            nonlocal exit_code
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                task_status.started()
                log.info("stopping", signal=signal.Signals(await anext(signals)).name)
                server.stop()
                exit_code = EXIT_BY_SIGNAL + await anext(signals)
            nursery.cancel_scope.cancel()

        await nursery.start(watch)
        try:
            await server.run()
        except Exception as error:  # handed on below, bare: the nursery would wrap it in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return exit_code
