import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.batches import Batch
from router.clock import Clock
from router.engine.memory import Stream, new_epoch
from router.events import EventTypeError
from router.protocol import EventIn, Publish
from tests.router.test_frames import parse

EVENT_TYPES = st.sampled_from(["signal.input.text", "x", "A:b_c-9", "t" * 128])
DATA = st.dictionaries(st.text(max_size=5), st.text(max_size=150) | st.integers() | st.none(), max_size=3)
EVENTS = st.lists(st.tuples(EVENT_TYPES, DATA), max_size=5)
NOON = 1_735_473_600_123


def _first(batch: Batch) -> int:
    assert batch.seqs is not None
    return batch.seqs[0]


def spelled(data: Any) -> bytes:
    """JSON with blanks, which are to come through as they are."""
    return json.dumps(data, ensure_ascii=False, separators=(" ,  ", "\t: ")).encode()


def events(*pairs: tuple[str, Any]) -> list[EventIn]:
    return [EventIn(event_type, spelled(data)) for event_type, data in pairs]  # type: ignore[arg-type]


def frames(batch: Batch) -> list[bytes]:
    """The payloads of a batch's frames, cut by the ends that it tells."""
    starts = [0, *batch.ends[:-1]]
    assert batch.ends[-1] == len(batch.buffer)
    return [bytes(parse(batch.buffer[start:end]).data) for start, end in zip(starts, batch.ends, strict=True)]


def stream(channel: str = "signals") -> Stream:
    made = Stream(channel)
    made.stamp(NOON, Clock())
    return made


def test_an_event_is_framed_with_its_position_around_the_publishers_own_bytes() -> None:
    one = stream()
    one.append([EventIn("signal.x", b'{ "n" :1e2,"s":"\\u00e9" }')])  # type: ignore[arg-type]
    batch = one.flush("e1")
    assert batch is not None
    assert frames(batch) == [
        b'{"channel":"signals","timestamp":"2024-12-29T12:00:00.123Z","event_type":"signal.x",'
        b'"data":{ "n" :1e2,"s":"\\u00e9" },"seq":1}'
    ]
    assert (_first(batch), batch.epoch, len(batch)) == (1, "e1", 1)


def test_nothing_appended_is_nothing_flushed() -> None:
    one = stream()
    assert one.flush("e1") is None
    one.append([])
    assert one.flush("e1") is None
    assert one.is_sound()


def test_a_publish_is_an_event_as_well() -> None:
    one = stream("logs")
    one.append((Publish("logs", "log.info"),))
    batch = one.flush("e1")
    assert batch is not None
    assert [json.loads(frame)["data"] for frame in frames(batch)] == [{}]


def test_positions_go_on_over_flushes_and_begin_anew_at_a_restart() -> None:
    one = stream()
    assert (one.seq, one.flushed_seq, one.pending_bytes) == (0, 0, 0)
    one.append(events(("x", {}), ("x", {})))
    assert (one.seq, one.flushed_seq) == (2, 0)
    batch = one.flush("e1")
    assert batch is not None
    assert (one.seq, one.flushed_seq, one.pending_bytes) == (2, 2, 0)
    one.append(events(("x", {})))
    one.restart()
    assert (one.seq, one.flushed_seq, one.pending_bytes) == (0, 0, 0)
    assert one.flush("e2") is None
    one.append(events(("x", {})))
    batch = one.flush("e2")
    assert batch is not None
    assert (_first(batch), batch.epoch) == (1, "e2")
    assert json.loads(frames(batch)[0])["seq"] == 1


def test_an_event_that_cannot_be_appended_leaves_no_trace() -> None:
    one = stream()
    one.append(events(("x", {})))
    before = one.pending_bytes
    with pytest.raises(EventTypeError):
        one.append(events(("x", {}), ("no type", {}), ("x", {})))
    assert (one.seq, one.flushed_seq, one.pending_bytes) == (1, 0, before)
    assert one.is_sound()
    one.append(events(("y", {})))
    batch = one.flush("e1")
    assert batch is not None
    assert [(json.loads(frame)["event_type"], json.loads(frame)["seq"]) for frame in frames(batch)] == [
        ("x", 1),
        ("y", 2),
    ]


def test_a_batch_that_is_out_is_not_changed_any_more() -> None:
    one = stream()
    one.append(events(("x", {})))
    first = one.flush("e1")
    assert first is not None
    buffer, ends = first.buffer, first.ends
    one.append(events(("y", {}), ("z", {})))
    one.flush("e1")
    assert (first.buffer, first.ends) == (buffer, ends)


@pytest.mark.parametrize("length", [0, 20, 21, 22, 100, 1900, 65_400, 65_500, 70_000])
def test_events_of_every_length_class(length: int) -> None:
    one = stream()
    one.append(events(("x", {"s": "a" * length}), ("x", {"s": "b" * length})))
    assert one.is_sound()
    pending = one.pending_bytes
    batch = one.flush("e1")
    assert batch is not None
    assert len(batch.buffer) == pending
    assert [json.loads(frame)["data"]["s"][:1] for frame in frames(batch)] == (["a", "b"] if length else ["", ""])


# Time


def stamps(*times: int) -> list[str]:
    """The timestamps of events appended at these times of the clock."""
    one, clock = Stream("status"), Clock()
    for unix_ms in times:
        one.stamp(unix_ms, clock)
        one.append(events(("x", {})))
    batch = one.flush("e")
    assert batch is not None
    return [json.loads(frame)["timestamp"] for frame in frames(batch)]


def test_each_event_has_the_time_at_which_it_was_appended() -> None:
    assert stamps(NOON, NOON + 1, NOON + 877) == [
        "2024-12-29T12:00:00.123Z",
        "2024-12-29T12:00:00.124Z",
        "2024-12-29T12:00:01.000Z",
    ]


@given(st.lists(st.integers(0, 4_000_000_000_000), min_size=1, max_size=10))
def test_time_stands_still_where_the_clock_goes_back(times: list[int]) -> None:
    highest = [max(times[: index + 1]) for index in range(len(times))]
    assert stamps(*times) == [Clock().timestamp(unix_ms) for unix_ms in highest]


def test_time_does_not_go_back_over_a_restart_either() -> None:
    one, clock = Stream("status"), Clock()
    one.stamp(NOON, clock)
    one.restart()
    one.stamp(0, clock)
    one.append(events(("x", {})))
    batch = one.flush("e2")
    assert batch is not None
    assert json.loads(frames(batch)[0])["timestamp"] == "2024-12-29T12:00:00.123Z"


# Soundness


def filled() -> Stream:
    one = stream()
    one.append(events(("x", {}), ("y", {})))
    one.flush("e1")
    one.append(events(("x", {"a": 1}), ("y", {})))
    assert one.is_sound()
    return one


def lose_a_frame(one: Stream) -> None:
    one._frames.pop()


def lose_an_event(one: Stream) -> None:
    del one._frames[-2:]


def lose_an_end(one: Stream) -> None:
    one._ends.pop()


def shift_an_end(one: Stream) -> None:
    one._ends[0] += 1


def exchange_frames(one: Stream) -> None:
    one._frames[1], one._frames[3] = one._frames[3], one._frames[1]


def add_a_header(one: Stream) -> None:
    one._frames.append(b"\x81\x05")


def add_a_header_and_count_it(one: Stream) -> None:
    one._frames.append(b"\x81\x05")
    one.pending_bytes += 2


def change_a_frame(one: Stream) -> None:
    one._frames[1] += b" "


def skip_a_position(one: Stream) -> None:
    one.seq += 1


def give_a_position_again(one: Stream) -> None:
    one.seq -= 1


def forget_a_flush(one: Stream) -> None:
    one.flushed_seq = 0


def miscount_bytes(one: Stream) -> None:
    one.pending_bytes += 1


def lose_all_but_the_count(one: Stream) -> None:
    one._frames.clear()
    one._ends.clear()


@pytest.mark.parametrize(
    "tamper",
    [
        lose_a_frame,
        lose_an_event,
        lose_an_end,
        shift_an_end,
        exchange_frames,
        add_a_header,
        add_a_header_and_count_it,
        change_a_frame,
        skip_a_position,
        give_a_position_again,
        forget_a_flush,
        miscount_bytes,
        lose_all_but_the_count,
    ],
)
def test_parts_that_do_not_agree_are_found_and_a_restart_heals(tamper: Any) -> None:
    one = filled()
    tamper(one)
    assert not one.is_sound()
    one.restart()
    assert one.is_sound()


class Streaming(RuleBasedStateMachine):
    """A stream beside a list of all that was ever appended to it."""

    @initialize()
    def begin(self) -> None:
        self.stream = Stream("signals")
        self.clock = Clock()
        self.now = self.latest = 0
        self.epoch = "e0"
        self.appended: list[tuple[int, str, str, Any]] = []
        self.flushed: list[tuple[int, str, str, Any]] = []

    @rule(pairs=EVENTS, passed_ms=st.integers(-5000, 5000))
    def append(self, pairs: list[tuple[str, Any]], passed_ms: int) -> None:
        self.now = max(0, self.now + passed_ms)
        self.latest = max(self.latest, self.now)
        self.stream.stamp(self.now, self.clock)
        self.stream.append(events(*pairs))
        for event_type, data in pairs:
            self.appended.append((len(self.appended) + 1, Clock().timestamp(self.latest), event_type, data))

    @rule()
    def flush(self) -> None:
        batch = self.stream.flush(self.epoch)
        expected = self.appended[len(self.flushed) :]
        if batch is None:
            assert expected == []
            return
        assert (_first(batch), batch.epoch) == (len(self.flushed) + 1, self.epoch)
        for frame in frames(batch):
            event = json.loads(frame)
            assert list(event) == ["channel", "timestamp", "event_type", "data", "seq"]
            assert event["channel"] == "signals"
            assert spelled(event["data"]) in frame
            self.flushed.append((event["seq"], event["timestamp"], event["event_type"], event["data"]))
        assert self.flushed == self.appended

    @rule()
    def restart(self) -> None:
        self.stream.restart()
        self.epoch += "'"
        self.appended, self.flushed = [], []

    @invariant()
    def agrees(self) -> None:
        assert self.stream.is_sound()
        assert self.stream.seq == len(self.appended)
        assert self.stream.flushed_seq == len(self.flushed)
        assert (self.stream.pending_bytes > 0) == (self.appended != self.flushed)


TestStreaming = Streaming.TestCase
TestStreaming.settings = settings(max_examples=50, stateful_step_count=25)


def test_epochs_are_never_the_same() -> None:
    epochs = {new_epoch() for _ in range(1000)}
    assert len(epochs) == 1000
    assert all(len(epoch) == 12 and epoch.isalnum() for epoch in epochs)
