"""The command line: `neurograph-router serve`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

import structlog
import trio

from router import __version__, logs
from router.auth import KeyConfigError
from router.config import Config, ConfigError, from_environment
from router.feeds.logs import LogHandler
from router.server import Server

log = structlog.get_logger("router")

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 after an orderly stop, 2 for a setting that cannot be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        config = from_environment(
            host=options.host, port=options.port, insecure=options.insecure or None, log_level=options.log_level
        )
        sys.exit(serve(config))
    except (ConfigError, KeyConfigError) as error:
        sys.stderr.write(f"neurograph-router: {error}\n")
        sys.exit(EXIT_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="neurograph-router", description="Real-time event routing over WebSocket.")
    parser.add_argument("--version", action="version", version=f"neurograph-router {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    serve_command = commands.add_parser("serve", help="serve WebSocket and HTTP on one port")
    serve_command.add_argument("--host", help="address to bind (127.0.0.1)")
    serve_command.add_argument("--port", type=int, help="port to bind, 0 for a free one (8000)")
    serve_command.add_argument("--log-level", help="debug, info, warning or error (info)")
    serve_command.add_argument(
        "--insecure", action="store_true", help="bind any address though no key is configured; anonymous has few rights"
    )
    return parser


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends everything at once.

    Returns:
        0 after an orderly stop, else 128 and the number of the second signal.
    """
    handler = LogHandler()
    logs.configure(config.log_level, sys.stderr, handler)
    return trio.run(_serve, config, handler)


async def _serve(config: Config, handler: LogHandler) -> int:
    server = Server(config, handler)
    ended_by = 0
    async with trio.open_nursery() as nursery:

        async def watch(*, task_status: trio.TaskStatus[None]) -> None:
            nonlocal ended_by
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                task_status.started()
                async for number in signals:
                    if ended_by:
                        nursery.cancel_scope.cancel()
                        return
                    ended_by = number
                    log.info("stopping", signal=signal.Signals(number).name)
                    server.stop()

        await nursery.start(watch)
        await server.run()
        ended_by = 0
        nursery.cancel_scope.cancel()
    return 128 + ended_by if ended_by else 0
