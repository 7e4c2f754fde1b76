"""The router actor: order, fan-out, events to one client, its own crashes, the drain."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import NoReplyError
from router.batches import Batch, Slice
from router.config import Config
from router.engine.memory import FULL_BATCH_BYTES
from router.hub.actor import Hub
from router.hub.attachment import attach, depart
from router.hub.crash import is_sound
from router.hub.state import RouterState
from router.lanes import Lane
from router.letters import Depart, Drain, Emit, Events, Letter, SendTo, SubscribeTo
from router.outbox import Outbox
from router.protocol import Publish, reply
from router.queues import Gap, Queue
from router.sessions import Session
from router.subscriptions import Subscription
from tests.router.harness import WITH_KEY, Client, Json, World, events, running, seqs


def emit(world: World, count: int = 1, channel: str = "signals") -> None:
    for _ in range(count):
        world.router.tell(Emit(channel, "x", b"{}"))


def text(kind: str, **fields: object) -> str:
    return json.dumps({"type": kind, **fields})


def kinds(messages: list[Json]) -> list[tuple[Any, Any]]:
    """Each message as its type and id, or None and its seq."""
    return [(each.get("type"), each["id"] if "type" in each else each["seq"]) for each in messages]


# Publishing


async def test_who_publishes_on_a_channel_that_it_subscribes_to_gets_the_event_too(autojump_clock: MockClock) -> None:
    async with running() as world:
        client, other = [await world.subscriber("signals") for _ in range(2)]
        client.publish(data={"n": 1})
        for each in (client, other):
            await each.expect(None, channel="signals", seq=1, data={"n": 1}, event_type="x")


async def test_published_tells_the_seqs_and_who_subscribes_at_that_moment(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        batch = text("publish", channel="signals", events=[{"event_type": "x"}] * 3, id=2)
        client.send_text(
            text("publish", channel="signals", event_type="x", id=1),
            text("subscribe", channels=["signals"]),
            batch,
            text("unsubscribe", channels=["signals"]),
            text("publish", channel="signals", event_type="x", id=3),
        )
        timestamp = "2024-12-29T12:00:00.000Z"
        await client.reply("published", id=1, channel="signals", seq=[1, 1], subscribers=0, timestamp=timestamp)
        await client.reply("subscribed")
        await client.reply("published", id=2, channel="signals", seq=[2, 4], subscribers=1)
        await client.reply("unsubscribed")
        await client.reply("published", id=3, channel="signals", seq=[5, 5], subscribers=0)


async def test_without_an_id_nothing_is_answered(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        client.publish()
        await world.settle()
        assert client.take() == []
        assert world.state.streams["signals"].seq == 1


async def test_events_of_many_publishers_have_one_order_for_all_readers(autojump_clock: MockClock) -> None:
    async with running(Config(router_mailbox=3)) as world:
        readers = [await world.subscriber("signals") for _ in range(3)]
        publishers = [await world.connect() for _ in range(4)]
        for number in range(25):
            for publisher in publishers:
                publisher.publish(data={"of": publisher.client_id, "n": number})
            if number % 7 == 0:
                await world.settle()
        await world.settle()
        received = [events(reader.take()) for reader in readers]
        assert seqs(received[0]) == list(range(1, 101))
        assert received[1] == received[2] == received[0]
        for publisher in publishers:
            mine = [event["data"]["n"] for event in received[0] if event["data"]["of"] == publisher.client_id]
            assert mine == list(range(25))


async def test_a_stream_with_a_full_batch_is_fanned_out_before_more_is_added(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[Batch] = []
    offer = Lane.offer

    def noting(lane: Lane, queue: Queue, batch: Batch) -> None:
        batches.append(batch)
        offer(lane, queue, batch)

    async with running(Config(outbox_bytes=10 << 20)) as world:
        client = await world.subscriber("signals")
        gate = await world.hold(monkeypatch)
        for _ in range(21):
            client.publish(data={"text": "x" * 50_000})
            await world.settle()
        monkeypatch.setattr(Lane, "offer", noting)
        gate.set()
        await world.settle()
        assert seqs(client.take()) == list(range(1, 22))
        assert max(len(batch.buffer) for batch in batches) < FULL_BATCH_BYTES + 70_000
        assert len(batches) == 7


async def test_a_long_fan_out_lets_others_run(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as world:
        client = await world.connect()
        for _ in range(300):
            world.state.subscriptions.add(Subscription("signals", client.lane))
        turns: list[int] = []

        async def other() -> None:
            while not turns or turns[-1] < 300:
                turns.append(offered)
                await trio.lowlevel.checkpoint()

        offered = 0

        def slow(lane: Lane, queue: Queue, batch: Batch) -> None:
            nonlocal offered
            offered += 1
            if offered % 100 == 0:
                autojump_clock.jump(0.01)

        monkeypatch.setattr(Lane, "offer", slow)
        async with trio.open_nursery() as nursery:
            emit(world)
            nursery.start_soon(other)
        assert any(0 < count < 300 for count in turns)
        assert client.closed is None


# Subscribing


async def test_subscribed_comes_before_the_first_event_that_it_grants(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        publish = text("publish", channel="signals", event_type="x")
        client.send_text(publish, publish, text("subscribe", channels=["signals"], id=1), publish)
        position = {"epoch": world.state.epoch, "seq": 2}
        await client.expect("subscribed", id=1, channels=["signals"], positions={"signals": position})
        await client.expect(None, seq=3)
        await world.settle()
        assert client.take() == []


async def test_who_subscribes_to_the_connections_gets_the_news_of_that_behind_the_position(
    autojump_clock: MockClock,
) -> None:
    async with running() as world:
        client = await world.connect()
        client.subscribe("connections")
        subscribed = await client.expect("subscribed")
        event = await client.expect(None, event_type="client.subscribed")
        assert event["seq"] == subscribed["positions"]["connections"]["seq"] + 1


async def test_no_event_of_a_channel_comes_behind_unsubscribed_however_slow_the_client(
    autojump_clock: MockClock,
) -> None:
    async with running() as world:
        for room in (0, 50, 150, 1000):
            client = await world.subscriber("signals", "logs")
            client.stall(room)
            for _ in range(5):
                emit(world, 3)
                emit(world, 1, "logs")
                await world.settle()
            client.send("unsubscribe", channels=["signals"], id=1)
            await world.settle()
            emit(world, 3)
            await world.settle()
            client.flow()
            await world.settle()
            messages = client.take()
            (at,) = [index for index, each in enumerate(messages) if each.get("type") == "unsubscribed"]
            assert messages[at]["channels"] == ["signals"]
            assert seqs(messages[at:], "signals") == []
            assert [each for each in messages if each.get("type") == "gap"] == []
            assert len(seqs(messages, "logs")) == 5
            client.close()
            await client.ended()


async def test_what_was_under_way_of_a_channel_does_not_come_back_behind_unsubscribed_on_a_resumed_connection(
    autojump_clock: MockClock,
) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        client.stall(20)
        emit(world, 3)
        await world.settle()
        client.send("unsubscribe", channels=["signals"])
        await world.settle()
        client.vanish()
        await world.settle()
        heir = await world.connect(resume=client.token)
        assert heir.connected["channels"] == []
        heir.subscribe("signals")
        await heir.expect("subscribed", positions={"signals": {"epoch": world.state.epoch, "seq": 3}})
        emit(world)
        await heir.expect(None, seq=4)


async def test_a_channel_subscribed_anew_goes_on_before_what_waits_of_it(autojump_clock: MockClock) -> None:
    """Its position stands before every event that follows, also where the client is slow and many wait."""
    async with running() as world:
        client = await world.subscriber("signals")
        client.stall(1000)
        for _ in range(20):
            emit(world, 5)
            await world.settle()
        client.subscribe("signals", "logs", id=1)
        await world.settle()
        client.flow()
        await world.settle()
        messages = client.take()
        (at,) = [index for index, each in enumerate(messages) if each.get("type") == "subscribed"]
        assert messages[at]["channels"] == ["signals", "logs"]
        position = messages[at]["positions"]["signals"]["seq"]
        assert 0 < position < 100
        assert seqs(messages[:at]) == list(range(1, position + 1))
        assert seqs(messages[at:]) == list(range(position + 1, 101))
        assert world.state.subscriptions.total == 2


async def test_with_too_many_subscriptions_there_is_one_error_and_nothing_changes(autojump_clock: MockClock) -> None:
    async with running(Config(max_subscriptions=3)) as world:
        client = await world.subscriber("signals", "logs")
        client.subscribe("metrics", "status", "signals", id=1)
        error = await client.expect("error", id=1, code="too_many_subscriptions")
        assert "3" in error["message"]
        client.subscribe("metrics", "signals", id=2)
        await client.expect("subscribed", id=2)
        client.send("get_subscriptions", id=3)
        await client.expect("subscriptions", id=3, channels=["logs", "metrics", "signals"])


async def test_replies_keep_the_order_of_requests_also_where_the_client_is_slow(autojump_clock: MockClock) -> None:
    async with running() as world:
        for room in (0, 100, 700):
            client = await world.subscriber("signals")
            client.stall(room)
            for number in range(30):
                match number % 6:
                    case 0:
                        client.publish(id=number)
                    case 1:
                        client.send("ping", id=number)
                    case 2:
                        client.subscribe("logs", id=number)
                    case 3:
                        client.send_text(text("nope", id=number))
                    case 4:
                        client.send("get_subscriptions", id=number)
                    case _:
                        client.send("unsubscribe", channels=["logs"], id=number)
                if number % 4 == 0:
                    await world.settle()
            await world.settle()
            client.flow()
            await world.settle()
            messages = client.take()
            assert [each["id"] for each in messages if "type" in each] == list(range(30))
            assert len(seqs(messages)) == 5
            client.close()
            await client.ended()


# To one client, one user, or all


async def test_an_event_goes_to_one_client_one_user_or_all(autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        ada, ada_too, bob = [await world.connect(token=world.jwt(user)) for user in ("ada", "ada", "bob")]
        world.router.tell(SendTo("note", b'{"n":1}', client_id=ada.client_id))
        world.router.tell(SendTo("note", b'{"n":2}', user_id="ada"))
        world.router.tell(SendTo("note", b'{"n":3}'))
        world.router.tell(SendTo("note", b"{}", client_id="nobody"))
        world.router.tell(SendTo("note", b"{}", user_id="nobody"))
        await world.settle()
        received = [client.take() for client in (ada, ada_too, bob)]
        assert [[(each["channel"], each["data"]["n"]) for each in messages] for messages in received] == [
            [("personal", 1), ("personal", 2), ("global", 3)],
            [("personal", 2), ("global", 3)],
            [("global", 3)],
        ]
        assert received[0][0] == {
            "channel": "personal",
            "timestamp": "2024-12-29T12:00:00.000Z",
            "event_type": "note",
            "data": {"n": 1},
        }
        assert world.state.counters.matched == 6


async def test_a_detached_session_keeps_its_personal_events_under_the_same_bound(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=5)) as world:
        client = await world.connect()
        client.vanish()
        await world.settle()
        for number in range(8):
            world.router.tell(SendTo("note", b'{"n":%d}' % number, client_id=client.client_id))
        world.router.tell(SendTo("note", b"{}"))
        await world.settle()
        heir = await world.connect(resume=client.token)
        await world.settle()
        messages = heir.take()
        gaps = [each for each in messages if each.get("type") == "gap"]
        assert {(gap["of"], gap["from"], gap["to"], gap["reason"]) for gap in gaps} == {
            ("personal", None, None, "buffer_overflow")
        }
        assert sum(gap["count"] for gap in gaps) == 4
        assert [each["data"]["n"] for each in events(messages, "personal")] == [4, 5, 6, 7]
        assert len(events(messages, "global")) == 1
        assert world.state.dropped_events() == 4


# A crash


async def test_a_crash_loses_one_message_and_nothing_else(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        gone = await world.subscriber("logs")
        gone.vanish()
        await world.settle()
        client.publish(id=1)
        emit(world, 1, "logs")
        emit(world, 1, "no such channel")
        client.publish(id=2)
        await trio.sleep(1)
        assert world.restarts == 1
        assert client.connected["epoch"] == world.state.epoch
        await world.settle()
        assert sorted(kinds(client.take()), key=str) == [("published", 1), ("published", 2), (None, 1), (None, 2)]
        heir = await world.connect(resume=gone.token)
        await heir.expect(None, channel="logs", seq=1)
        client.send("get_subscriptions")
        await client.expect("subscriptions", channels=["signals"])


@pytest.mark.parametrize("poison_at", range(4))
async def test_who_sent_the_lost_letter_gets_internal_for_each_message_not_yet_answered(
    poison_at: int, autojump_clock: MockClock
) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        (session,) = world.state.sessions
        event = Publish("signals", "x")
        items: list[Any] = [
            Events("signals", [event], 1),
            reply("pong", 2),
            SubscribeTo(["logs"], {}, 3),
            Events("signals", [event]),
            reply("pong", 5),
        ]
        items.insert(poison_at, Events("signals", [Publish("signals", "no type")], "poison"))
        world.router.tell(Letter(session, client.lane, items))
        client.send("ping", id=6)
        await trio.sleep(1)
        assert world.restarts == 1
        replies = [each for each in client.take() if "type" in each]
        answers: list[tuple[Any, Any]] = [("published", 1), ("pong", 2), ("subscribed", 3), ("pong", 5)]
        for index in range(poison_at, 4):
            if answers[index][0] != "pong":
                answers[index] = ("error", answers[index][1])
        expected = [*answers[:poison_at], ("error", "poison"), *answers[poison_at:], ("pong", 6)]
        if poison_at == 3:  # behind the one that has no id
            expected = [*answers[:3], ("error", "poison"), answers[3], ("pong", 6)]
        assert kinds(replies) == expected
        assert {each["code"] for each in replies if each["type"] == "error"} == {"internal"}


@pytest.mark.parametrize("lost", [True, False])
async def test_a_reader_that_waits_until_its_letter_is_done_goes_on_also_where_it_is_lost(
    lost: bool, autojump_clock: MockClock
) -> None:
    async with running() as world:
        client = await world.connect()
        (session,) = world.state.sessions
        done = trio.Event()
        event = Publish("signals", "no type" if lost else "x")
        world.router.tell(Letter(session, client.lane, [Events("signals", [event])], done))
        await done.wait()
        assert world.restarts == lost


async def test_events_that_were_not_fanned_out_at_a_crash_are_so_afterwards(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as world:
        client = await world.subscriber("signals", "logs")
        gate = await world.hold(monkeypatch)
        emit(world, 2)
        emit(world, 1, "logs")
        emit(world, 1, "no such channel")
        await world.settle()
        gate.set()
        await trio.sleep(1)
        messages = client.take()
        assert (seqs(messages), seqs(messages, "logs")) == ([1, 2], [1])
        assert len(messages) == 3


class Bomb:
    """Lets the fan-out fail at the reader that is offered something for the `at`-th time from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *kinds: type) -> None:
        self.at: int | None = None
        for kind in kinds:
            monkeypatch.setattr(kind, "offer", self._wrap(kind.offer))  # type: ignore[attr-defined]

    def _wrap(self, offer: Callable[[Any, Queue, Batch], None]) -> Callable[[Any, Queue, Batch], None]:
        def offer_or_fail(outlet: Any, queue: Queue, batch: Batch) -> None:
            if self.at is not None:
                self.at -= 1
                if self.at < 0:
                    self.at = None
                    raise RuntimeError("amid a fan-out")
            offer(outlet, queue, batch)

        return offer_or_fail


def assert_broken(messages: list[Json], channel: str, old: str, missing_from: int, new: str) -> None:
    """The old epoch ends in a gap, the new one is told, and its first event comes."""
    gap, position, event = messages
    assert gap == {
        "type": "gap", "of": channel, "epoch": old, "from": missing_from, "to": None, "count": None,
        "reason": "epoch_changed",
    }  # fmt: skip
    assert position == {"type": "position", "positions": {channel: {"epoch": new, "seq": 0}}}
    assert (event["channel"], event["seq"]) == (channel, 1)


async def test_a_crash_amid_a_fan_out_begins_an_epoch_that_everybody_is_told_before_the_next_event(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = Bomb(monkeypatch, Lane, Session)
    async with running() as world:
        clients = [await world.subscriber("signals", "logs") for _ in range(4)]
        emit(world, 2)
        await world.settle()
        clients[3].vanish()
        await world.settle()
        assert [seqs(client.take()) for client in clients] == [[1, 2]] * 4
        bomb.at = 2
        old = world.state.epoch
        emit(world, 3)
        await trio.sleep(1)
        assert world.restarts == 1
        emit(world)
        emit(world, 1, "logs")
        await world.settle()
        clients[3] = await world.connect(resume=clients[3].token)
        assert clients[3].connected["epoch"] == world.state.epoch != old
        assert clients[3].connected["positions"]["signals"] == {"epoch": old, "seq": 2}
        await world.settle()
        for index, client in enumerate(clients):
            messages = client.take()
            signals = [each for each in messages if "signals" in str(each)]
            logs = [each for each in messages if "logs" in str(each)]
            assert len(signals) + len(logs) == len(messages)
            got, missing_from = ([3, 4, 5], 6) if index < 2 else ([], 3)
            assert seqs(signals[:-1]) == got
            assert_broken(signals[len(got) :], "signals", old, missing_from, world.state.epoch)
            assert_broken(logs, "logs", old, 1, world.state.epoch)
        clients[0].subscribe("signals", id=1)
        await clients[0].expect("subscribed", positions={"signals": {"epoch": world.state.epoch, "seq": 1}})


async def test_events_published_by_a_letter_that_fails_in_the_fan_out_are_answered_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were appended, and so answered; what came behind them in the letter was not looked at."""
    bomb = Bomb(monkeypatch, Lane)
    async with running() as world:
        client = await world.subscriber("signals")
        await world.settle()
        bomb.at = 0
        client.send_text(
            text("publish", channel="signals", event_type="x", id=1), text("subscribe", channels=["logs"], id=2)
        )
        await trio.sleep(1)
        assert world.restarts == 1
        replies = [each for each in client.take() if each.get("type") in ("published", "error", "subscribed")]
        assert kinds(replies) == [("published", 1), ("error", 2)]


async def test_a_full_batch_that_fails_in_the_fan_out_is_answered_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = Bomb(monkeypatch, Lane)
    async with running(Config(max_message_bytes=1 << 20, max_event_bytes=1 << 20)) as world:
        client = await world.subscriber("signals")
        bomb.at = 0
        client.publish(data={"text": "x" * FULL_BATCH_BYTES}, id=1)
        await trio.sleep(1)
        assert world.restarts == 1
        assert kinds([each for each in client.take() if "id" in each]) == [("published", 1)]


async def test_a_state_that_is_unsound_after_a_crash_begins_an_epoch(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        world.state.subscriptions.remove(*world.state.subscriptions.readers("signals"))
        old = world.state.epoch
        await world.crash()
        await client.expect("gap", of="signals", epoch=old, reason="epoch_changed")
        await client.expect("position", positions={"signals": {"epoch": world.state.epoch, "seq": 0}})
        emit(world)
        await client.expect(None, seq=1)


async def test_a_crash_without_harm_begins_no_epoch(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        await world.crash()
        emit(world)
        await client.expect(None, seq=1)


@pytest.mark.parametrize("resumes", [False, True])
@pytest.mark.parametrize("step", ["before", "amid", "after"])
async def test_a_crash_on_the_way_to_a_session_leaves_no_session_that_nobody_has(
    step: str, resumes: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is closed 1011, and its session can be resumed, or goes when its time is over."""
    broken = True

    def fail_once() -> None:
        nonlocal broken
        if broken:
            broken = False
            raise RuntimeError("poisoned")

    def poisoned_attach(state: RouterState, *args: Any) -> None:
        if step == "before":
            fail_once()
        attach(state, *args)
        fail_once()

    lane_attach = Lane.attach

    def poisoned_lane_attach(lane: Lane, outbox: Any) -> None:
        if step == "amid":
            fail_once()
        lane_attach(lane, outbox)

    async with running(watched=True) as world:
        gone = await world.subscriber("signals")
        gone.vanish()
        await world.settle()
        monkeypatch.setattr("router.hub.actor.attach", poisoned_attach)
        monkeypatch.setattr(Lane, "attach", poisoned_lane_attach)
        client = world.open(resume=gone.token if resumes else None)
        if step == "after":  # it has been answered: only its announcement is lost
            await client.expect("connected")
            client.vanish()
        else:
            assert (await client.ended())[0] == 1011
        await trio.sleep(1)
        assert world.restarts == 1
        assert world.state.sessions.connected == 0
        assert is_sound(world.state)
        emit(world)
        heir = await world.connect(resume=gone.token)
        await heir.expect(None, seq=1)
        heir.close()
        await trio.sleep(310)
        world.assert_nothing_left()


async def test_a_crash_on_a_departure_does_not_lose_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(state: RouterState, message: Depart, now: float) -> None:
        monkeypatch.setattr("router.hub.actor.depart", depart)
        raise RuntimeError("poisoned")

    async with running() as world:
        client = await world.subscriber("signals")
        monkeypatch.setattr("router.hub.actor.depart", poisoned)
        client.close()
        await trio.sleep(2)
        assert world.restarts == 1
        world.assert_nothing_left()


async def test_a_crash_on_a_drain_is_told_to_who_asked(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(hub: Hub) -> int:
        raise RuntimeError("poisoned")

    async with running() as world:
        monkeypatch.setattr(Hub, "_say_goodbye", poisoned)
        with pytest.raises(NoReplyError):
            await world.router.ask(Drain)


# Time


async def test_what_time_ends_is_ended_also_where_the_mailbox_refuses_every_tick(autojump_clock: MockClock) -> None:
    async with running() as world:
        gone = await world.subscriber("signals")
        gone.vanish()
        await world.settle()
        await trio.sleep(301)
        emit(world, 1, "logs")
        await world.settle()
        world.assert_nothing_left()


# The drain


async def test_a_drain_says_goodbye_to_all_behind_what_waits_each_with_a_slot_of_its_own(
    autojump_clock: MockClock,
) -> None:
    async with running(Config(reconnect_spread_s=4)) as world:
        clients: list[Client] = [await world.subscriber("signals") for _ in range(4)]
        gone = await world.subscriber("signals")
        gone.vanish()
        clients[0].stall()
        emit(world, 3)
        await world.settle()
        assert await world.router.ask(Drain) == 4
        await world.settle()
        clients[0].flow()
        slots = []
        for client in clients:
            assert await client.ended() == (1001, "the server is going down")
            *before, goodbye = client.take()
            assert seqs(before) == [1, 2, 3]
            assert (goodbye["type"], goodbye["reason"]) == ("goodbye", "shutdown")
            slots.append(goodbye["reconnect_after_ms"])
        assert sorted(slots) == [250, 1250, 2250, 3250]


async def test_what_was_published_before_a_drain_comes_before_goodbye_however_long_its_fan_out(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        draining: Outbox | None = None

        def offer(self, queue: Queue, batch: Batch) -> None:
            autojump_clock.jump(0.001)

        def waiting_for(self, queue: Queue) -> tuple[int, int]:
            return 0, 0

        def entries_of(self, queue: Queue) -> Iterator[Slice | Gap]:
            return iter(queue.entries)

    async with running() as world:
        for _ in range(200):
            world.state.subscriptions.add(Subscription("signals", Slow()))
        client = await world.subscriber("signals")
        emit(world)
        await world.router.ask(Drain)
        await client.expect(None, seq=1)
        await client.expect("goodbye")


async def test_a_drain_of_nobody_is_over_at_once(autojump_clock: MockClock) -> None:
    async with running() as world:
        assert await world.router.ask(Drain) == 0


@pytest.mark.parametrize("resumes", [False, True])
async def test_who_comes_during_a_drain_is_refused(resumes: bool, autojump_clock: MockClock) -> None:
    async with running() as world:
        gone = await world.connect()
        gone.vanish()
        await world.settle()
        await world.router.ask(Drain)
        late = world.open(resume=gone.token if resumes else None)
        assert await late.ended() == (1001, "the server is going down")
        assert late.take() == []
        assert world.state.sessions.connected == 0
