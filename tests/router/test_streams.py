"""Streams that come and go: families' channels at first use, idle ones dropped, positions that mean one event only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.channels import Channels
from router.clock import Clock
from router.config import ChannelSettings, Config
from router.engine.streams import Streams
from router.events import CHANNELS
from router.letters import Emit

FAMILY = {"orders.*": ChannelSettings()}


def nobody(_: str) -> bool:
    return False


def publish(streams: Streams, name: str, at_ms: int) -> int:
    """Publish one event. Returns its seq."""
    stream = streams.open(name)
    assert stream is not None
    stream.stamp(at_ms, Clock())
    stream.append([Emit(name, "x", b"{}")])
    assert stream.flush("e") is not None
    return stream.seq


def test_fixed_channels_have_their_streams_at_once() -> None:
    streams = Streams(Channels({"jobs": ChannelSettings(), **FAMILY}), Config(max_channels=100))
    assert [stream.name for stream in streams] == [*CHANNELS, "jobs"]
    assert "jobs" in streams
    assert "orders.1" not in streams
    assert len(streams) == 7


def test_a_familys_channel_is_made_at_first_use() -> None:
    streams = Streams(Channels(FAMILY), Config(max_channels=100))
    made = streams.open("orders.1")
    assert made is not None
    assert made is streams.open("orders.1") is streams["orders.1"]
    assert streams.open("jobs") is None
    assert len(streams) == 7


def test_there_are_no_more_than_allowed() -> None:
    streams = Streams(Channels(FAMILY), Config(max_channels=8))
    assert streams.open("orders.1")
    assert streams.open("orders.2")
    assert streams.open("orders.3") is None
    assert streams.open("orders.1") is not None
    assert streams.open("signals") is not None


def bounds(streams: Streams, name: str) -> tuple[int, int, int | None]:
    ring = streams[name].ring
    return ring.max_events, ring.max_bytes, ring.max_age_ms


def test_a_channel_keeps_as_much_of_its_past_as_its_settings_say_and_else_as_all_do() -> None:
    channels = {
        "orders.*": ChannelSettings(history_events=0),
        "orders.big.*": ChannelSettings(history_bytes=77, history_age_s=0.25),
        "jobs": ChannelSettings(),
        "signals": ChannelSettings(history_events=9, history_bytes=8, history_age_s=7),
    }
    streams = Streams(Channels(channels), Config(history_events=5, history_bytes=400, history_age_s=3))
    for name in ("orders.1", "orders.big.1"):
        assert streams.open(name) is not None
    assert bounds(streams, "metrics") == bounds(streams, "jobs") == (5, 400, 3000)
    assert bounds(streams, "orders.1") == (0, 400, 3000)
    assert bounds(streams, "orders.big.1") == (5, 77, 250)
    assert bounds(streams, "signals") == (9, 8, 7000)


def test_a_channel_may_have_an_age_where_the_others_have_none() -> None:
    streams = Streams(Channels({"jobs": ChannelSettings(history_age_s=1)}), Config())
    for name in ("jobs", "signals"):
        publish(streams, name, 1000)
    streams.expire(1999)
    assert streams["jobs"].ring.events == 1
    streams.expire(2000)
    assert (streams["jobs"].ring.events, streams["signals"].ring.events) == (0, 1)


def test_other_settings_count_for_the_pasts_that_there_are() -> None:
    channels = Channels({"jobs": ChannelSettings(), "gone": ChannelSettings(history_events=2), **FAMILY})
    streams = Streams(channels, Config(history_events=3))
    for name in ("jobs", "orders.1", "gone", "signals"):
        for at_ms in range(4):
            publish(streams, name, at_ms)
    channels.configure({"orders.*": ChannelSettings(history_events=1), "jobs": ChannelSettings(history_age_s=0.001)})
    streams.configure(4)
    kept = {stream.name: stream.ring.events for stream in streams if stream.ring.last}
    assert kept == {"jobs": 0, "orders.1": 1, "gone": 2, "signals": 3}
    channels.configure({"late": ChannelSettings(), **FAMILY})
    streams.configure(5)
    assert "late" in streams
    publish(streams, "orders.1", 5)
    assert [each.batch.seqs for each in streams["orders.1"].ring.after(0)] == [range(4, 5), range(5, 6)]


def test_idle_is_what_nobody_reads_and_had_no_event_for_so_long() -> None:
    streams = Streams(Channels(FAMILY), Config(max_channels=100))
    for name, at_ms in (("orders.old", 100), ("orders.new", 101), ("orders.read", 50)):
        publish(streams, name, at_ms)
    assert streams.open("orders.never") is not None
    dropped = streams.drop_idle(100, lambda name: name == "orders.read")
    assert dropped == ["orders.old", "orders.never"]
    assert "orders.old" not in streams
    assert [stream.name for stream in streams] == [*CHANNELS, "orders.new", "orders.read"]


def test_events_that_are_not_fanned_out_hold_a_channel() -> None:
    streams = Streams(Channels(FAMILY), Config(max_channels=100))
    stream = streams.open("orders.1")
    assert stream is not None
    stream.append([Emit("orders.1", "x", b"{}")])
    assert streams.drop_idle(10**15, nobody) == []


def test_a_channel_that_is_not_configured_any_more_goes_when_nobody_reads_it() -> None:
    channels = Channels({"jobs": ChannelSettings()})
    streams = Streams(channels, Config(max_channels=100))
    publish(streams, "jobs", 1000)
    channels.configure({})
    assert streams.drop_idle(0, lambda _: True) == []
    assert streams.drop_idle(0, nobody) == ["jobs"]
    channels.configure({"jobs": ChannelSettings()})
    streams.open_fixed()
    assert publish(streams, "jobs", 2000) == 2


def test_a_channel_that_is_made_again_goes_on_where_it_was() -> None:
    streams = Streams(Channels(FAMILY), Config(max_channels=100))
    for _ in range(41):
        publish(streams, "orders.1", 1)
    assert streams.drop_idle(1, nobody) == ["orders.1"]
    assert [streams.seq_of(name) for name in ("orders.1", "orders.2")] == [41, 0]
    assert publish(streams, "orders.1", 2) == streams.seq_of("orders.1") == 42
    assert publish(streams, "orders.2", 2) == 1


def test_a_new_epoch_numbers_all_anew() -> None:
    streams = Streams(Channels(FAMILY), Config(max_channels=7))
    for name in ("orders.1", "orders.2"):
        publish(streams, name, 1)
        streams.drop_idle(1, nobody)
    publish(streams, "signals", 1)
    streams.restart()
    assert streams["signals"].seq == 0
    assert publish(streams, "orders.1", 1) == 1
    streams.drop_idle(1, nobody)
    assert publish(streams, "orders.2", 1) == 1


@given(plays=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3)), max_size=60))
def test_a_position_means_one_event_only(plays: list[tuple[int, int]]) -> None:
    """However many channels come and go: more than are remembered."""
    streams = Streams(Channels(FAMILY), Config(max_channels=8))
    last: dict[str, int] = {}
    for number, events in plays:
        name = f"orders.{number}"
        for _ in range(events):
            before = streams.seq_of(name)
            seq = publish(streams, name, 1)
            assert seq == before + 1 > last.get(name, 0)
            last[name] = seq
        assert streams.drop_idle(1, nobody) == [name]
        assert len(streams._left) <= 8


def forgotten() -> Streams:
    """`orders.1` had 3 events at 1 s, and `orders.2` 100 at 2 s; both were dropped, and forgotten for 8 others."""
    streams = Streams(Channels(FAMILY), Config(max_channels=8))
    for name, at_ms, events in (("orders.1", 1000, 3), ("orders.2", 2000, 100)):
        for _ in range(events):
            publish(streams, name, at_ms)
        streams.drop_idle(at_ms, nobody)
    for number in range(3, 11):
        publish(streams, f"orders.{number}", 3000)
        streams.drop_idle(3000, nobody)
    return streams


@pytest.mark.parametrize("name", ["orders.1", "orders.2", "orders.new"])
def test_what_a_forgotten_channel_had_is_doubtful(name: str) -> None:
    """As is whether a new one is new."""
    streams = forgotten()
    assert [streams.look(name).seq, publish(streams, name, 4000)] == [100, 101]
    ring = streams[name].ring
    assert (ring.doubtful, ring.newest_gone) == (100, b"1970-01-01T00:00:02.000Z")
    streams.drop_idle(4000, nobody)
    ring = streams.look(name).ring
    assert (ring.last, ring.doubtful, ring.newest_gone) == (101, 100, b"1970-01-01T00:00:04.000Z")


def test_what_a_remembered_channel_had_is_not() -> None:
    ring = forgotten().look("orders.3").ring
    assert (ring.last, ring.doubtful, ring.newest_gone) == (1, 0, b"1970-01-01T00:00:03.000Z")


def test_of_a_channel_that_never_had_an_event_nothing_is_gone() -> None:
    streams = Streams(Channels(FAMILY), Config(max_channels=8))
    for _ in range(2):
        stream = streams.open("orders.1")
        assert stream is not None
        assert (stream.ring.newest_gone, stream.ring.doubtful) == (b"", 0)
        streams.drop_idle(0, nobody)


@pytest.mark.parametrize("name", ["orders.1", "orders.3"])
def test_time_does_not_go_back_where_a_channel_is_made_again(name: str) -> None:
    streams = forgotten()
    before = streams.look(name).last_ms
    publish(streams, name, before - 1)
    (part,) = streams[name].ring.after(0)
    assert part.batch.timestamp(0).decode() == Clock().timestamp(before)
