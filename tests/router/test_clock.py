import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.clock import Clock, as_timestamp, timestamp_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_1900, YEAR_10000 = -2_208_988_800_000, 253_402_300_800_000
MILLISECONDS = st.integers(YEAR_1900, YEAR_10000 - 1)


@given(st.lists(MILLISECONDS, min_size=1, max_size=8))
def test_a_timestamp_is_rfc_3339_in_utc_with_milliseconds(times: list[int]) -> None:
    clock = Clock()
    for unix_ms in times:
        text = clock.timestamp(unix_ms)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
        assert datetime.fromisoformat(text) == EPOCH + timedelta(milliseconds=unix_ms)
        assert timestamp_of(unix_ms) == text


@given(st.lists(MILLISECONDS))
def test_timestamps_sort_as_their_times(times: list[int]) -> None:
    clock = Clock()
    assert sorted(map(clock.timestamp, times)) == list(map(clock.timestamp, sorted(times)))


@pytest.mark.parametrize(
    ("unix_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1000, "1970-01-01T00:00:01.000Z"),
        (1_735_473_600_123, "2024-12-29T12:00:00.123Z"),
        (YEAR_10000 - 1, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_timestamps_at_the_turns(unix_ms: int, text: str) -> None:
    assert Clock().timestamp(unix_ms) == text


def test_without_an_argument_the_timestamp_is_of_now() -> None:
    now = 1_735_473_600.125
    clock = Clock(lambda: now)
    assert clock.unix_s() == now
    assert clock.unix_ms() == 1_735_473_600_125
    assert clock.timestamp() == "2024-12-29T12:00:00.125Z"


@given(st.floats(0, 1e10))
def test_milliseconds_are_those_that_are_full(now: float) -> None:
    unix_ms = Clock(lambda: now).unix_ms()
    assert unix_ms <= now * 1000 < unix_ms + 1


def test_by_default_it_is_the_systems_clock() -> None:
    before = time.time()
    assert before <= Clock().unix_s() <= time.time()


def test_a_second_is_formatted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    formatted = []
    strftime = time.strftime

    def counting(form: str, moment: time.struct_time) -> str:
        formatted.append(moment.tm_sec)
        return strftime(form, moment)

    monkeypatch.setattr(time, "strftime", counting)
    clock = Clock()
    texts = [clock.timestamp(unix_ms) for unix_ms in (1000, 1001, 1999, 2000, 2001, 1000)]
    assert formatted == [1, 2, 1]
    assert [text[-7:] for text in texts] == ["01.000Z", "01.001Z", "01.999Z", "02.000Z", "02.001Z", "01.000Z"]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2024-12-29T13:00:00.123999+01:00", "2024-12-29T12:00:00.123Z"),
        ("0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59.000Z"),
    ],
)
def test_a_moment_of_any_zone(moment: str, text: str) -> None:
    assert as_timestamp(datetime.fromisoformat(moment)) == text
