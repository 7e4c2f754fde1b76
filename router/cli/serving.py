"""`serve` at work: the server, its log, and the signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator

import msgspec
import structlog
import trio

from router import logs
from router.auth.tokens import KeyConfigError
from router.cli.terminal import EXIT_BY_SIGNAL
from router.config import Config, ConfigError
from router.feeds.logs import LogHandler
from router.loading import Loaded, reloadable_changes
from router.nursery import bare_nursery
from router.server import Server

log = structlog.get_logger("router")

EXIT_FAILURE = 1


def serve(read: Callable[[], Loaded]) -> int:
    """Serve until SIGTERM or SIGINT; a second one ends everything at once.

    Args:
        read: Reads the configuration, now and again at each SIGHUP.

    Returns:
        The exit code: 0 after an orderly stop, 1 after a failure, 128 and its number for a second signal.

    Raises:
        ConfigError: A setting or key cannot be used, or the address cannot be bound.
    """
    loaded = read()
    handler = LogHandler()
    logs.configure(loaded.config.log_level, sys.stderr, handler)
    for warning in loaded.warnings:
        log.warning(warning)
    try:
        return trio.run(_serve, Server(loaded.config, handler), loaded.config, read)
    except (ConfigError, KeyConfigError) as error:
        raise loaded.located(error) from None
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


async def _serve(server: Server, config: Config, read: Callable[[], Loaded]) -> int:
    exit_code = 0
    serving = _Started()
    async with bare_nursery() as nursery:

        async def watch(*, task_status: trio.TaskStatus[None]) -> None:
            nonlocal exit_code
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                task_status.started()
                log.info("stopping", signal=signal.Signals(await anext(signals)).name)
                server.stop()
                exit_code = EXIT_BY_SIGNAL + await anext(signals)
            nursery.cancel_scope.cancel()

        await nursery.start(watch)
        await nursery.start(_watch_hangup, server, config, read, serving)
        await server.run(task_status=serving)
    return exit_code


class _Started(trio.TaskStatus[object]):
    """Is told that a task has started, by whoever runs it without a nursery."""

    def __init__(self) -> None:
        self.event = trio.Event()

    def started(self, value: object = None) -> None:
        self.event.set()


# Reading the configuration again


async def _watch_hangup(
    server: Server,
    in_force: Config,
    read: Callable[[], Loaded],
    serving: _Started,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """At each SIGHUP read the configuration again; a signal that comes meanwhile waits for its turn.

    Where a terminal was closed that the server ran in, SIGHUP means what it first meant: that it is to end.
    """
    in_terminal = sys.stderr.isatty()
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            await serving.event.wait()
            if in_terminal and not sys.stderr.isatty():
                server.stop()
            else:
                in_force = await _reload(server, in_force, read)


async def _reload(server: Server, in_force: Config, read: Callable[[], Loaded]) -> Config:
    """Read the configuration again; what is in force now: the old one, where the new one cannot be used."""
    try:
        loaded = await trio.to_thread.run_sync(read)
        try:
            await server.reload(loaded.config)
        except (ConfigError, KeyConfigError) as error:
            raise loaded.located(error) from None
    except ConfigError as error:
        log.error("the configuration cannot be used, so nothing has changed", reason=str(error))
        return in_force
    except Exception as error:  # a fault of ours ends no server that runs
        log.error("the configuration could not be read again", reason=repr(error), exc_info=error)
        return in_force
    for warning in loaded.warnings:
        log.warning(warning)
    changes = reloadable_changes(in_force, loaded.config)
    if changes.reloaded:
        log.info("changed settings are in force", settings=list(changes.reloaded))
    if changes.restart:
        log.warning("changed settings wait for a restart", settings=list(changes.restart))
    return msgspec.structs.replace(in_force, **{name: getattr(loaded.config, name) for name in changes.reloaded})
