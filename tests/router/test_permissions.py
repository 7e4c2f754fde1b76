import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.permissions import ADMIN, ANONYMOUS, DEVELOPER, ROLES, matches

# Few letters, so that patterns meet names; those that mean something to other kinds of patterns among them.
TEXT = st.text("ab.*?[]!^-\\{}", max_size=8)


@given(pattern=TEXT, name=TEXT)
def test_only_the_star_is_special(pattern: str, name: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    assert matches(pattern, name) == expected


@given(name=TEXT, at=st.integers(0, 8), star=st.booleans())
def test_a_name_matches_itself_and_what_a_star_takes_in(name: str, at: int, star: bool) -> None:
    assert matches(name, name)
    assert matches(name[:at] + "*", name)
    assert matches("*" + name[at:], name)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "signals", True),
        ("*", "", True),
        ("", "", True),
        ("", "signals", False),
        ("s*", "signals", True),
        ("s*", "metrics", False),
        ("*s", "status", True),
        ("signals", "Signals", False),
        ("Signals", "signals", False),
        ("signal?", "signals", False),
        ("signal[s]", "signals", False),
        ("sensors.*", "sensors.room-1", True),
        ("sensors.*", "sensors", False),
        ("sensors.*", "sensors_x", False),
    ],
)
def test_patterns(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


def test_the_roles_that_the_server_gives_are_in_the_table() -> None:
    assert {ADMIN, ANONYMOUS, DEVELOPER} < set(ROLES)
