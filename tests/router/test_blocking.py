"""The option `block`: who publishes on such a channel waits for room with all who listen."""

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from trio.testing import MockClock

from router.auth.tokens import Authenticator
from router.blocking import Load
from router.clock import Clock
from router.config import ChannelSettings, Config
from router.engine.memory import Stream
from router.errors import CloseCode
from router.hub.actor import Hub
from router.letters import Disconnect, Drain, Events, HostEvents, Letter
from router.protocol import EventIn, Publish
from tests.router.harness import HS_KEY, Client, Json, World, events, running, seqs

TIMEOUT_MS = 1000
BOUND = 10
#: An event's frame has no more.
EVENT_BYTES = 130


def config(events: int = BOUND, timeout_ms: int = TIMEOUT_MS, **more: Any) -> Config:
    """Settings of a server whose channels `signals` and `actions` block."""
    block = ChannelSettings(block=True, block_timeout_ms=timeout_ms)
    family = ChannelSettings(block=True, block_timeout_ms=timeout_ms)
    channels = {"signals": block, "actions": block, "orders.*": family}
    return Config(**{"channels": channels, "outbox_events": events, **more})


def publish_of(n: int, **fields: object) -> str:
    return json.dumps({"type": "publish", "channel": "signals", "event_type": "x", "data": {"n": n}, **fields})


def batch_of(size: int, **fields: object) -> str:
    batch = [{"event_type": "x", "data": {"n": n}} for n in range(size)]
    return json.dumps({"type": "publish", "channel": "signals", "events": batch, **fields})


async def published(client: Client) -> float:
    """When the next `published` comes."""
    await client.expect("published")
    return trio.current_time()


async def fill(world: World, slow: Client, size: int = BOUND) -> int:
    """Stall a subscriber and fill its outbox. Returns the seq of the last event."""
    slow.stall()
    host_events = [EventIn("x", Raw(b"{}")) for _ in range(size + 1)]
    await world.router.send(HostEvents([Events("signals", list(host_events[:1]))]))  # this one waits in the lane
    await world.settle()
    await world.router.send(HostEvents([Events("signals", list(host_events[1:]))]))
    await world.settle()
    [session] = [each for each in world.state.sessions if each.client_id == slow.client_id]
    assert session.outbox.events == size
    return size + 1


async def disconnect(world: World, client: Client) -> bool:
    """Have an administrator end its session."""
    found: bool = await world.router.ask(lambda reply: Disconnect(reply, client.client_id))
    return found


def adds_up(world: World) -> bool:
    """Whether the accounts of all subscriptions do, with nothing lost."""
    for session in world.state.sessions:
        for subscription in session.subscriptions.values():
            ledger = world.state.ledger(subscription)
            if ledger.offered != ledger.filtered + ledger.matched or ledger.dropped:
                return False
            if ledger.matched != ledger.delivered + ledger.queued + ledger.replaced:
                return False
    return True


# Waiting


async def test_a_publisher_waits_for_a_slow_reader_who_then_misses_nothing(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        slow.stall()
        writer.send_text(*(publish_of(n, id=n) for n in range(200)))
        await world.settle()
        first = len(writer.take())
        assert 1 <= first <= 2 * BOUND, "one part is written at once, one fills the outbox"
        for _ in range(25):
            await trio.sleep(0.9)  # in time, each time
            slow.flow(BOUND * EVENT_BYTES)
            await world.settle()
        slow.flow()
        await world.settle()
        assert len(writer.take()) == 200 - first
        assert seqs(slow.take()) == list(range(1, 201))
        assert adds_up(world)


async def test_a_run_of_single_events_is_divided_and_loses_nothing(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        slow.stall()
        writer.send_text(*(publish_of(n) for n in range(100)))
        for _ in range(20):
            await trio.sleep(0.9)
            slow.flow(BOUND * EVENT_BYTES)
            await world.settle()
        got = slow.take()
        assert [event["data"]["n"] for event in events(got)] == list(range(100))
        assert len(got) == 100, "and no gap"


async def test_without_block_nobody_waits_and_the_policies_act(autojump_clock: MockClock) -> None:
    async with running(config(channels={"actions": ChannelSettings(block=True)})) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        slow.stall()
        for n in range(30):
            writer.publish(id=n)
            assert await published(writer) == trio.current_time() == 0
        slow.flow()
        await world.settle()
        assert [m["reason"] for m in slow.take() if m.get("type") == "gap"] == ["slow_consumer"]


async def test_after_the_timeout_it_is_published_and_the_policy_acts(autojump_clock: MockClock) -> None:
    async with running(config(timeout_ms=700)) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        last = await fill(world, slow)
        writer.publish(id=1)
        assert await published(writer) == 0.7
        writer.publish(id=2)
        assert await published(writer) == 1.4, "each publish waits anew"
        slow.flow()
        await world.settle()
        got = slow.take()
        assert [(m["from"], m["to"]) for m in got if m.get("type") == "gap"] == [(2, 3)]
        assert seqs(got) == [1, *range(4, last + 3)]


async def test_room_in_the_last_moment_is_in_time(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        await fill(world, slow)
        writer.publish(id=1)
        await trio.sleep(0.999)
        slow.flow()
        assert await published(writer) == 0.999
        await world.settle()
        assert seqs(slow.take()) == list(range(1, BOUND + 3))


async def test_what_came_with_a_publish_that_waited_in_vain_follows_at_once(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        await fill(world, slow)
        for at in (1.0, 2.0):
            writer.send_text(*(publish_of(n, id=n) for n in range(400)))  # more than one letter has
            assert [await published(writer) for _ in range(400)] == [at] * 400


async def test_every_subscriber_is_waited_for(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow = [await world.subscriber("signals") for _ in range(3)]
        writer = await world.connect()
        for each in slow[1:]:
            each.stall()
        await fill(world, slow[0])
        writer.publish(id=1)
        for at, each in enumerate(slow):
            await trio.sleep(0.2)
            each.flow()
            await world.settle()
            assert bool(writer.take()) == (at == 2)


async def test_an_outbox_is_full_by_bytes_too(autojump_clock: MockClock) -> None:
    async with running(config(1000, outbox_bytes=5000)) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        slow.stall()
        data = {"text": "x" * 1000}
        times = []
        for n in range(6):
            writer.publish(id=n, data=data)
            times.append(await published(writer))
        assert times == [0, 0, 0, 0, 0, 1.0]
        [session] = [each for each in world.state.sessions if each.subscriptions]
        assert session.outbox.dropped == 1


async def test_a_batch_is_waited_for_as_a_whole(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        await fill(world, slow, 5)
        writer.send_text(batch_of(5, id=1), batch_of(2, id=2))
        assert await published(writer) == 0
        slow.flow(200)
        slow.stall()
        await world.settle()
        assert writer.take() == []
        await trio.sleep(0.5)
        slow.flow()
        assert await published(writer) == 0.5
        await world.settle()
        assert seqs(slow.take()) == list(range(1, 14))


@pytest.mark.parametrize("answered", [True, False])
async def test_for_what_is_larger_than_the_bound_the_outbox_must_be_empty(
    answered: bool, autojump_clock: MockClock
) -> None:
    async with running(config(4)) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        await fill(world, slow, 1)
        writer.send_text(batch_of(6, **({"id": 1} if answered else {})))
        await trio.sleep(0.5)
        assert world.state.streams["signals"].seq == 2
        slow.flow()
        await world.settle()
        assert seqs(slow.take()) == list(range(1, 9))
        assert adds_up(world)


async def test_no_subscriber_no_wait(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        writer = await world.connect()
        writer.send_text(*(publish_of(n, id=n) for n in range(100)))
        assert [await published(writer) for _ in range(100)] == [0] * 100


async def test_a_publisher_that_does_not_read_what_it_listens_to_waits_no_longer_than_others(
    autojump_clock: MockClock,
) -> None:
    async with running(config()) as world:
        both = await world.subscriber("signals")
        both.stall()
        both.send_text(*(publish_of(n) for n in range(BOUND + 20)))
        await world.settle()
        assert world.state.streams["signals"].seq < BOUND + 20
        await trio.sleep(1.1)
        assert world.state.streams["signals"].seq == BOUND + 20


async def test_host_and_server_never_wait(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow = await world.subscriber("signals")
        last = await fill(world, slow)
        await world.router.send(HostEvents([Events("signals", [EventIn("x", Raw(b"{}"))])]))
        await world.settle()
        assert world.state.streams["signals"].seq == last + 1
        assert trio.current_time() == 0


# Who is not waited for


@pytest.mark.parametrize("how", ["vanish", "unsubscribe", "disconnect", "too slow"])
async def test_who_leaves_is_waited_for_no_more(how: str, autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        if how == "too slow":
            slow.subscribe("status", policy="disconnect")
            await slow.expect("subscribed")
        await fill(world, slow)
        writer.publish(id=1)
        await trio.sleep(0.25)
        assert writer.take() == []
        match how:
            case "vanish":
                slow.vanish()
            case "unsubscribe":
                slow.send("unsubscribe", channels=["signals"])
            case "too slow":
                data = Raw(json.dumps({"x": "x" * 10_000}).encode())
                await world.router.send(HostEvents([Events("status", [EventIn("x", data)])]))
            case _:
                assert await disconnect(world, slow)
        assert await published(writer) == 0.25


async def test_a_session_without_connection_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with running(config(detached_events=3)) as world:
        away, writer = await world.subscriber("signals"), await world.connect()
        away.vanish()
        await world.settle()
        writer.send_text(*(publish_of(n, id=n) for n in range(20)))
        assert [await published(writer) for _ in range(20)] == [0] * 20
        back = await world.connect(resume=away.token)
        await world.settle()
        assert [m["reason"] for m in back.take() if m.get("type") == "gap"] == ["buffer_overflow"]


async def test_who_takes_a_stuck_session_over_is_waited_for_in_its_place(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        stuck, writer = await world.subscriber("signals"), await world.connect()
        await fill(world, stuck)
        writer.publish(id=1)
        await trio.sleep(0.5)
        back = await world.connect(resume=stuck.token)
        assert await published(writer) == 0.5
        await world.settle()
        assert seqs(back.take())[-1] == BOUND + 2


# Order and turns


async def test_what_precedes_a_blocked_publish_is_done_before_and_what_follows_it_behind(
    autojump_clock: MockClock,
) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals", "actions"), await world.connect()
        await fill(world, slow)
        writer.send_text(
            '{"type":"ping","id":1}',
            '{"type":"publish","channel":"logs","event_type":"x","id":2}',
            publish_of(1, id=3),
            '{"type":"subscribe","channels":["logs"],"id":4}',
            '{"type":"publish","channel":"actions","event_type":"x","id":5}',
            '{"type":"ping","id":6}',
        )
        await world.settle()
        assert [m["id"] for m in writer.take()] == [1, 2]
        await trio.sleep(1.1)
        assert [m["id"] for m in writer.take()] == [3, 4, 5, 6], "one wait in vain is enough for one read"


async def test_the_time_for_which_another_publisher_is_waited_for_counts(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow = await world.subscriber("signals")
        writers = [await world.connect() for _ in range(4)]
        await fill(world, slow)
        for writer in writers:
            writer.publish(id=1)
            await trio.sleep(0.125)
        assert [await published(writer) for writer in writers] == [1.0, 1.125, 1.25, 1.375]


async def test_publishers_of_one_channel_take_turns_in_the_order_in_which_they_came(autojump_clock: MockClock) -> None:
    async with running(config(1, 10_000)) as world:
        slow = await world.subscriber("signals")
        writers = [await world.connect() for _ in range(5)]
        await fill(world, slow, 1)
        for n, writer in enumerate(writers):
            writer.send_text(publish_of(n, id=1), publish_of(10 + n, id=2))
            await world.settle()
        for _ in range(30):
            await trio.sleep(0.1)
            slow.flow(EVENT_BYTES)
            await world.settle()
        got = [event["data"]["n"] for event in events(slow.take())[2:]]
        assert got == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


async def test_who_waits_on_one_channel_holds_up_nobody_on_another(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, quick = await world.subscriber("signals"), await world.subscriber("actions")
        first, second = await world.connect(), await world.connect()
        await fill(world, slow)
        first.publish("signals", id=1)
        await world.settle()
        second.publish("actions", id=1)
        assert await published(second) == 0
        assert seqs([await quick.receive()], "actions") == [1]


async def test_two_publishers_never_count_on_the_same_room(autojump_clock: MockClock, monkeypatch: Any) -> None:
    async with running(config(8)) as world:
        slow = await world.subscriber("signals")
        writers = [await world.connect() for _ in range(4)]
        await fill(world, slow, 1)
        gate = await world.hold(monkeypatch)  # their letters lie in the mailbox
        for writer in writers:
            writer.send_text(batch_of(4, id=1))
        await world.settle()
        gate.set()
        await world.settle()
        assert world.state.streams["signals"].seq == 6, "the first one's 4"
        for _ in range(30):
            await trio.sleep(0.1)
            slow.flow(EVENT_BYTES)
            await world.settle()
        assert seqs(slow.take()) == list(range(1, 19))
        assert adds_up(world)


async def test_more_messages_than_there_is_room_for_replies_are_answered_in_their_order(
    autojump_clock: MockClock,
) -> None:
    async with running(config(100, control_messages=50)) as world:
        reader, writer = await world.subscriber("signals"), await world.connect()
        messages = [publish_of(n, id=n) if n % 7 else json.dumps({"type": "ping", "id": n}) for n in range(500)]
        writer.send_text(*messages)
        await world.settle()
        assert [message["id"] for message in writer.take()] == list(range(500))
        assert [event["data"]["n"] for event in events(reader.take())] == [n for n in range(500) if n % 7]
        assert trio.current_time() == 0


async def test_what_there_is_room_for_is_one_letter(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(config(100)) as world:
        await world.subscriber("signals")
        writer = await world.connect()
        letters, work = [], Hub._work

        async def noting(hub: Hub, letter: Letter, hand: Any) -> None:
            letters.append(len(letter.items))
            await work(hub, letter, hand)

        monkeypatch.setattr(Hub, "_work", noting)
        writer.send_text(*(publish_of(n, id=n) for n in range(50)))
        await world.settle()
        writer.send("pong")
        await world.settle()
        assert letters == [50, 0]


# Ends


async def test_a_publisher_that_is_gone_gives_its_turn_to_the_next(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, gone, writer = await world.subscriber("signals"), await world.connect(), await world.connect()
        last = await fill(world, slow)
        gone.publish(id=1)
        await world.settle()
        writer.publish(id=1)
        await trio.sleep(0.25)
        gone.vanish()
        gone.lane.end()  # the next write would find out
        await world.settle()
        assert len(world.shared.connections) == 2
        slow.flow()
        assert await published(writer) == 0.25
        assert world.state.streams["signals"].seq == last + 1, "what it had to say went with it"


async def test_what_a_publisher_leaves_behind_is_counted_by_the_one_who_waits_for_room(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config(timeout_ms=60_000)) as world:
        slow, first, second = await world.subscriber("signals"), await world.connect(), await world.connect()
        await fill(world, slow)
        first.send_text(batch_of(BOUND))
        await world.settle()
        second.send_text(batch_of(BOUND))
        await world.settle()
        gate = await world.hold(monkeypatch)
        second.lane.close(CloseCode.GOING_AWAY, "")  # it waits no more, and what it has said goes to the router
        await world.settle()
        slow.flow(2 * EVENT_BYTES)  # so all that waits is taken to be written
        await world.settle()
        gate.set()
        await world.settle()
        slow.flow()
        await world.settle()
        assert seqs(slow.take()) == list(range(1, 3 * BOUND + 2))
        assert adds_up(world)


@pytest.mark.parametrize("channel", ["signals", "logs"])
async def test_a_publisher_that_is_gone_before_the_router_has_room_for_its_letter_holds_up_nobody(
    channel: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config(timeout_ms=60_000, router_mailbox=1)) as world:
        gone, writer = await world.connect(), await world.connect()
        reader = await world.subscriber("signals", "logs")
        gate = await world.hold(monkeypatch)
        world.router.tell("tick")
        gone.publish(channel)
        await world.settle()
        gone.lane.end()
        await world.settle()
        writer.publish(id=1)
        gate.set()
        assert await published(writer) == 0
        assert seqs([await reader.receive()]) == [1]


@pytest.mark.parametrize("waits_for", ["room", "its turn"])
async def test_a_publisher_that_is_to_be_closed_waits_no_more(waits_for: str, autojump_clock: MockClock) -> None:
    async with running(config(timeout_ms=60_000)) as world:
        slow, other, writer = await world.subscriber("signals"), await world.connect(), await world.connect()
        last = await fill(world, slow)
        if waits_for == "its turn":
            other.publish()
            await world.settle()
        writer.send_text(publish_of(1, id=1), publish_of(2, id=2), '{"type":"ping","id":3}')
        await world.settle()
        assert await disconnect(world, writer)
        assert await writer.ended() == (4500, "disconnected by an administrator")
        assert trio.current_time() == 0
        assert world.state.streams["signals"].seq == last + 2, "it was said before"


async def test_a_publisher_that_does_not_read_its_replies_waits_no_more_once_it_is_closed(
    autojump_clock: MockClock,
) -> None:
    async with running(config(timeout_ms=60_000, control_messages=5)) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        last = await fill(world, slow)
        writer.stall()
        writer.send_text('{"type":"ping","id":1}', '{"type":"ping","id":2}', publish_of(1, id=3))
        await trio.sleep(world.config.message_s)
        await world.settle()
        assert writer.lane.close_request is not None
        assert writer.lane.close_request[0] == 4003
        assert world.state.streams["signals"].seq == last + 1


async def test_a_publisher_that_was_closed_while_its_token_was_checked_waits_for_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config(timeout_ms=60_000, jwt_keys=(HS_KEY,))) as world:
        token = world.jwt(role="admin")
        slow, writer = await world.subscriber("signals", token=token), await world.connect(token=token)
        last = await fill(world, slow)
        verify = Authenticator.verify

        async def slowly(authenticator: Authenticator, token: str) -> Any:
            await trio.sleep(0.5)
            return await verify(authenticator, token)

        monkeypatch.setattr(Authenticator, "verify", slowly)
        writer.send_text(json.dumps({"type": "authenticate", "token": token}), publish_of(1))
        await world.settle()
        assert await disconnect(world, writer)
        assert (await writer.ended())[0] == 4500
        assert trio.current_time() == 0
        await trio.sleep(0.6)
        assert world.state.streams["signals"].seq == last + 1


async def test_a_takeover_does_not_wait_for_a_waiting_publisher(autojump_clock: MockClock) -> None:
    async with running(config(timeout_ms=60_000)) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        await fill(world, slow)
        writer.publish(id=1)
        await world.settle()
        back = await world.connect(resume=writer.token)
        assert back.connected["reconnected"]
        assert (await writer.ended())[0] == 4502
        assert trio.current_time() == 0


async def test_going_down_does_not_wait_for_a_waiting_publisher(autojump_clock: MockClock) -> None:
    async with running(config(timeout_ms=60_000)) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        await fill(world, slow)
        writer.publish(id=1)
        await world.settle()
        assert await world.router.ask(Drain) == 2
        await writer.reply("goodbye")
        assert (await writer.ended())[0] == 1001
        assert trio.current_time() == 0
        slow.flow()
        assert (await slow.ended())[0] == 1001
        await trio.sleep(2)
        assert len(world.connections) == 0


async def test_a_publisher_that_closes_is_heard_out(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        last = await fill(world, slow)
        writer.publish()
        writer.close(1000)
        await trio.sleep(0.5)
        assert world.state.streams["signals"].seq == last
        slow.flow()
        await world.settle()
        assert seqs(slow.take()) == list(range(1, last + 2))
        assert writer.closed == (1000, "")


async def test_a_crash_of_the_router_leaves_nobody_waiting(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config(timeout_ms=60_000)) as world:
        reader, writer, other = await world.subscriber("signals"), await world.connect(), await world.connect()
        append = Stream.append

        def fail(stream: Stream, events: Sequence[Any]) -> None:
            monkeypatch.setattr(Stream, "append", append)
            raise RuntimeError("planted")

        monkeypatch.setattr(Stream, "append", fail)
        writer.publish(id=1)
        await world.settle()
        other.publish(id=1)
        await writer.expect("error", code="internal")
        assert await published(other) < 5
        writer.publish(id=2)
        assert await published(writer) < 5
        assert seqs([await reader.receive(), await reader.receive()]) == [1, 2]


async def test_a_crash_while_publishers_wait_for_room_changes_nothing_for_them(autojump_clock: MockClock) -> None:
    async with running(config(timeout_ms=60_000)) as world:
        slow, first, second = await world.subscriber("signals"), await world.connect(), await world.connect()
        last = await fill(world, slow)
        first.publish(id=1)
        second.publish(id=1)
        await world.crash()
        assert first.take() == second.take() == []
        slow.flow()
        assert await published(first) == await published(second) < 60
        await world.settle()
        assert seqs(slow.take()) == list(range(1, last + 3))


async def test_a_router_that_is_gone_ends_a_publisher(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        await fill(world, slow)
        writer.publish(id=1)
        await world.settle()
        world.services.stop()
        assert (await writer.ended())[0] == 1011


# The watch over connections


async def test_a_publisher_that_is_not_read_is_not_silent(autojump_clock: MockClock) -> None:
    async with running(config(timeout_ms=200_000), watched=True) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        slow.subscribe("metrics")
        slow.wire.room = None
        await world.settle()
        await fill(world, slow)
        slow.take()
        writer.deaf = True
        writer.publish(id=1)
        for _ in range(19):
            await trio.sleep(10)
            slow.send("pong")
        assert writer.usable, "it is we who do not read"
        await trio.sleep(10.5)
        assert [m.get("id") for m in writer.take()] == [1]
        await trio.sleep(88)
        slow.send("pong")
        assert writer.usable
        await trio.sleep(4)
        assert writer.closed == (4000, "nothing heard for 90 s"), "silent since it was read again"


async def test_who_waits_for_the_router_is_not_silent(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Config(router_mailbox=1), watched=True) as world:
        writer = await world.connect()
        writer.deaf = True
        gate = await world.hold(monkeypatch)
        for n in range(4):
            writer.publish(id=n)
            await world.settle()
        await trio.sleep(150)
        assert writer.usable
        gate.set()
        for _ in range(4):
            await writer.expect("published")


# What is kept


async def test_channels_of_a_family_are_let_go_of(autojump_clock: MockClock) -> None:
    async with running(config(channel_idle_s=10), watched=True) as world:
        reader, writer = await world.subscriber("orders.a"), await world.connect()
        for n in range(20):
            writer.publish(f"orders.b{n}", id=n)
            await writer.expect("published")
        writer.publish("orders.a", id=1)
        await writer.expect("published")
        assert list(world.state.blocking._turns) == ["orders.a"], "where nobody listens, nobody takes turns"
        reader.close()
        await trio.sleep(30)
        assert world.state.blocking._turns == {}


async def test_a_wait_in_vain_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with running(config()) as world:
        slow, writer = await world.subscriber("signals"), await world.connect()
        await fill(world, slow)
        for n in range(3):
            writer.publish(id=n)
            await writer.expect("published")
        [session] = [each for each in world.state.sessions if each.subscriptions]
        assert not session.outbox._watchers
        slow.lane.end()
        assert slow.lane.draining is None, "also before its departure is known"


async def test_the_first_message_of_a_resumed_connection_counts_though_it_says_nothing(
    autojump_clock: MockClock,
) -> None:
    async with running(config()) as world:
        client = await world.connect()
        client.vanish()
        await world.settle()
        back = await world.connect(resume=client.token)
        assert world.state.sessions.by_token(client.token) is not None
        back.send("pong")
        await world.settle()
        assert world.state.sessions.by_token(client.token) is None


# Many at once


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_lost_as_long_as_everybody_reads_in_time(seed: int, autojump_clock: MockClock) -> None:
    """Publishers of all kinds, readers that stall for less than the timeout: whatever the order, no gap."""
    rng = random.Random(seed)
    total = 0
    # A publisher may have to wait for all others: so many publishes, each with all readers' longest stalls.
    async with running(config(rng.choice([5, 8, 40]), 3_600_000, outbox_bytes=rng.choice([2000, 1 << 20]))) as world:
        readers = [await world.subscriber("signals", per_write=rng.choice([None, 7, 100])) for _ in range(4)]
        writers = [await world.connect(plain=rng.random() < 0.3) for _ in range(4)]
        sent: dict[int, list[int]] = {n: [] for n in range(4)}
        read: list[list[Json]] = [[] for _ in readers]
        for _ in range(60):
            index = rng.randrange(4)
            messages = []
            for _ in range(rng.randint(1, 12)):
                size = rng.choice([1, 1, 1, rng.randint(2, 5)])
                numbers = range(total, total + size)
                total += size
                sent[index] += numbers
                batch = [{"event_type": "x", "data": {"n": n, "writer": index}} for n in numbers]
                fields: Json = {"id": total} if rng.random() < 0.3 else {}
                fields |= batch[0] if size == 1 and rng.random() < 0.8 else {"events": batch}
                messages.append(json.dumps({"type": "publish", "channel": "signals", **fields}))
            writers[index].send_text(*messages)
            reader = rng.randrange(4)
            rng.choice([readers[reader].stall, readers[reader].flow])(rng.choice([0, 50, 300, 2000]))
            if rng.random() < 0.05:
                await world.crash()
            await trio.sleep(rng.choice([0, 0.01, 1]))
            assert adds_up(world)
        for at, slow in enumerate(readers):
            slow.flow()
            await world.settle()
            read[at] += slow.take()
        await trio.sleep(1)
        for at, slow in enumerate(readers):
            read[at] += slow.take()
            assert seqs(read[at]) == list(range(1, total + 1))
            assert len(read[at]) == total
        for index, wanted in sent.items():
            assert [e["data"]["n"] for e in events(read[0]) if e["data"]["writer"] == index] == wanted
        assert adds_up(world)


# Parts of a load


def an_event() -> st.SearchStrategy[Raw]:
    return st.integers(2, 300).map(lambda size: Raw(b"{" + b" " * (size - 2) + b"}"))


@st.composite
def items(draw: st.DrawFn) -> Events:
    batch: list[Publish | EventIn] = [EventIn("x", data) for data in draw(st.lists(an_event(), max_size=4))]
    singles = [Publish("signals", "x", data) for data in draw(st.lists(an_event(), max_size=6))]
    one: bool = draw(st.booleans())
    if batch and one:
        return Events("signals", batch, id=1)
    return Events("signals", [*batch, *singles, Publish("signals", "x")])


def is_one(item: Events) -> bool:
    return item.id is not UNSET


@given(st.lists(items(), min_size=1, max_size=5), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3000))))
def test_a_load_is_taken_in_parts_that_fit_and_no_publish_is_divided(
    given_items: list[Events], rooms: list[tuple[int, int]]
) -> None:
    load, parts = Load(given_items), []
    for max_events, max_bytes in rooms:
        if not load:
            break
        first_events, first_bytes = load.first
        part = load.take(max_events, max_bytes)
        taken = [event for item in part for event in item.events]
        size = sum(len(memoryview(event.data)) for event in taken)
        assert len(taken) >= first_events
        assert len(taken) == first_events or (len(taken) <= max_events and size <= max_bytes)
        assert first_bytes > sum(len(memoryview(event.data)) for event in taken[:first_events])
        parts += part
    parts += load.take_all()
    assert not load
    assert [e for item in parts for e in item.events] == [e for item in given_items for e in item.events]
    assert list(filter(is_one, parts)) == list(filter(is_one, given_items)), "whole"
    last_of_parts = {id(item.events[-1]) for item in parts}
    for item in given_items:
        together = [event for event in item.events if isinstance(event, EventIn)]
        assert not last_of_parts & set(map(id, together[:-1])), "divided"


def test_the_bytes_of_an_event_are_no_less_than_those_of_its_frame() -> None:
    name = "x" * 64
    stream = Stream(name, 10**15)
    stream.stamp(1, Clock())
    event = Publish(name, "t" * 128, Raw(b"{" + b" " * 70_000 + b"}"))
    stream.append([event])
    assert stream.pending_bytes <= Load([Events(name, [event])]).first[1] <= stream.pending_bytes + 64
