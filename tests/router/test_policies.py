"""What a slow client's subscriptions give up: each by its policy, and the largest first."""

import json
from collections.abc import Callable

import pytest
from msgspec import Raw
from trio.testing import MockClock

from router.batches import Batch, Slice
from router.clock import Clock
from router.config import Config
from router.engine.memory import Stream
from router.errors import GapReason
from router.filters import Candidate
from router.hub.crash import begin_epoch
from router.letters import Emit
from router.outbox import Outbox, Past
from router.paths import Path
from router.policies import Policy
from router.queues import Gap, Queue
from tests.router.harness import Client, World, running
from tests.router.lanes.streams import event_batch
from tests.router.telling import SLOW, at, away, gap, publish, told
from tests.router.test_outbox import ROOMY, entries_of, events, send
from tests.router.test_outbox import gap as lost

# Over the whole router


async def slow(world: World, policy: str, *, channel: str = "signals", room: int = 0, **options: object) -> Client:
    """A client that is subscribed and has read nothing but the first event, of which it has `room` bytes."""
    client = await world.connect()
    client.subscribe(channel, policy=policy, **options)
    await client.expect("subscribed")
    client.stall(room)
    await publish(world, 1, channel)
    return client


async def flows(world: World, client: Client) -> None:
    client.flow()
    await world.settle()


@pytest.mark.parametrize(
    ("policy", "comes"),
    [
        ("drop_oldest", [1, gap(2, 8), 9, 10, 11]),
        ("drop_newest", [1, 2, 3, 4, gap(5, 11)]),
        ("latest", [1, 11]),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_a_full_outbox_costs_what_the_policy_says(
    policy: str, comes: list[object], together: bool, autojump_clock: MockClock
) -> None:
    async with running(Config(outbox_events=3)) as world:
        client = await slow(world, policy)
        await publish(world, 10, together=together)
        await flows(world, client)
        assert told(client.take()) == comes
        await publish(world, 1)
        assert told(client.take()) == [12]


@pytest.mark.parametrize("room", [0, 1, 50, 99])
@pytest.mark.parametrize("policy", [*Policy])
async def test_an_event_that_is_partly_out_is_never_dropped(
    policy: Policy, room: int, autojump_clock: MockClock
) -> None:
    async with running(Config(outbox_events=2)) as world:
        client = await slow(world, policy, room=room)
        await publish(world, 2)
        await flows(world, client)
        assert told(client.take())[0] == 1


async def test_the_latest_of_each_key_waits(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=100)) as world:
        client = await slow(world, "latest", key="data.odd")
        await publish(world, 5)
        await publish(world, 2)
        await flows(world, client)
        assert told(client.take()) == [1, 7, 8]


async def test_the_filter_comes_before_the_key(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await slow(world, "latest", key="data.half", filter={"data.odd": 1})
        await publish(world, 4)
        await publish(world, 2, together=False)
        await flows(world, client)
        assert told(client.take()) == [1, 3, 5, 7]


async def test_over_the_bound_the_oldest_of_the_latest_goes(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=3)) as world:
        client = await slow(world, "latest", key="data.n")
        await publish(world, 6)
        await flows(world, client)
        assert told(client.take()) == [1, gap(2, 4), 5, 6, 7]


async def test_a_client_too_slow_for_its_policy_is_closed_and_finds_what_is_left(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=3)) as world:
        client = await slow(world, "disconnect")
        await publish(world, 3)
        assert client.usable
        await publish(world, 2)
        assert client.lane.close_request == (4001, "the client is too slow for the subscription's policy")
        client.flow()
        assert (await client.ended())[0] == 4001
        back = await world.connect(resume=client.token)
        await world.settle()
        assert told([*client.take(), *back.take()]) == [1, gap(2, 3), 4, 5, 6]


async def test_only_its_own_overflow_disconnects(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=5)) as world:
        client = await slow(world, "disconnect")
        await publish(world, 1)
        client.subscribe("actions")
        await world.settle()
        await publish(world, 10, "actions")
        await flows(world, client)
        assert client.usable
        messages = client.take()
        assert told(messages) == [1, 2]
        assert told(messages, "actions") == [gap(1, 6), 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("policy", "comes"), [("drop_oldest", [gap(1, 5), 6]), ("drop_newest", [1, gap(2, 6)]), ("latest", [6])]
)
async def test_the_subscription_with_the_most_bytes_pays_by_its_own_policy(
    policy: str, comes: list[object], autojump_clock: MockClock
) -> None:
    async with running(Config(outbox_events=4)) as world:
        client = await slow(world, "drop_newest")
        await publish(world, 1)
        client.subscribe("actions", policy=policy)
        await world.settle()
        for _ in range(2):
            for _ in range(3):
                world.router.tell(Emit("actions", "x", json.dumps({"text": "x" * 300}).encode()))
            await world.settle()
        await publish(world, 2)
        await flows(world, client)
        messages = client.take()
        assert told(messages) == [1, 2, 3, 4]
        assert told(messages, "actions")[-1] == comes[-1] if policy != "latest" else [6]


async def test_options_change_with_the_next_event(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=3)) as world:
        client = await slow(world, "drop_oldest")
        await publish(world, 4)
        client.subscribe("signals", policy="latest")
        await world.settle()
        await publish(world, 4)
        await publish(world, 4)
        client.subscribe("signals", policy="drop_newest")
        await world.settle()
        await publish(world, 2)
        await flows(world, client)
        assert told(client.take()) == [1, gap(2, 3), 4, 5, 13, gap(14, 15)]


@pytest.mark.parametrize("where", ["in flight", "waiting", "in a replay"])
async def test_what_came_before_the_policy_was_latest_stays_when_it_comes_back(
    where: str, autojump_clock: MockClock
) -> None:
    async with running() as world:
        client = await slow(world, "drop_oldest")
        await publish(world, 2)
        if where != "in flight":
            await away(world, client)
            client = await world.connect("resume=1", resume=client.token)
            client.stall()
            if where == "in a replay":
                client.send("resume", positions={"signals": at(world, 0)})
        client.subscribe("signals", policy="latest")
        await world.settle()
        await publish(world, 1)
        await publish(world, 1)
        client.vanish()
        await world.settle()
        back = await world.connect(resume=client.token)
        await world.settle()
        assert told(back.take()) == [1, 2, 3, 5]


async def test_after_a_new_epoch_the_latest_replaces_what_comes_back_of_it(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        client.subscribe("signals", policy="latest")
        await world.settle()
        client.stall()
        await publish(world, 3)
        begin_epoch(world.state)
        await publish(world, 1)
        await publish(world, 1)
        await away(world, client)
        back = await world.connect(resume=client.token)
        await world.settle()
        assert told(back.take()) == [1, 2, 3, gap(4, None, "epoch_changed"), 2]


async def test_a_detached_session_keeps_to_its_policies(autojump_clock: MockClock) -> None:
    async with running(Config(detached_events=3)) as world:
        clients = {policy: await slow(world, policy) for policy in Policy}
        for client in clients.values():
            client.flow()
        await world.settle()
        for client in clients.values():
            await away(world, client)
        await publish(world, 5)
        came = {}
        for policy, client in clients.items():
            back = await world.connect(resume=client.token)
            await world.settle()
            came[policy] = told(back.take())
        overflow = GapReason.BUFFER_OVERFLOW
        first = world.state.streams["signals"].seq - 4
        oldest = [gap(first, first + 1, overflow), *range(first + 2, first + 5)]
        assert came == {
            Policy.DROP_OLDEST: oldest,
            Policy.DROP_NEWEST: [*range(first, first + 3), gap(first + 3, first + 4, overflow)],
            Policy.LATEST: [first + 4],
            Policy.DISCONNECT: oldest,
        }


# One by one


def keyed(first: int, *keys: object, path: str = "k") -> Batch:
    """A batch of events whose `data.k` are these."""
    stream = Stream("a", first - 1)
    stream.stamp(0, Clock())
    for key in keys:
        stream.append([Emit("a", "x", json.dumps({path: key}).encode())])
    batch = stream.flush("e")
    assert batch is not None
    return batch


def seqs_in(queue: Queue) -> list[object]:
    waiting: list[object] = []
    for entry in queue.entries:
        waiting += [entry.first] if isinstance(entry, Gap) else [entry.seq(index) for index in entry.indices]
    return waiting


def outbox_with(
    *batches: Batch, policy: Policy = Policy.LATEST, path: str | None = None, most: int = 100
) -> tuple[Outbox, Queue]:
    outbox, queue = Outbox(most, ROOMY), Queue("a", policy, None if path is None else Path(path))
    for batch in batches:
        outbox.put(queue, batch)
    return outbox, queue


def test_the_older_event_of_a_key_leaves_and_the_newer_goes_to_the_end() -> None:
    outbox, queue = outbox_with(keyed(1, "a", "b", "a", "c"), keyed(5, "b"), path="data.k")
    assert seqs_in(queue) == [3, 4, 5]
    assert (outbox.events, queue.events, queue.replaced) == (3, 3, 2)
    assert outbox.size == sum(entry.size for entry in queue.entries if isinstance(entry, Slice))


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        ([1, 1.0, 1], [2, 3]),
        (["1", 1], [1, 2]),
        ([True, 1, "true"], [1, 2, 3]),
        ([None, "null"], [1, 2]),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], [2]),
        ([[1, 2], [2, 1]], [1, 2]),
    ],
)
def test_keys_are_the_same_where_their_json_is(keys: list[object], left: list[int]) -> None:
    _, queue = outbox_with(keyed(1, *keys), path="data.k")
    assert seqs_in(queue) == left


def test_an_event_without_the_path_has_the_key_null() -> None:
    for path in ("data.nothing", "nothing", "data.k.deeper", "data.k.0"):
        _, queue = outbox_with(keyed(1, "a", "b"), keyed(3, None), path=path)
        assert seqs_in(queue) == [3]


@pytest.mark.parametrize(
    "data",
    [
        b'{"n":1e999,"k":["\\ud800"]}',  # half a character, which the number before it keeps from msgspec
        *(b'{"k":' + b"[" * depth + b"]" * depth + b"}" for depth in (*range(900, 1000), 30_000)),
    ],
    ids=len,
)
def test_what_cannot_be_encoded_has_a_key_too(data: bytes) -> None:
    candidate = Candidate("c", "t", "e", 1, Raw(data))
    assert hash(Path("data.k").key(candidate)) == hash(Path("data.k").key(candidate))


def test_where_keys_cannot_be_found_the_outbox_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(batch: Batch, path: Path | None) -> list[object]:
        raise RecursionError

    outbox, queue = Outbox(10, ROOMY), Queue("a", Policy.LATEST, Path("data.k"))
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "keys", fail)
        with pytest.raises(RecursionError):
            outbox.put(queue, keyed(1, "a"))
    assert not outbox
    assert outbox.take(ROOMY) == []
    outbox.put(queue, keyed(2, "a"))
    assert [piece.events_left for piece in outbox.take(ROOMY)] == [1]


@pytest.mark.parametrize(
    ("path", "left"), [("event_type", [3]), ("channel", [3]), ("seq", [1, 2, 3]), ("timestamp", [3]), ("data", [2, 3])]
)
def test_a_path_may_begin_anywhere_in_the_event(path: str, left: list[int]) -> None:
    _, queue = outbox_with(keyed(1, "a", "b", "a"), path=path)
    assert seqs_in(queue) == left


@pytest.mark.parametrize(("path", "left"), [("data.k.0", [2, 3]), ("data.k.1", [3]), ("data.k.x", [3])])
def test_a_number_indexes_a_list(path: str, left: list[int]) -> None:
    _, queue = outbox_with(keyed(1, [1], [2], [1]), path=path)
    assert seqs_in(queue) == left


def test_equal_paths_of_many_readers_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    key: Callable[..., object] = Path.key

    def counted(path: Path, event: object) -> object:
        nonlocal looked
        looked += 1
        return key(path, event)

    monkeypatch.setattr(Path, "key", counted)
    batch = keyed(1, "a", "b")
    for _ in range(3):
        outbox_with(batch, path="data.k")
    assert looked == 2
    outbox_with(batch, path="data.j")
    assert looked == 4


def test_what_the_writer_has_taken_is_replaced_no_more() -> None:
    outbox, queue = outbox_with(keyed(1, "a", "b"), path="data.k")
    (first,) = outbox.take(1)
    outbox.put(queue, keyed(3, "a"))
    assert seqs_in(queue) == [2, 3]
    outbox.give_back([first])
    assert (queue.replaced, outbox.events) == (1, 2)
    assert [seq for seq in seqs_in(queue) if seq is not None] == [2, 3]


def test_what_comes_back_is_replaced_by_what_comes() -> None:
    outbox, queue = outbox_with(keyed(1, "a", "b"), path="data.k")
    outbox.give_back(outbox.take(ROOMY))
    assert seqs_in(queue) == [1, 2]
    outbox.put(queue, keyed(3, "a"))
    assert seqs_in(queue) == [2, 3]


def test_places_of_replaced_events_are_let_go_of() -> None:
    outbox, queue = outbox_with(path="data.k")
    for seq in range(1, 2000):
        outbox.put(queue, keyed(seq, "a"))
        assert len(queue.entries) < 80
    first = queue.first()
    assert isinstance(first, Slice)
    assert (first.seq(first.start), first.before) == (1999, 0)
    for seq in range(2000, 4000):
        outbox.put(queue, keyed(seq, seq % 3))
        outbox.take(1)
    assert queue._latest is not None
    assert len(queue._latest) < 80


def test_what_was_given_up_is_in_no_place_any_more() -> None:
    outbox, queue = outbox_with(keyed(1, "a", "b", "c"), path="data.k", most=2)
    outbox.put(queue, keyed(4, "a"))
    assert (queue.replaced, queue.dropped) == (0, {GapReason.SLOW_CONSUMER: 2})
    assert seqs_in(queue) == [1, 3, 4], "a gap, and two events"


def test_what_waited_before_the_policy_was_latest_stays() -> None:
    outbox, queue = outbox_with(keyed(1, "a", "b"), policy=Policy.DROP_OLDEST)
    queue.set_policy(Policy.LATEST, Path("data.k"), "e", 0)
    outbox.put(queue, keyed(3, "a"))
    assert seqs_in(queue) == [1, 2, 3]
    outbox.take(1)
    outbox.put(queue, keyed(4, "a"))
    assert (seqs_in(queue), queue.replaced) == ([4], 1)


def test_keys_of_what_was_given_up_are_let_go_of() -> None:
    outbox, queue = outbox_with(path="data.k", most=3)
    for seq in range(1, 500):
        outbox.put(queue, keyed(seq, seq))
    assert queue._latest is not None
    assert len(queue._latest) < 80
    assert seqs_in(queue) == [1, 497, 498, 499], "a gap, and three events"


def test_behind_a_gap_a_replaced_event_leaves_its_place_to_the_next_one() -> None:
    outbox, queue = outbox_with(keyed(1, "a"), path="data.k", most=1)
    outbox.put(queue, keyed(2, "b"))
    assert seqs_in(queue) == [1, 2]
    outbox.put(queue, keyed(3, "b"))
    outbox.limit(0, ROOMY, GapReason.SLOW_CONSUMER)
    (whole,) = queue.entries
    assert isinstance(whole, Gap)
    assert (whole.first, whole.last, whole.count, whole.before) == (1, 3, 2, 0)


def test_the_place_of_an_old_epoch_is_not_the_next_ones() -> None:
    outbox, queue = outbox_with(keyed(1, "a"), path="data.k")
    later = keyed(1, "a")
    later.epoch = "f"
    outbox.put(queue, later)
    first = queue.first()
    assert isinstance(first, Slice)
    assert (first.epoch, first.before) == ("f", 0)


def test_a_gap_of_unknown_place_does_not_adjoin() -> None:
    one = Gap("a", "e", 1, 3, 3, GapReason.SLOW_CONSUMER)
    assert not one.absorb(Gap("a", "e", None, None, 2, GapReason.SLOW_CONSUMER))
    assert (one.last, one.count) == (3, 3)


def test_another_key_leaves_what_waits() -> None:
    outbox, queue = outbox_with(keyed(1, "a", "b"), path="data.k")
    queue.set_policy(Policy.LATEST, None, "e", 0)
    outbox.put(queue, keyed(3, "c", "d"))
    assert [seq for seq in seqs_in(queue) if seq is not None] == [1, 2, 4]


def test_drop_newest_keeps_what_came_first() -> None:
    outbox, queue = outbox_with(event_batch("a", 1, [0] * 3), policy=Policy.DROP_NEWEST, most=4)
    outbox.put(queue, event_batch("a", 4, [0] * 3))
    assert entries_of(queue) == [*events(1, 4), lost(5, 6)]
    outbox.put(queue, event_batch("a", 7, [0] * 2))
    assert entries_of(queue) == [*events(1, 4), lost(5, 8)]
    outbox.take(1)
    outbox.put(queue, event_batch("a", 9, [0] * 2))
    assert entries_of(queue) == [*events(4, 4), lost(5, 8), *events(9, 10)]
    outbox.limit(2, ROOMY, GapReason.BUFFER_OVERFLOW)
    assert entries_of(queue) == [*events(4, 4), lost(5, 8), *events(9, 9), lost(10, 10, GapReason.BUFFER_OVERFLOW)]
    outbox.limit(1, ROOMY, GapReason.BUFFER_OVERFLOW)
    assert entries_of(queue) == [*events(4, 4), lost(5, 10, GapReason.BUFFER_OVERFLOW)]


def test_a_byte_too_many_costs_the_newest_event() -> None:
    batch = event_batch("a", 1, [0, 0, 0])
    outbox, queue = outbox_with(batch, policy=Policy.DROP_NEWEST)
    outbox.limit(100, len(batch.buffer) - 1, GapReason.SLOW_CONSUMER)
    assert entries_of(queue) == [*events(1, 2), lost(3, 3)]


# The past, ahead of the queues


def test_the_past_goes_first_and_counts_for_no_bound() -> None:
    outbox, queue = outbox_with(policy=Policy.DROP_OLDEST, most=2)
    past = event_batch("a", 1, [0] * 5)
    outbox.replay([Past(queue, Slice(past, 0, 5)), Past(None, b"!")])
    outbox.put(queue, event_batch("a", 6, [0] * 2))
    assert (outbox.events, outbox.waiting, outbox.waiting_for(queue), outbox.dropped) == (2, 7, (7, 0), 0)
    pieces = outbox.take(ROOMY)
    assert b"".join(bytes(piece.buffer) for piece in pieces).startswith(past.buffer + b"!")
    assert not outbox


def test_what_is_left_of_a_past_comes_back_if_it_is_news() -> None:
    outbox, queue = outbox_with(policy=Policy.DROP_OLDEST, most=4)
    again, news = event_batch("a", 1, [0] * 3), event_batch("a", 4, [0] * 3)
    parts = [Past(queue, Slice(again, 0, 3), again=True), Past(queue, Slice(news, 0, 3)), Past(None, b"!")]
    outbox.replay([*parts, Past(queue, Gap("a", "e", 7, 8, 2, GapReason.SLOW_CONSUMER))])
    outbox.put(queue, event_batch("a", 9, [0] * 2))
    assert (outbox.waiting_for(queue)[1], queue.resent) == (3, 3)
    taken = outbox.take(len(again.buffer) + 1)
    send(taken, again.ends[0] + 1)
    outbox.give_back(taken)
    assert entries_of(queue) == [lost(4, 4), *events(5, 6), lost(7, 8), *events(9, 10)]
    assert (outbox.waiting_for(queue)[1], queue.resent) == (0, 1), "one event is out"


def test_of_a_gap_that_is_only_in_part_news_that_part_comes_back() -> None:
    outbox, queue = outbox_with(policy=Policy.DROP_OLDEST)
    gaps = [Gap("a", "e", first, first + 1, 2, GapReason.SLOW_CONSUMER) for first in (1, 3, 5)]
    outbox.replay([Past(queue, gaps[0], again=True), Past(queue, gaps[1]), Past(queue, gaps[2]), Past(None, b"!")])
    pieces = outbox.take(1)
    assert span(pieces[0].entry) == (1, 6, 6)
    outbox.give_back(pieces)
    assert [span(entry) for entry in queue.entries] == [(3, 6, 4)]


@pytest.mark.parametrize("behind", [(), ("resumed",), ("another",), ("another", "same")])
def test_a_gap_that_ends_a_past_is_one_with_the_gap_that_waits_behind_it(behind: tuple[str, ...]) -> None:
    """Unless something stands between them: an event of its channel, or `resumed`."""
    outbox, queue = outbox_with(event_batch("a", 4, [0] * 3), policy=Policy.DROP_OLDEST, most=1)
    other, one = Queue("b"), event_batch("b", 1)
    parts = {
        "resumed": Past(None, b"!"),
        "another": Past(other, Slice(one, 0, 1)),
        "same": Past(queue, Slice(event_batch("a", 3), 0, 1)),
    }
    last = 2 if "same" in behind else 3
    past = Gap("a", "e", 1, last, last, GapReason.HISTORY_TRIMMED)
    outbox.replay([Past(queue, past), *(parts[name] for name in behind)])
    gaps = [span(piece.entry) for piece in outbox.take(ROOMY) if isinstance(piece.entry, Gap)]
    assert gaps == ([(1, 5, 5)] if behind in ((), ("another",)) else [(1, last, last), (4, 5, 2)])
    assert not outbox


def test_a_gap_that_is_all_that_waits_leaves_with_the_gap_of_the_past() -> None:
    outbox, queue = outbox_with(event_batch("a", 2, [0] * 2), policy=Policy.DROP_OLDEST, most=0)
    outbox.replay([Past(queue, Gap("a", "e", 1, 1, 1, GapReason.HISTORY_TRIMMED))])
    (piece,) = outbox.take(ROOMY)
    assert span(piece.entry) == (1, 3, 3)
    assert outbox.idle
    outbox.give_back([piece])
    assert [span(entry) for entry in queue.entries] == [(1, 3, 3)]
    outbox.put(queue, event_batch("a", 4))
    assert [span(piece.entry) for piece in outbox.take(ROOMY)] == [(1, 4, 4)]


def span(entry: object) -> tuple[int | None, int | None, int | None]:
    assert isinstance(entry, Gap)
    return entry.first, entry.last, entry.count


def test_of_a_discarded_queue_the_past_goes_too() -> None:
    outbox, queue = outbox_with(policy=Policy.DROP_OLDEST)
    other = Queue("b")
    outbox.replay([Past(queue, Slice(event_batch("a", 1), 0, 1)), Past(other, Slice(event_batch("b", 1), 0, 1))])
    assert outbox.holds(queue)
    assert outbox.discard(queue) == 1
    assert not outbox.holds(queue)
    assert [piece.queue for piece in outbox.take(ROOMY)] == [other]


def test_while_it_is_held_nothing_is_taken() -> None:
    outbox, queue = outbox_with(event_batch("a", 1), policy=Policy.DROP_OLDEST)
    outbox.held = True
    assert (bool(outbox), outbox.idle, outbox.take(ROOMY)) == (False, False, [])
    outbox.held = False
    assert (bool(outbox), outbox.idle, len(outbox.take(ROOMY))) == (True, False, 1)
    assert outbox.idle
    assert outbox.take_all(queue) == []


def test_gaps_without_positions_stand_behind_nothing() -> None:
    assert Gap("a", "e", None, None, 3, GapReason.SLOW_CONSUMER).before == 0
    assert Gap("a", "e", None, 7, None, GapReason.HISTORY_TRIMMED).before == 7
    assert Gap("a", "e", 5, 7, 3, GapReason.HISTORY_TRIMMED).before == 4
    assert Gap("a", "e", 5, 7, 3, GapReason.HISTORY_TRIMMED, behind=2).before == 2


async def test_slow_is_the_reason_of_live_gaps(autojump_clock: MockClock) -> None:
    async with running(Config(outbox_events=1)) as world:
        client = await slow(world, "drop_oldest")
        await publish(world, 2)
        await flows(world, client)
        assert told(client.take()) == [1, (2, 2, 1, SLOW), 3]
