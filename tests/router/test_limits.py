import math
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.limits import Bucket, Rate

# Numbers with few binary digits: sums and products of them are exact, so that a model can foretell each decision.
SECONDS = st.integers(0, 50_000).map(lambda n: n / 1024)
RATES = st.builds(Rate, burst=st.integers(1, 200).map(float), per_s=st.integers(1, 200).map(lambda n: n / 8))

MS = Fraction(1, 1000)


class Model:
    """A bucket in exact arithmetic."""

    def __init__(self, rate: Rate) -> None:
        self.burst, self.per_s = Fraction(rate.burst), Fraction(rate.per_s)
        self.level = self.burst

    def take(self, passed_s: float, amount: int) -> Fraction:
        self.level = min(self.burst, self.level + Fraction(passed_s) * self.per_s)
        missing = min(Fraction(amount), self.burst) - self.level
        if missing > 0:
            return missing / self.per_s
        self.level -= amount
        return Fraction(0)


@given(RATES, SECONDS, st.lists(st.tuples(SECONDS, st.integers(1, 400)), max_size=30))
def test_a_bucket_decides_as_its_model(rate: Rate, start: float, takes: list[tuple[float, int]]) -> None:
    bucket, model, now = Bucket(rate, start), Model(rate), start
    for passed_s, amount in takes:
        now += passed_s
        wait_s, exact = bucket.take(now, amount), model.take(passed_s, amount)
        if exact:
            assert exact < Fraction(wait_s) < exact + MS + MS / 100
        else:
            assert wait_s == 0


@given(
    burst=st.floats(1, 1e4),
    per_s=st.floats(1e-3, 1e6),
    now=st.floats(0, 1e7),
    takes=st.lists(st.tuples(st.floats(0, 100), st.integers(1, 20_000)), min_size=1, max_size=20),
)
def test_after_the_wait_the_messages_are_taken(
    burst: float, per_s: float, now: float, takes: list[tuple[float, int]]
) -> None:
    bucket = Bucket(Rate(burst, per_s), now)
    for passed_s, amount in takes:
        now += passed_s
        wait_s = bucket.take(now, amount)
        if wait_s:
            now += wait_s
            assert bucket.take(now, amount) == 0


def test_full_at_the_start_and_refilled_at_its_rate() -> None:
    bucket = Bucket(Rate(burst=3, per_s=2), now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, 0.501]
    assert bucket.take(100.25) == 0.251
    assert bucket.take(100.5) == 0
    assert bucket.take(100.5) == 0.501
    assert [bucket.take(1000.0) for _ in range(4)] == [0, 0, 0, 0.501]  # never more than its size


def test_what_is_refused_costs_nothing() -> None:
    bucket = Bucket(Rate(burst=10, per_s=1), now=0.0)
    assert bucket.take(0.0, 8) == 0
    assert [bucket.take(0.0, 3) for _ in range(5)] == [1.001] * 5
    assert bucket.take(0.0, 2) == 0


def test_more_than_the_bucket_holds_passes_when_it_is_full_and_leaves_a_debt() -> None:
    bucket = Bucket(Rate(burst=10, per_s=5), now=0.0)
    assert bucket.take(0.0, 25) == 0
    assert bucket.take(0.0, 1) == 3.201  # 15 of debt and 1 more
    assert bucket.take(3.0, 1) == 0.201
    assert bucket.take(3.25, 1) == 0
    assert bucket.take(3.25, 25) == pytest.approx(1.951)  # full again first
    assert bucket.take(5.25, 25) == 0


def test_waits_are_whole_milliseconds() -> None:
    bucket = Bucket(Rate(burst=1, per_s=3), now=0.0)
    bucket.take(0.0)
    wait_s = bucket.take(0.0)
    assert wait_s == 0.334
    assert math.isclose(wait_s * 1000, round(wait_s * 1000))


@pytest.mark.parametrize(
    "text",
    ['{"burst":0,"per_s":1}', '{"burst":1,"per_s":0}', '{"burst":1}', '{"burst":1,"per_s":1,"per_m":1}', "[1,1]"],
)
def test_a_rate_that_cannot_be_kept_is_no_rate(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Rate)
