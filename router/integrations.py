"""What the program that the router is embedded in calls to publish events.

    from router.embed import Router
    from router.integrations import broadcast_signal_event

    with Router():
        broadcast_signal_event("signal.input.text", event_id="evt-1", priority=200)

Plain functions that never wait, to be called from any thread, from asyncio and from Trio alike. They judge and encode
an event at once, so a mistake is shown where it is made. They return False where the bounded queue to the router is
full: the event is dropped and counted (`Router.dropped`), and it is for the caller to slow down or to go without. The
option `block` of a channel holds up clients that publish there, not these.
What one thread says on a channel stays in order.

All are methods of `Router`; as functions of this module they act on the one router that runs in this process.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from router.broadcaster import Broadcaster
from router.feeds.host import RouterClosedError as RouterClosedError

P = ParamSpec("P")
R = TypeVar("R")

_running: tuple[Broadcaster, ...] = ()
_lock = threading.Lock()


def enlist(broadcaster: Broadcaster) -> None:
    """The functions of this module act on it, as long as it is the only one."""
    global _running
    with _lock:
        _running = (*_running, broadcaster)


def dismiss(broadcaster: Broadcaster) -> None:
    """The functions of this module no longer act on it."""
    global _running
    with _lock:
        _running = tuple(each for each in _running if each is not broadcaster)


def _forget_all() -> None:
    global _running
    _running = ()


os.register_at_fork(after_in_child=_forget_all)  # they run in the parent alone


def the_router() -> Broadcaster:
    """The one router that runs in this process.

    Raises:
        RouterClosedError: There is none.
        RuntimeError: There are several.
    """
    running = _running
    if not running:
        raise RouterClosedError("no router runs in this process: start one with `with Router(config):`")
    if len(running) > 1:
        raise RuntimeError(f"{len(running)} routers run in this process: call the method of the one that is meant")
    return running[0]


def _of_the_router(method: Callable[Concatenate[Broadcaster, P], R]) -> Callable[P, R]:
    @functools.wraps(method)
    def function(*args: P.args, **kwargs: P.kwargs) -> R:
        return method(the_router(), *args, **kwargs)

    signature = inspect.signature(method)
    parameters = list(signature.parameters.values())[1:]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


broadcast = _of_the_router(Broadcaster.broadcast)
broadcast_signal_event = _of_the_router(Broadcaster.broadcast_signal_event)
broadcast_action_event = _of_the_router(Broadcaster.broadcast_action_event)
broadcast_metrics = _of_the_router(Broadcaster.broadcast_metrics)
broadcast_log = _of_the_router(Broadcaster.broadcast_log)
broadcast_status = _of_the_router(Broadcaster.broadcast_status)
broadcast_connection_event = _of_the_router(Broadcaster.broadcast_connection_event)
send_to_client = _of_the_router(Broadcaster.send_to_client)
send_to_user = _of_the_router(Broadcaster.send_to_user)
broadcast_global = _of_the_router(Broadcaster.broadcast_global)
give_metrics = _of_the_router(Broadcaster.give_metrics)
