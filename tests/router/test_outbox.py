"""The outbox: nothing is lost unannounced, nothing comes twice, and the bounds are kept."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.batches import Batch, Slice
from router.errors import GapReason
from router.outbox import Outbox, Piece
from router.queues import Gap, Queue
from tests.router.lanes.streams import STEADY, event_batch, frames_of

SLOW, OVERFLOW, BREAK = GapReason.SLOW_CONSUMER, GapReason.BUFFER_OVERFLOW, GapReason.EPOCH_CHANGED
ROOMY = 1 << 30

#: What a client is told of a channel: an event as (epoch, seq), or a gap as the wire has it.
Told = tuple[str, int] | dict[str, object]


def told(data: bytes | bytearray | memoryview, *, cut: bool = False) -> dict[str, list[Told]]:
    """What the whole frames in `data` say, by channel."""
    said: dict[str, list[Told]] = {}
    for frame in frames_of(bytes(data), cut=cut):
        message = json.loads(frame.payload)
        if message.get("type") == "gap":
            said.setdefault(message["of"], []).append(message)
        else:
            said.setdefault(message["channel"], []).append((message["epoch"], message["seq"]))
    return said


def told_of(data: bytes | bytearray | memoryview, channel: str) -> list[Told]:
    return told(data).get(channel, [])


def entries_of(queue: Queue) -> list[Told]:
    """What waits in a queue, read off the frames that would be sent."""
    waiting: list[Told] = []
    for entry in queue.entries:
        waiting += told_of(entry.frame() if isinstance(entry, Gap) else entry.buffer, queue.channel)
    return waiting


def gap(first: int, last: int, reason: GapReason = SLOW, epoch: str = "e", of: str = "a") -> dict[str, object]:
    return {
        "type": "gap", "of": of, "epoch": epoch, "from": first, "to": last, "count": last - first + 1, "reason": reason,
    }  # fmt: skip


def events(first: int, last: int, epoch: str = "e") -> list[Told]:
    return [(epoch, seq) for seq in range(first, last + 1)]


def send(pieces: list[Piece], amount: int) -> bytes:
    """Hand so many bytes of what was taken to the socket, as the lane does."""
    out = b""
    while pieces and amount:
        piece = pieces[0]
        part = bytes(piece.buffer[piece.sent : piece.sent + amount])
        piece.sent += len(part)
        amount -= len(part)
        out += part
        if piece.sent == len(piece.buffer):
            pieces.pop(0)
    return out


# A plain model of the bound


def expected_losses(
    waiting: dict[str, list[list[int]]], max_events: int, max_bytes: int
) -> tuple[dict[str, int], bool]:
    """How many events each queue loses; the sizes of frames by queue and slice. False: two queues are the largest."""
    queues = {name: [list(sizes) for sizes in slices] for name, slices in waiting.items()}
    lost = dict.fromkeys(queues, 0)
    while True:
        sums = {name: sum(map(sum, slices)) for name, slices in queues.items()}
        count = sum(len(sizes) for slices in queues.values() for sizes in slices)
        if count <= max_events and sum(sums.values()) <= max_bytes:
            return lost, True
        largest = max(sums, key=sums.__getitem__)
        if list(sums.values()).count(sums[largest]) > 1:
            return lost, False
        oldest, total = queues[largest][0], sum(sums.values())
        while oldest and (count > max_events or total > max_bytes):
            total -= oldest.pop(0)
            count -= 1
            lost[largest] += 1
        if not oldest:
            del queues[largest][0]


def frame_sizes(queue: Queue) -> list[list[int]]:
    slices = [entry for entry in queue.entries if isinstance(entry, Slice)]
    return [frame_sizes_of(entry.batch)[entry.start : entry.stop] for entry in slices]


def frame_sizes_of(batch: Batch) -> list[int]:
    return [end - begin for begin, end in pairwise([0, *batch.ends])]


class OneClient(RuleBasedStateMachine):
    """A client whose connection takes some, dies now and then, and whose session goes on collecting."""

    #: Without positions: `personal` and the like.
    SEQLESS = "p"
    NAMES = "abcp"

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(12, 900)
        self.names = {name: f"{name}0" for name in self.NAMES}
        self.queues = {name: Queue(channel) for name, channel in self.names.items()}
        self.seqs = dict.fromkeys(self.NAMES, 0)
        self.epochs = dict.fromkeys(self.NAMES, 0)
        self.generation = 0
        self.said: dict[str, list[Told]] = {}
        self.taken: list[Piece] = []
        self.wire = b""
        self.dropped_before = 0  # of queues that have been discarded

    # What is seen of a channel

    def history(self, name: str) -> list[Told]:
        """All that its client was told, is being told, and will be told, in this order."""
        channel = self.names[name]
        out = self.wire + b"".join(bytes(piece.buffer[piece.sent :]) for piece in self.taken)
        return [*self.said.get(channel, []), *told_of(out, channel), *entries_of(self.queues[name])]

    def gap_counts(self, name: str) -> int:
        counts = [item["count"] for item in self.history(name) if isinstance(item, dict)]
        return sum(count for count in counts if isinstance(count, int))

    # What happens

    @rule(name=st.sampled_from(NAMES), sizes=st.lists(st.integers(0, 60), min_size=1, max_size=4))
    def put(self, name: str, sizes: list[int]) -> None:
        first = self.seqs[name] + 1
        self.seqs[name] += len(sizes)
        batch = event_batch(self.names[name], first, sizes, str(self.epochs[name]))
        if name == self.SEQLESS:
            batch = Batch(batch.buffer, batch.ends, None, batch.epoch)
        before = {each: frame_sizes(queue) for each, queue in self.queues.items()}
        before[name].append(frame_sizes_of(batch))
        self.outbox.put(self.queues[name], batch)
        self.check_losses(before)

    def check_losses(self, before: dict[str, list[list[int]]]) -> None:
        lost, certain = expected_losses(before, self.outbox.max_events, self.outbox.max_bytes)
        if certain:
            for name, queue in self.queues.items():
                assert queue.events == sum(map(len, before[name])) - lost[name]

    @rule(max_events=st.integers(1, 15), max_bytes=st.integers(1, 1200), reason=st.sampled_from([SLOW, OVERFLOW]))
    def limit(self, max_events: int, max_bytes: int, reason: GapReason) -> None:
        before = {name: frame_sizes(queue) for name, queue in self.queues.items()}
        self.outbox.limit(max_events, max_bytes, reason)
        self.check_losses(before)

    @precondition(lambda self: not self.taken)
    @rule(max_bytes=st.integers(1, 600))
    def take(self, max_bytes: int) -> None:
        waiting = sum(len(queue.entries) for queue in self.queues.values())
        self.taken = self.outbox.take(max_bytes)
        sizes = [len(piece.buffer) for piece in self.taken]
        assert len(sizes) == waiting or sum(sizes) >= max_bytes
        assert sum(sizes[:-1]) < max_bytes

    @precondition(lambda self: self.taken)
    @rule(share=st.floats(0, 1))
    def write(self, share: float) -> None:
        self.wire += send(self.taken, round(share * sum(len(piece.buffer) for piece in self.taken)))

    @rule()
    def die(self) -> None:
        """The connection goes; what it had not handed whole to the socket comes back."""
        rest = self.taken[0].rest_of_frame() if self.taken else b""
        assert len(frames_of(self.wire + rest)) == len(frames_of(self.wire, cut=True)) + bool(rest)
        for channel, items in told(self.wire, cut=True).items():
            self.said.setdefault(channel, []).extend(items)
        before = {name: self.rest_of(queue) + frame_sizes(queue) for name, queue in self.queues.items()}
        self.wire = b""
        self.outbox.give_back(self.taken)
        self.taken = []
        self.check_losses(before)

    def rest_of(self, queue: Queue) -> list[list[int]]:
        """Sizes of the frames that the writer has taken and not handed whole to the socket."""
        rest = []
        for piece in self.taken:
            if piece.queue is queue and isinstance(piece.entry, Slice):
                sizes = frame_sizes_of(piece.entry.batch)[piece.entry.start : piece.entry.stop]
                rest.append([size for n, size in enumerate(sizes) if sum(sizes[: n + 1]) > piece.sent])
        return rest

    @rule(name=st.sampled_from("abc"))
    def discard(self, name: str) -> None:
        """The subscription ends; another one to the same channel has a queue of its own."""
        self.dropped_before += self.gap_counts(name)
        waiting = [item for item in entries_of(self.queues[name]) if not isinstance(item, dict)]
        assert self.outbox.discard(self.queues[name]) == len(waiting)
        self.generation += 1
        self.names[name] = f"{name}{self.generation}"
        self.queues[name] = Queue(self.names[name])
        self.seqs[name] = self.epochs[name] = 0

    @rule()
    def begin_epoch(self) -> None:
        for name in "abc":
            of, epoch = self.names[name], str(self.epochs[name])
            self.outbox.put_gap(self.queues[name], Gap(of, epoch, self.seqs[name] + 1, None, None, BREAK))
            self.epochs[name] += 1
            self.seqs[name] = 0

    # What holds whatever happens

    @invariant()
    def every_event_is_told_or_waits_or_is_in_one_gap_at_its_place(self) -> None:
        for name in self.NAMES:
            epoch, seq = 0, 0
            for item in self.history(name):
                if not isinstance(item, dict):
                    assert item == (str(epoch), seq + 1)
                    seq += 1
                elif item["reason"] == BREAK:
                    assert (item["epoch"], item["from"], item["to"], item["count"]) == (str(epoch), seq + 1, None, None)
                    epoch, seq = epoch + 1, 0
                else:
                    assert item["epoch"] == str(epoch)
                    count = item["count"]
                    assert isinstance(count, int)
                    assert count > 0
                    span = (None, None) if name == self.SEQLESS else (seq + 1, seq + count)
                    assert (item["from"], item["to"]) == span
                    seq += count
            assert (epoch, seq) == (self.epochs[name], self.seqs[name])

    @invariant()
    def the_sums_are_exact(self) -> None:
        for queue in self.queues.values():
            sizes = [size for slice_sizes in frame_sizes(queue) for size in slice_sizes]
            assert (queue.events, queue.size) == (len(sizes), sum(sizes))
        assert self.outbox.events == sum(queue.events for queue in self.queues.values())
        assert self.outbox.size == sum(queue.size for queue in self.queues.values())
        assert self.outbox.dropped == self.dropped_before + sum(map(self.gap_counts, self.NAMES))
        assert bool(self.outbox) == any(queue.entries for queue in self.queues.values())

    @invariant()
    def the_bounds_are_kept(self) -> None:
        assert self.outbox.events <= self.outbox.max_events
        assert self.outbox.size <= self.outbox.max_bytes

    @invariant()
    def adjoining_gaps_are_one(self) -> None:
        for queue in self.queues.values():
            for one, other in pairwise(queue.entries):
                if isinstance(one, Gap) and isinstance(other, Gap):
                    assert BREAK in (one.reason, other.reason)

    def teardown(self) -> None:
        """A client that reads everything at last misses nothing that it is not told of."""
        if self.taken:
            self.wire += send(self.taken, ROOMY)
        self.wire += send(self.outbox.take(ROOMY), ROOMY)
        assert (self.outbox.events, self.outbox.size, bool(self.outbox)) == (0, 0, False)
        self.every_event_is_told_or_waits_or_is_in_one_gap_at_its_place()


TestOneClient = OneClient.TestCase
TestOneClient.settings = settings(STEADY, max_examples=100, stateful_step_count=35)


# One by one


def filled(*batches: Batch, max_events: int = 100, max_bytes: int = ROOMY) -> tuple[Outbox, Queue]:
    outbox, queue = Outbox(max_events, max_bytes), Queue("a")
    for batch in batches:
        outbox.put(queue, batch)
    return outbox, queue


def test_an_empty_outbox_gives_nothing() -> None:
    outbox = Outbox(1, 1)
    assert not outbox
    assert outbox.take(ROOMY) == []


def test_the_queues_are_taken_in_turn() -> None:
    outbox = Outbox(100, ROOMY)
    a, b = Queue("a"), Queue("b")
    for seq in range(1, 5):
        outbox.put(a, event_batch("a", seq))
    outbox.put(b, event_batch("b", 1))
    pieces = outbox.take(ROOMY)
    assert [piece.queue for piece in pieces] == [a, b, a, a, a]


def test_one_slice_is_taken_however_little_is_asked_for() -> None:
    outbox, _ = filled(event_batch("a", 1, [500, 500]), event_batch("a", 3))
    assert told(outbox.take(1)[0].buffer) == {"a": events(1, 2)}
    assert told(outbox.take(1)[0].buffer) == {"a": events(3, 3)}


def test_what_is_taken_is_shared_not_copied() -> None:
    batch = event_batch("a", 1, [0, 0])
    outbox, _ = filled(batch)
    (piece,) = outbox.take(ROOMY)
    assert isinstance(piece.buffer, memoryview)
    assert piece.buffer.obj is batch.buffer


def test_over_the_bound_the_oldest_go_and_a_gap_stands_in_their_place() -> None:
    outbox, queue = filled(event_batch("a", 1, [0] * 4), event_batch("a", 5, [0] * 4), max_events=5)
    assert entries_of(queue) == [gap(1, 3), *events(4, 8)]
    assert (outbox.events, outbox.dropped) == (5, 3)
    outbox.put(queue, event_batch("a", 9, [0] * 4))
    assert entries_of(queue) == [gap(1, 7), *events(8, 12)]


def test_a_byte_over_the_bound_costs_one_event() -> None:
    batch = event_batch("a", 1, [0, 0, 0])
    outbox, queue = filled(batch, max_bytes=len(batch.buffer))
    assert outbox.dropped == 0
    outbox.limit(100, len(batch.buffer) - 1, SLOW)
    assert entries_of(queue) == [gap(1, 1), *events(2, 3)]


def test_what_is_larger_than_the_outbox_is_all_gap() -> None:
    outbox, queue = filled(event_batch("a", 1, [0, 0]), max_bytes=10)
    assert entries_of(queue) == [gap(1, 2)]
    assert (outbox.events, outbox.size, bool(outbox)) == (0, 0, True)


def test_the_queue_with_the_most_bytes_pays_for_another() -> None:
    outbox = Outbox(4, ROOMY)
    heavy, light = Queue("heavy"), Queue("light")
    outbox.put(heavy, event_batch("heavy", 1, [900, 900]))
    outbox.put(light, event_batch("light", 1, [0, 0, 0]))
    assert entries_of(heavy) == [gap(1, 1, of="heavy"), *events(2, 2)]
    assert entries_of(light) == events(1, 3)


def test_a_queue_that_has_become_the_largest_pays_next() -> None:
    outbox = Outbox(6, ROOMY)
    a, b = Queue("a"), Queue("b")
    outbox.put(a, event_batch("a", 1, [100] * 4))
    outbox.put(b, event_batch("b", 1, [80] * 3))
    assert (a.events, b.events) == (3, 3)
    outbox.put(b, event_batch("b", 4, [80] * 2))  # now the largest, and again
    assert (a.events, b.events) == (3, 3)
    outbox.take(1)
    outbox.put(a, event_batch("a", 5, [1000]))
    assert (a.events, b.events) == (3, 3)


def test_a_stuck_client_with_a_thousand_queues_costs_no_look_at_each() -> None:
    looks = 0

    class Counting(Queue):
        @property
        def size(self) -> int:
            nonlocal looks
            looks += 1
            return self.bytes

        @size.setter
        def size(self, value: int) -> None:
            self.bytes = value

    outbox, queues = Outbox(2000, ROOMY), [Counting(str(n)) for n in range(1000)]
    for seq in range(1, 3):
        for queue in queues:
            outbox.put(queue, event_batch(queue.channel, seq))
    looks = 0
    for seq in range(3, 6):
        for queue in queues:
            outbox.put(queue, event_batch(queue.channel, seq))
    assert outbox.dropped == 3000
    assert looks < 50 * 3000


def test_what_is_remembered_of_a_stuck_clients_queues_is_bounded() -> None:
    outbox, queue = filled(max_events=10)
    for seq in range(1, 1000):
        outbox.put(queue, event_batch("a", seq))
    assert entries_of(queue) == [gap(1, 989), *events(990, 999)]
    assert len(outbox._by_size) < 100


def test_gaps_that_come_to_adjoin_are_one() -> None:
    """What the writer has taken comes back in front of a gap, and is dropped in turn."""
    outbox, queue = filled(event_batch("a", 1, [0] * 3), max_events=3)
    taken = outbox.take(ROOMY)
    outbox.put(queue, event_batch("a", 4, [0] * 5))
    assert entries_of(queue) == [gap(4, 5), *events(6, 8)]
    outbox.give_back(taken)
    assert entries_of(queue) == [gap(1, 5), *events(6, 8)]


def test_a_gap_that_comes_back_is_one_with_what_was_lost_behind_it() -> None:
    outbox, queue = filled(event_batch("a", 1, [0] * 5), max_events=3)
    taken = outbox.take(1)
    outbox.put(queue, event_batch("a", 6, [0]))
    outbox.give_back(taken)
    assert entries_of(queue) == [gap(1, 3), *events(4, 6)]


def test_an_announced_gap_is_one_with_the_one_before() -> None:
    outbox, queue = filled(event_batch("a", 1, [0] * 3), max_bytes=1)
    outbox.put_gap(queue, Gap("a", "e", 4, 9, 6, SLOW))
    assert entries_of(queue) == [gap(1, 9)]


@pytest.mark.parametrize(
    "other",
    [
        Gap("a", "other", 4, 4, 1, SLOW),
        Gap("a", "e", 4, None, None, BREAK),
        Gap("a", "e", 4, None, None, SLOW),
    ],
    ids=["epoch", "break", "unknown"],
)
def test_gaps_that_do_not_adjoin_stay_two(other: Gap) -> None:
    outbox, queue = filled(event_batch("a", 1, [0] * 3), max_bytes=1)
    outbox.put_gap(queue, other)
    assert len(queue.entries) == 2


def test_events_without_positions_leave_a_gap_with_a_count_alone() -> None:
    frames = event_batch("a", 1, [0] * 3)
    batch = Batch(frames.buffer, frames.ends, None, "e")
    _, queue = filled(batch, batch, max_events=2)
    nowhere = gap(1, 4) | {"from": None, "to": None}
    assert entries_of(queue) == [nowhere, *events(2, 3)]


def test_a_gap_says_what_the_contract_has() -> None:
    frame = Gap("signals", "e1", 43, 57, 15, SLOW).frame()
    assert json.loads(frames_of(frame)[0].payload) == {
        "type": "gap", "of": "signals", "epoch": "e1", "from": 43, "to": 57, "count": 15, "reason": "slow_consumer",
    }  # fmt: skip


@pytest.mark.parametrize("whole", [0, 1, 2, 3])
@pytest.mark.parametrize("more", [0, 1, -1])
def test_a_frame_that_is_partly_out_comes_back_and_so_do_those_behind_it(whole: int, more: int) -> None:
    batch = event_batch("a", 1, [5] * 4)
    outbox, queue = filled(batch)
    taken = outbox.take(ROOMY)
    size = batch.offset(1)
    out = send(taken, size * whole + more % size)
    assert frames_of(out + taken[0].rest_of_frame()) == frames_of(batch.buffer)[: whole + bool(more)]
    outbox.give_back(taken)
    assert entries_of(queue) == events(whole + 1, 4)


def test_a_slice_that_begins_amid_its_batch_comes_back_right() -> None:
    batch = event_batch("a", 1, [5] * 4)
    outbox, queue = filled(batch, max_events=3)
    taken = outbox.take(ROOMY)
    gap_bytes = len(taken[0].buffer)
    send(taken, gap_bytes + batch.offset(1) + 1)
    assert taken[0].rest_of_frame() == batch.buffer[batch.offset(2) + 1 : batch.offset(3)]
    outbox.give_back(taken)
    assert entries_of(queue) == events(3, 4)


def test_a_gap_that_is_partly_out_comes_back_whole() -> None:
    outbox, queue = filled(event_batch("a", 1, [0] * 3), max_events=1)
    taken = outbox.take(1)
    frame = bytes(taken[0].buffer)
    assert send(taken, 3) + taken[0].rest_of_frame() == frame
    outbox.give_back(taken)
    assert entries_of(queue) == [gap(1, 2), *events(3, 3)]


def test_what_was_taken_is_not_in_reach_of_the_bound() -> None:
    outbox, queue = filled(event_batch("a", 1, [0] * 3), max_events=3)
    taken = outbox.take(ROOMY)
    outbox.put(queue, event_batch("a", 4, [0] * 3))
    assert outbox.dropped == 0
    assert told_of(taken[0].buffer, "a") == events(1, 3)


def test_what_comes_back_counts_against_the_bound() -> None:
    outbox, queue = filled(event_batch("a", 1, [0] * 3), max_events=3)
    taken = outbox.take(ROOMY)
    outbox.put(queue, event_batch("a", 4, [0] * 2))
    outbox.give_back(taken)
    assert entries_of(queue) == [gap(1, 2), *events(3, 5)]


def test_bytes_without_a_queue_do_not_come_back() -> None:
    outbox = Outbox(10, ROOMY)
    outbox.give_back([Piece(b"a reply")])
    assert not outbox


def test_of_a_discarded_queue_nothing_comes_back() -> None:
    outbox, queue = filled(event_batch("a", 1), event_batch("a", 2))
    taken = outbox.take(1)
    assert outbox.discard(queue) == 1
    assert not outbox
    outbox.give_back(taken)
    assert not outbox
    assert outbox.discard(queue) == 0


def test_a_new_bound_is_enforced_with_its_own_reason() -> None:
    outbox, queue = filled(event_batch("a", 1, [0] * 5))
    outbox.limit(2, ROOMY, OVERFLOW)
    assert entries_of(queue) == [gap(1, 3, OVERFLOW), *events(4, 5)]
    outbox.limit(1, ROOMY, SLOW)
    assert entries_of(queue) == [gap(1, 4, SLOW), *events(5, 5)], "one gap, for the latest reason"


def test_a_queue_that_is_the_largest_by_what_comes_back_pays() -> None:
    outbox = Outbox(5, ROOMY)
    a, b = Queue("a"), Queue("b")
    outbox.put(a, event_batch("a", 1, [500] * 4))
    taken = outbox.take(1)
    outbox.put(a, event_batch("a", 5, [0]))
    outbox.put(b, event_batch("b", 1, [10] * 5))  # over the bound: from here on, it is known which queue is large
    assert (a.events, b.events) == (1, 4)
    outbox.give_back(taken)
    assert (a.events, b.events) == (1, 4)
    assert entries_of(a) == [gap(1, 4), *events(5, 5)]


# Who waits for room


def test_room_is_up_to_the_bound_and_for_more_only_where_nothing_waits() -> None:
    batch = event_batch("a", 1, [100] * 4)
    outbox, _ = filled(batch, max_events=6, max_bytes=len(batch.buffer) + 200)
    assert outbox.has_room(2, 200)
    assert not outbox.has_room(3, 200)
    assert not outbox.has_room(2, 201)
    outbox.take(ROOMY)
    assert outbox.has_room(100, ROOMY)


@pytest.mark.parametrize("how", ["take", "take_all", "discard"])
def test_who_waits_for_room_is_told_once_when_something_has_left(how: str) -> None:
    outbox, queue = filled(event_batch("a", 1, [100, 100]))
    told_to: list[str] = []
    first, second, third = (lambda name=name: told_to.append(name) for name in "abc")
    for tell in (first, second, third):
        outbox.watch(tell)
    outbox.unwatch(second)
    assert told_to == []
    match how:
        case "take":
            outbox.take(1)
        case "take_all":
            outbox.take_all(queue)
        case _:
            outbox.discard(queue)
    assert told_to == ["a", "c"]
    outbox.unwatch(first)
    outbox.take(1)
    assert told_to == ["a", "c"]
