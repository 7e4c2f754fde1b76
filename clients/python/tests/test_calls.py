"""What the calls take and refuse, and how exactly they are typed (which the type checker tests)."""

from __future__ import annotations

from typing import Any, assert_type

import pytest

import neurograph_ws_client
from neurograph_ws_client import (
    Channel,
    ClosedError,
    Event,
    EventStream,
    Gap,
    LogsEvent,
    MetricsEvent,
    NeurographWSClient,
    SignalsEvent,
    State,
)
from ws_peer import Run, both_loops


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"url": "http://127.0.0.1:8000"}, "url: .*ws://127.0.0.1:8000/ws"),
        ({"url": "127.0.0.1:8000"}, "url: "),
        ({"connect_timeout": 0}, "connect_timeout: .*above 0"),
        ({"queue_events": -1}, "queue_events: "),
        ({"ssl_context": object()}, "ssl_context: .*wss://"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        NeurographWSClient(**arguments)


def test_the_url_is_a_string() -> None:
    with pytest.raises(TypeError, match=r"url: it must be a string \(got 8000\)"):
        NeurographWSClient(8000)  # type: ignore[arg-type]  # it is what is tested


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://127.0.0.1:8000", "ws://127.0.0.1:8000/ws"),
        ("ws://router.test/", "ws://router.test:80/ws"),
        ("wss://me:secret@router.test/behind/ws?token=secret", "wss://router.test:443/behind/ws"),
        ("ws://[::1]:8000/ws", "ws://[::1]:8000/ws"),
    ],
)
def test_the_url_as_it_is_shown(url: str, shown: str) -> None:
    client = NeurographWSClient(url)
    assert client.get_connection_info()["url"] == shown
    assert repr(client) == f"<NeurographWSClient {shown} idle>"


@pytest.mark.parametrize(
    ("url", "given", "token", "query"),
    [
        ("ws://router.test/ws?token=a.b.c", None, "a.b.c", ""),
        ("ws://router.test/ws?a=1&token=a.b.c&b", "x.y.z", "x.y.z", "a=1&b"),
        ("ws://router.test/ws?%74oken=a%2Eb.c&a=1", None, "a.b.c", "a=1"),
        ("ws://router.test/ws?token=&tokens=1", None, None, "tokens=1"),
        ("ws://router.test/ws", None, None, ""),
    ],
)
def test_a_token_in_the_url_is_not_sent_there(url: str, given: str | None, token: str | None, query: str) -> None:
    client = NeurographWSClient(url, given)
    assert client._token == token
    assert client._address.resuming(None).query == query


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"last": 1, "since": "2024-12-29T12:00:00Z"}, ValueError, "recover, last, since: only one"),
        ({"recover": {"epoch": "e", "seq": 1}, "last": 1}, ValueError, "recover, last, since: only one"),
        ({"policy": "drop_all"}, ValueError, "policy: 'drop_all'.*drop_oldest"),
        ({"key": "data.sensor"}, ValueError, "key: .*latest"),
        ({"filter": {"data.x": object()}}, TypeError, "filter, last, since: not JSON"),
        ({"filter": {"data.x": {"$gt": float("inf")}}}, TypeError, "filter, last, since: not JSON .*no number inf"),
        ({"polizy": "latest"}, TypeError, "'polizy' is not an option of a subscription; they are filter, policy, key"),
        ({"last": {1, 2}.__iter__()}, TypeError, "filter, last, since: not JSON"),
        ({"recover": 41}, TypeError, "recover: a position is .*got 41"),
        ({"recover": {"epoch": "e"}}, TypeError, "recover: a position is"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], error: type[Exception], says: str) -> None:
    client = NeurographWSClient()
    with pytest.raises(error, match=says):
        client.subscribe("signals", print, **options)
    assert client.get_subscriptions() == []


def test_channels_are_a_list_and_handlers_are_functions() -> None:
    client = NeurographWSClient()
    with pytest.raises(TypeError, match="channels: a list"):
        client.subscribe_multiple("signals", print)
    with pytest.raises(TypeError, match=r"channel: one name .*subscribe_multiple"):
        client.subscribe(["signals"], print)  # type: ignore[call-overload]  # it is what is tested
    with pytest.raises(TypeError, match="handler: "):
        client.subscribe_multiple(["signals"], 1)  # type: ignore[arg-type]  # it is what is tested
    assert client.get_subscriptions() == []


def test_several_channels_have_a_position_each() -> None:
    client = NeurographWSClient()
    at: Any = {"epoch": "e", "seq": 1}
    with pytest.raises(TypeError, match="recover: 'epoch' is not among the channels signals, logs"):
        client.subscribe_multiple(["signals", "logs"], print, recover=at)
    with pytest.raises(TypeError, match="recover: positions by channel"):
        client.subscribe_multiple(["signals", "logs"], print, recover=[at])  # type: ignore[arg-type]
    client.subscribe_multiple(["signals", "logs"], print, recover={"logs": at})
    assert client.get_connection_info()["positions"] == {"logs": at}


def test_callbacks_have_known_names() -> None:
    client = NeurographWSClient()
    with pytest.raises(ValueError, match=r"'conected'.*connected, disconnected, error"):
        client.on("conected", print)
    with pytest.raises(ValueError, match="'conected'"):
        client.off("conected", print)
    with pytest.raises(TypeError, match="callback: it must be a function"):
        client.on("error", None)  # type: ignore[arg-type]  # it is what is tested
    client.on("error", print)
    client.off("error", print)
    client.off("error", print)
    client.off("error")


def test_the_last_handler_takes_the_subscription_with_it() -> None:
    client = NeurographWSClient()
    client.subscribe("signals", print)
    client.subscribe("signals", print)  # once is enough
    client.subscribe("signals", repr)
    assert client._core.subscriptions.wanted["signals"].handlers == (print, repr)
    client.unsubscribe("signals", print)
    assert client.get_subscriptions() == ["signals"]
    client.unsubscribe("signals", print)
    assert client.get_subscriptions() == ["signals"]
    client.unsubscribe("signals", repr)
    assert client.get_subscriptions() == []
    client.subscribe("signals", print)
    client.subscribe("signals", repr)
    client.unsubscribe("signals")
    assert client.get_subscriptions() == []


async def close_for_good() -> None:
    client = NeurographWSClient()
    await client.disconnect()
    assert client.state is State.CLOSED
    for call in (
        lambda: client.subscribe("signals", print),
        lambda: client.publish("signals", "a"),
        lambda: client.events("signals"),
    ):
        with pytest.raises(ClosedError, match="disconnect"):
            call()
    with pytest.raises(ClosedError):
        await client.connect()
    await client.disconnect()


@both_loops
def test_closed_is_final(run: Run) -> None:
    run(close_for_good)


def test_the_package_exports_what_it_lists() -> None:
    assert sorted(neurograph_ws_client.__all__) == neurograph_ws_client.__all__
    assert all(hasattr(neurograph_ws_client, name) for name in neurograph_ws_client.__all__)


def test_events_are_typed_by_their_channel() -> None:
    def on_metrics(event: MetricsEvent) -> None:
        assert_type(event["data"].get("total_tokens"), int | None)

    def on_logs(event: LogsEvent) -> None:
        assert_type(event["data"].get("level"), str | None)

    async def on_any(event: Event) -> None:
        assert_type(event["data"], dict[str, Any])

    client = NeurographWSClient()
    client.subscribe(Channel.METRICS, on_metrics)
    client.subscribe("metrics", lambda event: event["data"].get("total_tokens"))
    client.subscribe("logs", on_metrics)  # type: ignore[arg-type]  # events of logs are others
    client.subscribe("logs", on_logs, last=5)
    client.subscribe("orders.eu", on_any)
    assert_type(client.events("signals"), EventStream[SignalsEvent])
    assert_type(client.events(Channel.SIGNALS, gaps=True), EventStream[SignalsEvent | Gap])
    assert_type(client.events("orders.eu"), EventStream[Event])
    assert client.get_subscriptions() == ["logs", "metrics", "orders.eu"]  # the iterators were left at once
