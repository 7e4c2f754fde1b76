"""Resuming with positions: every case of the contract's table, and the wait for what the client has to say."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from router.config import Config
from router.hub.crash import begin_epoch
from router.ledger import Ledger
from tests.router.harness import Client, Json, World, running
from tests.router.telling import BREAK, OVERFLOW, SLOW, TRIMMED, Short, at, away, gap, publish, short, told
from tests.router.test_ledger import ledger_of

ODD = {"data.odd": 1}


async def gone(world: World, *channels: str, before: int = 5, meanwhile: int = 0, **options: Any) -> Client:
    """A client that got events 1 to 5 on each channel and lost its connection; more have come since."""
    client = await world.connect()
    client.subscribe(*channels, **options)
    await client.expect("subscribed")
    for channel in channels:
        await publish(world, before, channel)
    await away(world, client)
    for channel in channels:
        await publish(world, meanwhile, channel)
    return client


async def back(world: World, client: Client, positions: Json | None = None) -> tuple[Client, list[Json]]:
    """It comes back; with positions, it resumes. All that it is sent."""
    again = await world.connect("resume=1", resume=client.token)
    assert again.connected["reconnected"] is True
    await world.settle()
    assert again.take() == [], "nothing before it has spoken"
    again.send("resume", positions=positions, id="r")
    await world.settle()
    return again, again.take()


def resumed(messages: list[Json]) -> tuple[list[Json], Json, list[Json]]:
    """What came before `resumed`, that, and what came behind it."""
    at_ = [message.get("type") for message in messages].index("resumed")
    return messages[:at_], messages[at_], messages[at_ + 1 :]


# The table


@pytest.mark.parametrize(
    ("seq", "past"),
    [
        (None, [6, 7, 8]),  # no position: from the server's mark
        (8, []),
        (7, [8]),
        (5, [6, 7, 8]),
        (3, [4, 5, 6, 7, 8]),
        (0, [1, 2, 3, 4, 5, 6, 7, 8]),
        (9, [gap(10, None, BREAK), 1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
async def test_what_follows_the_clients_position_is_sent_and_no_more(
    seq: int | None, past: list[Short], autojump_clock: MockClock
) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=3)
        positions = {} if seq is None else {"signals": at(world, seq)}
        again, messages = await back(world, client, positions)
        before, answer, behind = resumed(messages)
        assert told(before) == past
        events = sum(isinstance(each, int) for each in past)
        assert answer == {
            "type": "resumed", "id": "r", "channels": ["signals"], "replayed": events,
            "timestamp": "2024-12-29T12:00:00.000Z",
        }  # fmt: skip
        assert behind == []
        await publish(world, 1)
        assert told(again.take()) == [9]


@pytest.mark.parametrize(
    ("seq", "past"),
    [
        (None, [16, 17, 18]),
        (14, [15, 16, 17, 18]),
        (8, [*range(9, 19)]),
        (7, [gap(8, 8, TRIMMED), *range(9, 19)]),
        (2, [gap(3, 8, TRIMMED), *range(9, 19)]),
        (19, [gap(20, None, BREAK), gap(1, 8, TRIMMED), *range(9, 19)]),
    ],
)
async def test_what_is_held_no_more_is_a_gap(seq: int | None, past: list[Short], autojump_clock: MockClock) -> None:
    async with running(Config(history_events=10)) as world:
        client = await gone(world, "signals", before=15, meanwhile=3)
        _, messages = await back(world, client, {} if seq is None else {"signals": at(world, seq)})
        assert told(resumed(messages)[0]) == past


async def test_a_position_of_another_epoch_is_told_as_such(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=2)
        _, messages = await back(world, client, {"signals": at(world, 3, "elder")})
        assert messages[0]["epoch"] == "elder"
        assert told(messages) == [gap(4, None, BREAK), *range(1, 8)]


async def test_a_position_for_a_channel_that_is_not_subscribed_is_ignored(autojump_clock: MockClock) -> None:
    async with running() as world:
        await publish(world, 3, "actions")
        client = await gone(world, "signals", meanwhile=1)
        _, messages = await back(world, client, {"actions": at(world, 0), "nope": at(world, 5)})
        assert [short(message) for message in messages] == [6, "resumed"]
        assert messages[-1]["channels"] == ["signals"]


async def test_more_than_is_replayed_at_once_is_one_gap_a_channel(autojump_clock: MockClock) -> None:
    async with running(Config(max_replay=4)) as world:
        client = await gone(world, "signals", "actions", before=3, meanwhile=0)
        await trio.sleep(1)
        await publish(world, 2)
        await trio.sleep(1)
        await publish(world, 3, "actions")
        _, messages = await back(world, client, {"signals": at(world, 1), "actions": at(world, 2)})
        before, answer, _ = resumed(messages)
        assert told(before) == [gap(2, 4, OVERFLOW), 5]
        assert told(before, "actions") == [gap(3, 3, OVERFLOW), 4, 5, 6]
        assert answer["replayed"] == 4


async def test_what_a_bound_and_the_history_cost_is_one_gap(autojump_clock: MockClock) -> None:
    async with running(Config(max_replay=4, history_events=10)) as world:
        client = await gone(world, "signals", before=20)
        _, messages = await back(world, client, {"signals": at(world, 5)})
        assert told(messages) == [gap(6, 16, OVERFLOW), 17, 18, 19, 20]


async def test_what_a_detached_session_lost_is_one_gap_with_what_its_client_lost_before(
    autojump_clock: MockClock,
) -> None:
    async with running(Config(detached_events=2, history_events=3)) as world:
        client = await gone(world, "signals", before=5, meanwhile=6)
        _, messages = await back(world, client, {"signals": at(world, 3)})
        assert told(messages) == [gap(4, 8, OVERFLOW), 9, 10, 11]  # of 6, 7 and 8 nobody knows why they are gone


async def test_a_client_that_has_what_waits_is_not_sent_it(autojump_clock: MockClock) -> None:
    """What was in flight when the connection died may have come, or not: the client knows."""
    async with running(Config(detached_events=3, history_events=3)) as world:
        client = await gone(world, "signals", before=2, meanwhile=7)
        again, messages = await back(world, client, {"signals": at(world, 8)})
        assert told(messages) == [9]
        await away(world, again)
        await publish(world, 6)
        _, messages = await back(world, again, {"signals": at(world, 11)})
        assert told(messages) == [gap(12, 12, OVERFLOW), 13, 14, 15], "of the gap what is missing of it"


# Filters


async def test_a_filtered_client_goes_on_from_where_the_server_has_looked(autojump_clock: MockClock) -> None:
    """Its last event is long ago, and nothing that it wants came since: there is no gap."""
    async with running(Config(history_events=10)) as world:
        client = await gone(world, "signals", filter={"data.n": {"$in": [3, 4, 50]}})
        await publish(world, 40)
        _, messages = await back(world, client, {"signals": at(world, 4)})
        assert told(messages) == []


async def test_a_filtered_client_that_has_not_all_is_told_that_it_may_be_more(autojump_clock: MockClock) -> None:
    async with running(Config(history_events=10)) as world:
        client = await gone(world, "signals", filter={"data.n": {"$in": [3, 4, 50]}})
        await publish(world, 40)
        _, messages = await back(world, client, {"signals": at(world, 3)})
        assert told(messages) == [(4, 4, 1, TRIMMED, "inexact")]


async def test_what_waits_for_a_filtered_client_comes_without_a_gap_however_far_it_is(
    autojump_clock: MockClock,
) -> None:
    async with running(Config(history_events=10)) as world:
        client = await gone(world, "signals", filter={"data.n": {"$in": [3, 4, 50, 51]}})
        await publish(world, 40)
        await publish(world, 40)
        again, messages = await back(world, client, {"signals": at(world, 4)})
        assert told(messages) == [50, 51]
        await away(world, again)
        _, messages = await back(world, again, {"signals": at(world, 50)})
        assert told(messages) == [(51, 51, 1, TRIMMED, "inexact")]


async def test_a_client_that_asks_for_something_else_now_gets_it_from_then_on(autojump_clock: MockClock) -> None:
    async with running(Config(history_events=20)) as world:
        other = await world.connect()
        other.subscribe("signals", filter={"data.n": 2})
        await other.expect("subscribed")
        client = await gone(world, "signals", before=10)
        again, _ = await back(world, client, {"signals": at(world, 10)})
        again.subscribe("signals", filter={"data.n": 2})  # its group has not had an event since the second
        await again.expect("subscribed")
        await publish(world, 5)
        await away(world, again)
        _, messages = await back(world, again, {"signals": at(world, 7)})
        assert told(messages) == [], "by the filter in force; the others were of another one"


# What a policy has done


async def test_what_was_replaced_is_no_gap_and_does_not_come(autojump_clock: MockClock) -> None:
    async with running(Config(history_events=5)) as world:
        client = await gone(world, "signals", policy="latest")
        await publish(world, 20)
        again, messages = await back(world, client, {"signals": at(world, 5)})
        assert told(messages) == [25]
        again.stall(30)
        await publish(world, 1)  # partly out
        await publish(world, 10, together=False)
        await away(world, again)
        await publish(world, 10)
        third, messages = await back(world, again, {"signals": at(world, 25)})
        assert told(messages) == [46]
        assert third.usable


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "disconnect"])
@pytest.mark.parametrize("positions", [3, None])
async def test_what_was_given_up_and_is_held_comes_where_the_client_was_not_told_of_it(
    policy: str, positions: int | None, autojump_clock: MockClock
) -> None:
    async with running(Config(detached_events=3)) as world:
        client = await gone(world, "signals", policy=policy, meanwhile=6)
        assert ledger_of(world, client).dropped == {OVERFLOW: 3}
        where = {} if positions is None else {"signals": at(world, positions)}
        again, messages = await back(world, client, where)
        before = [] if positions is None else [4, 5]
        assert told(messages) == [*before, 6, 7, 8, 9, 10, 11]
        assert ledger_of(world, again) == Ledger(offered=11, matched=11, delivered=11, resent=len(before))
        assert world.state.dropped_events() == 0


async def test_a_gap_that_was_told_stays_one(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=3)) as world:
        client = await gone(world, "signals", policy="drop_newest", meanwhile=6)
        again = await world.connect(resume=client.token)
        await world.settle()
        assert told(again.take()) == [6, 7, 8, gap(9, 11, OVERFLOW)]
        await away(world, again)
        await publish(world, 1)
        third, messages = await back(world, again, {"signals": at(world, 11)})
        assert told(messages) == [12]
        assert ledger_of(world, third).dropped == {OVERFLOW: 3}


async def test_what_was_given_up_comes_as_far_as_it_is_held(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=2, history_events=4)) as world:
        client = await gone(world, "signals", meanwhile=7)
        again, messages = await back(world, client, {"signals": at(world, 5)})
        assert told(messages) == [gap(6, 8, OVERFLOW), 9, 10, 11, 12]
        assert ledger_of(world, again) == Ledger(offered=12, matched=12, delivered=9, dropped={OVERFLOW: 3})


async def test_of_what_was_given_up_that_comes_which_matches(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=1, history_events=6)) as world:
        client = await gone(world, "signals", meanwhile=10, filter=ODD)  # 7, 9, 11, 13 are lost, 10 and later held
        again, messages = await back(world, client, {"signals": at(world, 5)})
        assert told(messages) == [(7, 9, 2, OVERFLOW), 11, 13, 15]
        assert ledger_of(world, again).dropped == {OVERFLOW: 2}


async def test_what_was_given_up_is_not_asked_whether_it_matches_something_else(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=3)) as world:
        client = await gone(world, "signals", filter=ODD, before=1)
        again = await world.connect(resume=client.token)
        again.stall(0)
        await publish(world, 12)
        again.subscribe("signals", filter={"data.half": {"$gte": 0}})
        await world.settle()
        await away(world, again)
        third, messages = await back(world, again, {"signals": at(world, 1)})
        assert told(messages) == [(3, 7, 3, SLOW), 9, 11, 13]
        assert ledger_of(world, third).dropped == {SLOW: 3}


async def test_what_was_given_up_of_another_epoch_is_gone(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=2)) as world:
        client = await gone(world, "signals", meanwhile=5)
        begin_epoch(world.state)
        await publish(world, 9)
        again, messages = await back(world, client, {})
        old, new = gap(6, 10, OVERFLOW), [1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert told(messages) == [old, gap(11, None, BREAK), *new]
        assert ledger_of(world, again).dropped == {OVERFLOW: 2}, "what waited went over into the new account"


async def test_what_was_given_up_and_is_held_no_more_stays_a_gap(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=3, history_events=2)) as world:
        client = await gone(world, "signals", meanwhile=6)
        _, messages = await back(world, client, {"signals": at(world, 5)})
        assert told(messages) == [gap(6, 8, OVERFLOW), 9, 10, 11]


async def test_of_a_gap_that_a_filtered_client_has_in_part_nobody_knows_how_many_match(
    autojump_clock: MockClock,
) -> None:
    async with running(Config(detached_events=1, history_events=1)) as world:
        client = await gone(world, "signals", meanwhile=10, filter=ODD)
        _, messages = await back(world, client, {"signals": at(world, 9)})
        assert told(messages) == [(10, 13, 4, OVERFLOW, "inexact"), 15]


async def test_a_gap_of_which_nothing_is_held_stays_as_it_is(autojump_clock: MockClock) -> None:
    async with running(Config(history_events=2, detached_events=1)) as world:
        await publish(world, 6)
        client = await world.connect()
        client.stall(0)
        client.subscribe("signals", filter=ODD, recover={"signals": at(world, 0)})
        await away(world, client)
        await publish(world, 6)  # 5, 7 and 9 are given up, and join what the history had lost
        again, messages = await back(world, client, {})
        assert told(messages) == [(1, 9, 7, OVERFLOW, "inexact"), 11]
        assert ledger_of(world, again).dropped == {TRIMMED: 4, OVERFLOW: 3}


async def test_what_was_given_up_comes_though_its_gap_is_inexact(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=1, history_events=4)) as world:
        client = await gone(world, "signals", meanwhile=10, filter=ODD)
        stalled = await world.connect("resume=1", resume=client.token)
        stalled.stall(0)
        stalled.send("resume", positions={"signals": at(world, 9)})
        await away(world, stalled)  # 13 is given up once more, and joins the gap before it
        again, messages = await back(world, stalled, {"signals": at(world, 9)})
        assert told(messages) == [(10, 11, 2, OVERFLOW, "inexact"), 13, 15]
        assert ledger_of(world, again).dropped == {OVERFLOW: 3}


async def test_what_comes_after_all_is_counted_as_lost_no_more(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=3, detached_events=2)) as world:
        client = await gone(world, "signals", meanwhile=1)
        begin_epoch(world.state)
        again, _ = await back(world, client, {"signals": at(world, 0)})
        again.stall(0)
        await publish(world, 8, together=False)
        await away(world, again)  # both bounds have cost something, in one gap
        assert ledger_of(world, again).dropped == {BREAK: 1, SLOW: 5, OVERFLOW: 1}
        third, messages = await back(world, again, {"signals": at(world, 0)})
        assert told(messages) == [*range(1, 9)]
        assert ledger_of(world, third).dropped == {BREAK: 1}


# The wait


async def test_a_client_that_says_nothing_is_served_from_the_marks_after_five_seconds(
    autojump_clock: MockClock,
) -> None:
    async with running(watched=True) as world:
        client = await gone(world, "signals", meanwhile=2)
        again = await world.connect("resume=1", resume=client.token)
        await trio.sleep(4)
        await publish(world, 1)
        assert told(again.take()) == []
        await trio.sleep(3)
        assert told(again.take()) == [6, 7, 8]
        again.send("resume", positions={}, id=1)
        await again.expect("error", code="invalid_message", id=1)


async def test_another_first_message_ends_the_wait(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=2)
        again = await world.connect("resume=1", resume=client.token)
        again.send_text('{"type":"ping"}', '{"type":"resume","positions":{},"id":1}')
        await again.reply("pong")
        await again.reply("error", code="invalid_message", id=1)
        await world.settle()
        assert not world.state.sessions.holding
        await publish(world)
        assert told(again.take())[-1] == 8


async def test_a_second_resume_is_out_of_place(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=2)
        again, _ = await back(world, client, {"signals": at(world, 5)})
        again.send("resume", positions={"signals": at(world, 0)}, id=2)
        await again.expect("error", code="invalid_message", id=2)
        await world.settle()
        assert again.take() == []


async def test_an_invalid_resume_ends_the_wait_and_the_marks_hold(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=2)
        _, messages = await back(world, client, {"signals": 5})
        assert [short(message) for message in messages] == ["error", 6, 7]


async def test_a_client_without_a_session_may_resume_nothing(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect("resume=1", resume="nobody's")
        assert client.connected["reconnected"] is False
        client.send("resume", positions={"signals": at(world, 5)}, id="r")
        await client.expect("resumed", channels=[], replayed=0, id="r")


async def test_while_the_client_is_waited_for_replies_come_and_events_do_not(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await gone(world, "signals")
        again = await world.connect("resume=1", resume=client.token)
        await publish(world, 2)
        await world.settle()
        assert again.take() == []
        assert world.state.buffered_events() == 2
        again.send_text('{"type":"resume","positions":{},"id":1}', '{"type":"ping","id":2}')
        await world.settle()
        assert [short(message) for message in again.take()] in (["pong", 6, 7, "resumed"], [6, 7, "resumed", "pong"])


async def test_a_client_that_is_gone_before_it_has_spoken_comes_back_to_the_same(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=2)
        again = await world.connect("resume=1", resume=client.token)
        again.vanish()
        await world.settle()
        assert not world.state.sessions.holding
        third = await world.connect(resume=client.token)
        await world.settle()
        assert told(third.take()) == [6, 7]


async def test_a_client_that_ends_its_session_before_it_has_spoken_leaves_nothing(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=2)
        again = await world.connect("resume=1", resume=client.token)
        again.close(1000)
        await again.ended()
        await world.settle()
        assert not world.state.sessions.holding
        world.assert_nothing_left()


# What becomes of a replay


async def test_a_second_resume_starts_from_what_the_client_says_then(autojump_clock: MockClock) -> None:
    """It had a part of the replay. What was sent before is forgotten with the connection, what is news is not."""
    async with running() as world:
        client = await gone(world, "signals", meanwhile=5)
        again = await world.connect("resume=1", resume=client.token)
        again.stall(300)
        again.send("resume", positions={"signals": at(world, 1)})
        await world.settle()
        had = told(again.take())
        assert had
        assert len(had) < 4
        again.vanish()
        await publish(world, 1)
        third = await world.connect("resume=1", resume=again.token)
        assert third.connected["positions"] == {"signals": at(world, 5)}
        third.send("resume", positions={"signals": at(world, 1 + len(had))})
        await world.settle()
        rest = told(third.take(), None)
        assert [*had, *rest] == [*range(2, 12), "resumed"]


async def test_what_is_left_of_a_replay_stands_behind_what_was_sent_of_it(autojump_clock: MockClock) -> None:
    async with running() as world:
        await publish(world, 10)
        client = await world.connect()
        client.stall(600)
        client.subscribe("signals", filter={"data.half": {"$gte": 2}}, recover={"signals": at(world, 0)})
        await world.settle()
        *_, last = told(client.take())
        assert last in (5, 6, 7, 8), "some came, and some did not"
        await away(world, client)
        again = await world.connect(resume=client.token)
        assert again.connected["positions"] == {"signals": at(world, last)}
        await world.settle()
        assert told(again.take()) == [*range(last + 1, 11)]


async def test_a_gap_that_was_told_is_told_again_to_a_client_that_is_before_it(autojump_clock: MockClock) -> None:
    async with running(Config(history_events=2)) as world:
        await publish(world, 5)
        client = await world.connect()
        client.stall(380)
        client.subscribe("signals", filter=ODD, recover={"signals": at(world, 0)})
        await world.settle()
        trimmed = gap(1, 3, TRIMMED, "inexact")
        assert told(client.take()) == [trimmed], "and no event yet"
        await away(world, client)
        _, messages = await back(world, client, {"signals": at(world, 0)})
        assert told(messages) == [trimmed, 5]


@pytest.mark.parametrize(
    ("past", "start"), [({"last": 2}, 7), ({"since": "2024-12-29T12:00:00.000Z"}, 1), ({"recover": 1}, 1)]
)
async def test_the_past_that_waits_stands_behind_where_the_subscription_began(
    past: Json, start: int, autojump_clock: MockClock
) -> None:
    async with running(Config(history_events=9)) as world:
        await publish(world, 10)
        client = await world.connect()
        if "recover" in past:
            past = {"recover": {"signals": at(world, past["recover"])}}
        client.stall(0)
        client.subscribe("signals", filter={"data.half": 4}, **past)  # 8 and 9
        await world.settle()
        await away(world, client)
        again = await world.connect(resume=client.token)
        assert again.connected["positions"] == {"signals": at(world, start)}
        await world.settle()
        assert told(again.take())[-2:] == [8, 9]


@pytest.mark.parametrize("where", ["in flight", "waiting", "in a replay"])
async def test_what_waits_while_a_client_asks_for_something_else_keeps_its_place(
    where: str, autojump_clock: MockClock
) -> None:
    """Before it stands what the client got, not what others got that ask for the same."""
    async with running() as world:
        client = await world.subscriber("signals")
        await publish(world, 4)
        client.subscribe("signals", filter=ODD)
        await world.settle()
        client.stall()
        await publish(world, 3)
        if where != "in flight":
            await away(world, client)
            client = await world.connect("resume=1", resume=client.token)
            client.stall()
            if where == "in a replay":
                client.send("resume", positions={"signals": at(world, 4)})
        client.subscribe("signals")
        await world.settle()
        await away(world, client)
        _, messages = await back(world, client, {"signals": at(world, 2)})
        assert told(messages) == [3, 4, 5, 7]


async def test_who_spoke_of_the_future_and_takes_it_back_gets_what_waits_as_news(autojump_clock: MockClock) -> None:
    async with running() as world:
        await publish(world, 3)
        client = await world.connect()
        client.stall()
        client.subscribe("signals", recover={"signals": at(world, 9)})
        await world.settle()
        await away(world, client)
        again, messages = await back(world, client, {"signals": at(world, 1)})
        assert told(messages) == [2, 3]
        assert ledger_of(world, again) == Ledger(3, 0, 3, delivered=3)


async def test_in_a_new_epoch_the_mark_of_the_old_one_is_what_the_client_got(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        await publish(world, 4)
        client.subscribe("signals", filter=ODD)
        await world.settle()
        client.stall()
        await publish(world, 3)
        old = world.state.epoch
        begin_epoch(world.state)
        await away(world, client)
        again = await world.connect("resume=1", resume=client.token)
        assert again.connected["positions"] == {"signals": at(world, 4, old)}


async def test_without_positions_what_was_to_be_sent_again_is_not(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=2)
        again = await world.connect("resume=1", resume=client.token)
        again.stall(0)
        again.send("resume", positions={"signals": at(world, 1)})
        await world.settle()
        again.vanish()
        await world.settle()
        third = await world.connect(resume=again.token)
        await world.settle()
        assert told(third.take(), None) == [6, 7]


async def test_a_connection_that_takes_the_session_over_says_where_it_goes_on(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        client.stall(0)
        await publish(world, 5)
        again, messages = await back(world, client, {"signals": at(world, 2)})
        assert told(messages) == [3, 4, 5]
        client.flow()
        assert (await client.ended())[0] == 4502
        await publish(world, 1)
        assert told(again.take()) == [6]


async def test_after_a_new_epoch_the_old_position_is_told_and_the_new_events_come(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=2)
        old = world.state.epoch
        world.state.streams["signals"].seq += 1  # so that the state can't be trusted
        await world.crash()
        await publish(world, 3)
        assert world.state.epoch != old
        again, messages = await back(world, client, {"signals": at(world, 5, old)})
        assert told(messages) == [gap(6, None, BREAK), 1, 2, 3]
        await away(world, again)
        await publish(world, 1)
        _, messages = await back(world, again, {"signals": at(world, 2)})
        assert told(messages) == [3, 4]


async def test_what_waited_of_an_old_epoch_is_a_gap_to_a_client_that_speaks_of_the_new_one(
    autojump_clock: MockClock,
) -> None:
    async with running() as world:
        client = await gone(world, "signals", meanwhile=2)
        world.state.streams["signals"].seq += 1
        await world.crash()
        await publish(world, 3)
        _, messages = await back(world, client, {"signals": at(world, 1)})
        assert told(messages) == [gap(6, None, BREAK), 2, 3]


async def test_without_a_position_the_old_epoch_and_the_new_one_come_in_their_order(autojump_clock: MockClock) -> None:
    async with running(Config(max_replay=4)) as world:
        client = await gone(world, "signals", meanwhile=2)
        world.state.streams["signals"].seq += 1
        await world.crash()
        await publish(world, 3)
        _, messages = await back(world, client, {})
        assert told(messages) == [gap(6, 6, OVERFLOW), 7, gap(8, None, BREAK), 1, 2, 3]
