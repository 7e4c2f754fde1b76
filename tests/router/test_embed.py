"""A router inside another program: in a thread, under Trio, under asyncio; starting, going down, failing."""

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
import trio
import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed

from actors import RestartLimitError
from router import embed, integrations
from router.auth.tokens import KeyConfigError
from router.config import ChannelSettings, Config, ConfigError
from router.embed import Router
from router.feeds.host import HostFeed, HostQueue, RouterClosedError
from router.feeds.metrics import MetricsFeed
from router.policies import Policy
from router.server import Server
from tests.router.serving import close_of, connect, hear

ROOT = Path(__file__).parents[2]
#: Passes only where something hangs.
DEADLINE_S = 30

Json = dict[str, Any]


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    """No router, no thread of one, and structlog as it was."""
    yield
    structlog.reset_defaults()
    assert integrations._running == ()
    assert not any(thread.name == "neurograph-router" for thread in threading.enumerate())


def config(**settings: Any) -> Config:
    return Config(port=0, **settings)


class Client:
    """A client of the standard kind, in the test's own thread."""

    def __init__(self, connection: websockets.sync.client.ClientConnection, *channels: str) -> None:
        self._connection = connection
        self.connected = self.hear(type="connected")
        if channels:
            self._connection.send(json.dumps({"type": "subscribe", "channels": channels}))
            self.hear(type="subscribed")

    def next(self) -> Json:
        message: Json = json.loads(self._connection.recv(DEADLINE_S))
        return message

    def hear(self, **wanted: object) -> Json:
        """The next message that has these fields."""
        while True:
            message = self.next()
            if wanted.items() <= message.items():
                return message

    def rest(self) -> tuple[list[Json], int]:
        """All that comes up to the server's close, and its code."""
        messages: list[Json] = []
        with pytest.raises(ConnectionClosed):  # noqa: PT012 - it is the last of many
            while True:
                messages.append(self.next())
        assert self._connection.close_code is not None
        return messages, self._connection.close_code


@contextmanager
def client_of(router: Router, *channels: str) -> Iterator[Client]:
    with websockets.sync.client.connect(router.url, proxy=None, open_timeout=DEADLINE_S) as connection:
        yield Client(connection, *channels)


def in_thread(work: Callable[[], object]) -> None:
    """Do it in a thread of its own, to its end."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(DEADLINE_S)


class Break:
    """Makes a service of the routers that start from now on fail for good, when it is told to."""

    def __init__(self) -> None:
        self._now = threading.Event()

    async def run(self, mailbox: object, *, task_status: trio.TaskStatus[None]) -> NoReturn:
        task_status.started()
        await trio.to_thread.run_sync(self._now.wait, abandon_on_cancel=True)
        raise ValueError("no metrics today")

    def __call__(self) -> None:
        self._now.set()


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Iterator[Break]:
    broken = Break()
    monkeypatch.setattr(
        MetricsFeed, "run", lambda self, mailbox, *, task_status: broken.run(mailbox, task_status=task_status)
    )
    yield broken
    broken()  # its thread waits for that


def until_closed(router: Router) -> RouterClosedError:
    """Broadcast until the router takes no more."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            router.broadcast_global("x")
        except RouterClosedError as error:
            return error
        time.sleep(0.001)
    raise AssertionError("it takes events still")


# In a thread: the way in


def test_what_a_program_broadcasts_reaches_clients() -> None:
    with Router(config()) as router, client_of(router, "signals") as client:
        assert router.broadcast_signal_event("signal.input.text", event_id="evt-1", priority=200)
        event = client.hear(channel="signals")
        assert (event["event_type"], event["seq"]) == ("signal.input.text", 1)
        assert event["data"] == {"event_id": "evt-1", "event_type": "signal.input.text", "priority": 200}
        in_thread(lambda: integrations.send_to_client(client.connected["client_id"], "hello", {"a": 1}))
        assert client.hear(channel="personal")["data"] == {"a": 1}
        in_thread(lambda: integrations.broadcast_global("bye"))
        assert client.hear(channel="global")["event_type"] == "bye"
        assert router.dropped == 0


def test_the_handle_says_where_it_is() -> None:
    router = Router(config())
    assert router.addresses == []
    with pytest.raises(RouterClosedError, match="has not started, so it has no address"):
        _ = router.url
    with router:
        ((host, port),) = router.addresses
        assert (host, router.url) == ("127.0.0.1", f"ws://127.0.0.1:{port}/ws")
        assert router.http_url == f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{router.http_url}/api/v1/websocket/status", timeout=DEADLINE_S) as answer:
            assert json.load(answer)["status"] == "ok"


@pytest.mark.parametrize(
    ("addresses", "settings", "url"),
    [
        ([("0.0.0.0", 1), ("::", 1)], {}, "ws://127.0.0.1:1/ws"),
        ([("::", 2)], {}, "ws://[::1]:2/ws"),
        ([("fe80::1", 3)], {}, "ws://[fe80::1]:3/ws"),
        ([("10.0.0.1", 4)], {"tls_certificate_file": "c.pem", "tls_key_file": "k.pem"}, "wss://10.0.0.1:4/ws"),
    ],
)
def test_the_address_is_one_that_can_be_connected_to(
    addresses: list[tuple[str, int]], settings: dict[str, Any], url: str
) -> None:
    router = Router(config(**settings))
    router._addresses = addresses
    assert router.url == url
    assert router.http_url == url.replace("ws", "http", 1).removesuffix("/ws")


def test_without_a_configuration_it_has_the_defaults() -> None:
    assert Router()._config == Config()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "0.0.0.0"}, "host '0.0.0.0' can be reached from outside and no key is configured"),
        ({"host_queue_events": 0}, "host_queue_events: expected `int` >= 1"),
        ({"jwt_keys": "k" * 40}, "jwt_keys: expected `array`, got `str`"),
        ({"channels": {"a": ChannelSettings(policy="last")}}, "channels[...].policy: invalid enum value 'last'"),  # type: ignore[arg-type]
        ({"port": object()}, "a value of a type that no setting has"),
    ],
)
def test_a_configuration_made_in_code_is_looked_at(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        Router(Config(**settings))
    assert message in str(failure.value)


def test_a_policy_given_by_its_name_is_that_policy() -> None:
    router = Router(Config(channels={"a": ChannelSettings(policy="latest")}))  # type: ignore[arg-type]
    assert router._config.channels["a"].policy is Policy.LATEST


def test_a_port_in_use_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        router = Router(Config(port=port))
        with pytest.raises(ConfigError, match=f"port {port}: Address already in use"):
            router.start()
        with pytest.raises(RouterClosedError, match="has failed: ConfigError"):
            router.broadcast_global("x")
        router.stop()
        assert router.addresses == []


def test_a_key_that_cannot_be_used_is_said_at_once() -> None:
    with pytest.raises(KeyConfigError, match="too short"), Router(config(jwt_keys=("short",))):
        pass


def test_a_router_runs_once() -> None:
    router = Router(config())
    with router:
        with pytest.raises(RuntimeError, match="has run before; make a fresh one"):
            router.start()
        assert router.broadcast_global("x")
    with pytest.raises(RuntimeError, match="has run before; make a fresh one"):
        router.start()


def test_a_start_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = threading.Event()

    async def hang(self: Server, **_: object) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    monkeypatch.setattr(Server, "run", hang)
    monkeypatch.setattr(embed, "START_S", 0.01)
    monkeypatch.setattr(embed, "_ENDING_S", 0.01)
    with pytest.raises(Exception, match=r"did not start within 0.01 s"):
        Router(config()).start()
    assert cancelled.wait(DEADLINE_S)
    gone()


def gone() -> None:
    """Wait until the router's thread has ended."""
    for thread in threading.enumerate():
        if thread.name == "neurograph-router":
            thread.join(DEADLINE_S)


def test_an_interrupt_amid_the_start_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Event, "wait", interrupted_once(threading.Event.wait, monkeypatch))
    router = Router(config())
    with pytest.raises(KeyboardInterrupt):
        router.start()
    gone()
    with pytest.raises(RouterClosedError):
        router.broadcast_global("x")


def interrupted_once(method: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The method, which a Ctrl-C interrupts the first time it has a deadline to wait for."""
    pending = [KeyboardInterrupt()]

    def wait(self: Any, timeout: float | None = None) -> Any:
        if timeout is not None and threading.current_thread() is threading.main_thread() and pending:
            raise pending.pop()
        return method(self, timeout)

    return wait


# In a thread: the way out


def test_what_was_broadcast_is_sent_before_the_goodbye() -> None:
    with Router(config(host_queue_events=5000, router_mailbox=1)) as router, client_of(router, "signals") as client:
        for number in range(5000):
            assert router.broadcast("signals", "x", {"n": number})
        leaving = threading.Thread(target=router.stop)
        leaving.start()
        messages, code = client.rest()
        leaving.join(DEADLINE_S)
    assert [message["data"]["n"] for message in messages if message.get("channel") == "signals"] == [*range(5000)]
    assert messages[-1]["type"] == "goodbye"
    assert code == 1001


def test_after_the_end_nothing_is_taken() -> None:
    with Router(config()) as router:
        pass
    with pytest.raises(RouterClosedError, match="the router has ended"):
        router.broadcast_global("x")
    with pytest.raises(RouterClosedError, match="the router has ended"):
        router.give_metrics(total_tokens=1)
    with pytest.raises(RouterClosedError, match="no router runs in this process"):
        integrations.broadcast_global("x")
    router.stop()


def test_an_error_of_the_block_goes_on_as_it_is_and_clients_get_their_goodbye() -> None:
    error, router = ValueError("mine"), Router(config())
    router.start()
    with client_of(router) as client:
        leaving = threading.Thread(target=router.__exit__, args=(ValueError, error, None))
        leaving.start()
        assert client.rest()[0][-1]["type"] == "goodbye"
        leaving.join(DEADLINE_S)
    with pytest.raises(ValueError, match="mine") as failure, Router(config()):
        raise error
    assert failure.value is error


def test_many_threads_broadcast_while_it_goes_down() -> None:
    """What was taken is delivered; what was not, is known."""
    taken: list[list[int]] = [[] for _ in range(8)]
    ended: list[int] = []

    def produce(thread: int) -> None:
        number = 0
        try:
            while True:
                if router.broadcast("signals", "x", {"thread": thread, "n": number}):
                    taken[thread].append(number)
                number += 1
        except RouterClosedError:
            ended.append(thread)

    with Router(config(outbox_events=10**6, outbox_bytes=1 << 30)) as router, client_of(router, "signals") as client:
        threads = [threading.Thread(target=produce, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        seen = [client.hear(channel="signals") for _ in range(2000)]
        stopping = threading.Thread(target=router.stop)
        stopping.start()
        messages, code = client.rest()
        for thread in [*threads, stopping]:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
    assert code == 1001
    assert sorted(ended) == [*range(8)]
    seen += [message for message in messages if message.get("channel") == "signals"]
    for number in range(8):
        assert [event["data"]["n"] for event in seen if event["data"]["thread"] == number] == taken[number]
    assert messages[-1]["type"] == "goodbye"


def test_a_router_that_does_not_go_down_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Server, "_let_go", never)
    monkeypatch.setattr(embed, "_MORE_FOR_STOPPING_S", 0.0)
    with Router(config(drain_s=0.01, close_s=0.01)) as router, client_of(router) as client:
        router.stop()
        with pytest.raises(ConnectionClosed):
            client.next()


def test_a_thread_that_does_not_even_end_cancelled_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    async def block(*_: object) -> None:
        release.wait(DEADLINE_S)
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Server, "_let_go", block)
    monkeypatch.setattr(embed, "_MORE_FOR_STOPPING_S", 0.0)
    monkeypatch.setattr(embed, "_ENDING_S", 0.01)
    with (
        pytest.raises(Exception, match="does not end; it is left to itself"),
        Router(config(drain_s=0.01, close_s=0.01)),
    ):
        pass
    release.set()
    gone()


def test_an_interrupt_amid_the_goodbye_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Server, "_let_go", never)
    monkeypatch.setattr(threading.Thread, "join", interrupted_once(threading.Thread.join, monkeypatch))
    with pytest.raises(KeyboardInterrupt), Router(config()):
        pass


def test_it_keeps_no_program_alive_that_forgets_to_stop_it() -> None:
    program = (
        "from router.config import Config\n"
        "from router.embed import Router\n"
        "router = Router(Config(port=0))\n"
        "router.start()\n"
        "router.broadcast_global('x')\n"
        "print(len(router.addresses))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        timeout=DEADLINE_S,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1\n"
    assert done.stderr.count("\n") == 1, "the warning of development mode, and nothing else"


def test_signals_stay_the_program_s() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with Router(config()):
        assert {number: signal.getsignal(number) for number in before} == before


def test_two_routers_run_side_by_side() -> None:
    with Router(config()) as one, Router(config()) as other, client_of(one) as client:
        with pytest.raises(RuntimeError, match="2 routers run"):
            integrations.broadcast_global("x")
        other.broadcast_global("to-nobody")
        one.broadcast_global("to-one")
        assert client.next()["event_type"] == "to-one"


# In a thread: failing


def test_a_router_that_fails_says_so_to_whoever_broadcasts_and_at_the_end(fail: Break) -> None:
    with pytest.raises(RestartLimitError, match="child 'metrics'") as failure, Router(config()) as router:  # noqa: PT012 - a block
        fail()
        closed = until_closed(router)
        assert "the router has failed: RestartLimitError" in str(closed)
        with pytest.raises(RouterClosedError, match="the router has failed"):
            integrations.broadcast_global("x")
    assert str(failure.value.__cause__) == "no metrics today"


def test_a_block_that_ends_by_the_router_s_failure_raises_that(fail: Break) -> None:
    with pytest.raises(RestartLimitError), Router(config()) as router:  # noqa: PT012 - a block
        fail()
        raise until_closed(router)


def test_a_block_that_fails_of_something_else_raises_both(fail: Break) -> None:
    with pytest.RaisesGroup(RestartLimitError, ValueError), Router(config()) as router:
        fail()
        until_closed(router)
        raise ValueError("mine")


def test_an_interrupt_stays_an_interrupt(fail: Break) -> None:
    with pytest.raises(KeyboardInterrupt), Router(config()) as router:  # noqa: PT012 - a block
        fail()
        until_closed(router)
        raise KeyboardInterrupt


# Under Trio


async def test_under_trio_it_lives_as_long_as_its_block() -> None:
    with trio.fail_after(DEADLINE_S):
        async with Router(config()) as router, connect(router.addresses[0][1]) as client:
            await client.send(json.dumps({"type": "subscribe", "channels": ["signals"]}))
            await hear(client, type="subscribed")
            assert integrations.broadcast_signal_event(event_id="1")
            assert (await hear(client, channel="signals"))["data"]["event_id"] == "1"
            await trio.to_thread.run_sync(lambda: router.broadcast_signal_event(event_id="2"))
            assert (await hear(client, channel="signals"))["data"]["event_id"] == "2"
        with pytest.raises(RouterClosedError, match="the router has ended"):
            router.broadcast_global("x")
        with pytest.raises(RuntimeError, match="has run before"):
            async with router:
                pass


async def test_under_trio_what_was_broadcast_is_sent_before_the_goodbye() -> None:
    heard: list[Json] = []
    codes: list[int] = []

    async def read(port: int, task_status: trio.TaskStatus[None]) -> None:
        async with connect(port) as client:
            await client.send(json.dumps({"type": "subscribe", "channels": ["signals"]}))
            await hear(client, type="subscribed")
            task_status.started()
            for _ in range(5000):
                heard.append(await hear(client, channel="signals"))
            await hear(client, type="goodbye")
            codes.append((await close_of(client))[0])

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery, Router(config(router_mailbox=1)) as router:
            port = router.addresses[0][1]
            await nursery.start(read, port)
            for number in range(5000):
                router.broadcast("signals", "x", {"n": number})
    assert [event["data"]["n"] for event in heard] == [*range(5000)]
    assert codes == [1001]


async def test_the_goodbye_waits_for_what_was_broadcast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed does nothing until the server waits for it."""
    gate, hand_over, wait_empty = trio.Event(), HostFeed._hand_over, HostQueue.wait_empty

    async def hand_over_late(feed: HostFeed) -> None:
        await gate.wait()
        await hand_over(feed)

    async def open_and_wait(queue: HostQueue) -> None:
        gate.set()
        await wait_empty(queue)

    monkeypatch.setattr(HostFeed, "_hand_over", hand_over_late)
    monkeypatch.setattr(HostQueue, "wait_empty", open_and_wait)
    heard: list[Json] = []

    async def read(port: int, task_status: trio.TaskStatus[None]) -> None:
        async with connect(port) as client:
            await client.send(json.dumps({"type": "subscribe", "channels": ["signals"]}))
            await hear(client, type="subscribed")
            task_status.started()
            heard.extend([json.loads(await client.recv()) for _ in range(2)])

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery, Router(config()) as router:
            port = router.addresses[0][1]
            await nursery.start(read, port)
            router.broadcast("signals", "x")
    assert [message.get("channel") or message["type"] for message in heard] == ["signals", "goodbye"]


@pytest.mark.parametrize("kind", ["in the block", "in a group"])
async def test_under_trio_an_error_of_the_block_goes_on_as_it_is(kind: str) -> None:
    error: Exception = ValueError("mine") if kind == "in the block" else ExceptionGroup("ours", [ValueError("mine")])
    told = False
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:

            async def read(port: int, task_status: trio.TaskStatus[None]) -> None:
                nonlocal told
                async with connect(port) as client:
                    await hear(client, type="connected")
                    task_status.started()
                    await hear(client, type="goodbye")
                    told = True

            with pytest.raises(type(error)) as failure:  # noqa: PT012 - a block
                async with Router(config()) as router:
                    port = router.addresses[0][1]
                    await nursery.start(read, port)
                    raise error
    assert repr(failure.value) == repr(error)
    assert told


async def test_under_trio_a_port_in_use_is_said_at_once() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="Address already in use"),
    ):
        async with Router(Config(port=taken.getsockname()[1])):
            raise AssertionError("it has not started")


async def test_under_trio_a_router_that_fails_cancels_the_block_and_is_raised(fail: Break) -> None:
    with trio.fail_after(DEADLINE_S), pytest.raises(RestartLimitError) as failure:  # noqa: PT012 - a block
        async with Router(config()):
            fail()
            await trio.sleep_forever()
    assert str(failure.value.__cause__) == "no metrics today"


async def test_under_trio_a_block_that_fails_of_something_else_raises_both(fail: Break) -> None:
    with trio.fail_after(DEADLINE_S), pytest.RaisesGroup(RestartLimitError, ValueError):
        async with Router(config()):
            fail()
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("mine")


async def test_under_trio_cancelled_it_ends_at_once() -> None:
    with trio.fail_after(DEADLINE_S):
        with trio.CancelScope() as scope:
            async with Router(config(drain_s=10 * DEADLINE_S)) as router:
                stream = await trio.open_tcp_stream(*router.addresses[0])  # a connection that would be waited for
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        await stream.aclose()
    with pytest.raises(RouterClosedError, match="the router has ended"):
        router.broadcast_global("x")


async def test_under_trio_cancelled_amid_the_goodbye_it_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = trio.Event()

    async def never(*_: object) -> None:
        begun.set()
        await trio.sleep_forever()

    monkeypatch.setattr(Server, "_let_go", never)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await begun.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(cancel)
            async with Router(config()):
                pass
        assert nursery.cancel_scope.cancelled_caught


async def test_a_trio_task_is_told_not_to_wait_for_a_thread() -> None:
    router = Router(config())
    with pytest.raises(RuntimeError, match="say `async with"), router:
        pass
    async with router:
        pass


# Under asyncio


def test_under_asyncio_clients_of_the_same_loop_get_their_goodbye() -> None:
    async def listen(router: Router, ready: asyncio.Event) -> list[Json]:
        messages = []
        async with websockets.asyncio.client.connect(router.url, proxy=None) as client:
            await client.send(json.dumps({"type": "subscribe", "channels": ["signals"]}))
            async for text in client:
                messages.append(json.loads(text))
                if messages[-1].get("type") == "subscribed":
                    ready.set()
        return messages

    async def main() -> None:
        ready = asyncio.Event()
        async with asyncio.timeout(DEADLINE_S):
            async with Router(config()) as router:
                listening = asyncio.create_task(listen(router, ready))
                await ready.wait()
                assert integrations.broadcast_signal_event(event_id="1")
            messages = await listening
        assert [message["data"]["event_id"] for message in messages if message.get("channel") == "signals"] == ["1"]
        assert messages[-1]["type"] == "goodbye"

    asyncio.run(main())


def test_under_asyncio_the_loop_runs_on_while_it_goes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving, answered = threading.Event(), threading.Event()
    in_time: list[bool] = []

    async def ask_the_loop(*_: object) -> None:
        leaving.set()
        in_time.append(await trio.to_thread.run_sync(answered.wait, DEADLINE_S))

    async def answer() -> None:
        await asyncio.to_thread(leaving.wait, DEADLINE_S)
        answered.set()

    async def main() -> None:
        async with Router(config()):
            answering = asyncio.create_task(answer())
            await asyncio.sleep(0)  # it waits from now on
        await answering

    monkeypatch.setattr(Server, "_let_go", ask_the_loop)
    asyncio.run(main())
    assert in_time == [True]


def test_under_asyncio_errors_are_as_in_a_thread(fail: Break) -> None:
    async def main(error: Exception | None) -> None:
        async with Router(config()) as router:
            fail()
            await asyncio.to_thread(until_closed, router)
            if error is not None:
                raise error

    with pytest.raises(RestartLimitError):
        asyncio.run(main(None))
    with pytest.RaisesGroup(RestartLimitError, ValueError):
        asyncio.run(main(ValueError("mine")))


def test_in_a_notebook_it_is_started_and_stopped_in_cells_of_their_own() -> None:
    async def cells() -> None:
        router = Router(config())
        router.start()
        await asyncio.sleep(0)
        assert integrations.broadcast_global("x")
        router.stop()

    asyncio.run(cells())


# Logs and metrics


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.embed")
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


def test_the_program_s_log_records_become_events(logger: logging.Logger) -> None:
    router = Router(config())
    logger.addHandler(router.log_handler())
    logger.info("before the start")
    with router, client_of(router, "logs") as client:
        logger.error("token=%s is bad", "abcdef", extra={"correlation_id": "c-1"})
        event = client.hear(event_type="log.error")
        assert event["data"] == {
            "level": "error",
            "message": "token=[redacted] is bad",
            "service": "tests.embed",
            "correlation_id": "c-1",
        }
        in_thread(lambda: logger.debug("from a thread"))
        assert client.hear(channel="logs")["data"]["message"] == "from a thread"
    logger.info("after the end")
    for number in range(2000):
        logger.info("%d", number)
    assert len(router.log_handler().take()) == 1000


def test_a_handler_of_the_root_logger_does_not_loop() -> None:
    """With everything logged, an event of the logs channel makes no record that becomes an event."""
    root = logging.getLogger()
    level = root.level
    router = Router(config())
    with router, client_of(router, "logs") as client:
        for name in ("websockets", "concurrent", "asyncio"):  # the client's own are not the router's
            logging.getLogger(name).setLevel(logging.WARNING)
        root.addHandler(router.log_handler())
        root.setLevel(logging.DEBUG)
        try:
            logging.getLogger("tests.embed").info("one")
            assert client.hear(channel="logs")["data"]["message"] == "one"
            logging.getLogger("tests.embed").info("two")
            assert client.next()["data"]["message"] == "two"
        finally:
            root.setLevel(level)
            root.removeHandler(router.log_handler())


def test_the_host_gives_its_own_metrics() -> None:
    with Router(config(metrics_interval_s=0.02)) as router, client_of(router, "metrics") as client:
        assert client.hear(event_type="system_metrics")["data"]["total_tokens"] is None
        integrations.give_metrics(total_tokens=50_000, queue_depth=1.5)
        router.give_metrics(total_tokens=50_001)
        while (data := client.hear(event_type="system_metrics")["data"])["total_tokens"] != 50_001:
            pass
        assert data["queue_depth"] == 1.5
        assert data["cpu_percent"] >= 0
        router.give_metrics(total_tokens=None, queue_depth=None)
        while (data := client.hear(event_type="system_metrics")["data"])["total_tokens"] is not None:
            pass
        assert "queue_depth" not in data


def test_what_the_router_logs_goes_to_the_program_s_logging(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), Router(config()) as router:
        pass
    texts = [record.getMessage() for record in caplog.records if record.name == "router.server"]
    ((host, port),) = router.addresses
    assert f"listening host={host} port={port} websocket={router.url}" in texts
    assert texts[-1] == "stopped"
    assert capsys.readouterr().out == ""


def test_what_the_router_logs_has_no_tokens_and_keeps_its_exceptions(caplog: pytest.LogCaptureFixture) -> None:
    with Router(config()):
        pass
    error = ValueError("why")
    structlog.get_logger("router.some").error("%d lost", 3, url="/ws?token=abc", exc_info=error)
    (record,) = [record for record in caplog.records if record.name == "router.some"]
    assert record.getMessage() == "3 lost url=/ws?token=[redacted]"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_what_the_router_logs_goes_where_the_program_has_told_structlog() -> None:
    with structlog.testing.capture_logs() as logged:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        with Router(config()):
            pass
    assert "stopped" in [record["event"] for record in logged]
    assert structlog.get_config()["wrapper_class"] is not structlog.stdlib.BoundLogger
