import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.permissions import ADMIN, ANONYMOUS, ROLES, Grants, RolePermissions, grants, matches

CHANNELS = ("metrics", "signals", "actions", "logs", "status", "connections")
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


def test_the_lists_of_a_role_hold_where_the_token_has_none() -> None:
    assert grants("bot", None, None, CHANNELS) == Grants(frozenset({"metrics", "status", "signals"}), frozenset())


def test_a_list_of_the_token_stands_in_place_of_the_roles_own_and_leaves_the_other_alone() -> None:
    assert grants("admin", ["logs"], None, CHANNELS) == Grants(frozenset({"logs"}), frozenset(CHANNELS[:5]))
    assert grants("viewer", None, ["l*", "*s"], CHANNELS).subscribe == {"metrics", "status"}
    assert grants("viewer", None, ["l*", "me*"], CHANNELS).publish == {"logs", "metrics"}


def test_an_empty_list_is_a_list() -> None:
    assert grants("admin", [], [], CHANNELS) == Grants(frozenset(), frozenset())


def test_only_channels_that_are_there_are_granted() -> None:
    assert grants("viewer", ["nope", "sensors.*", "*"], None, ["logs"]) == Grants(frozenset({"logs"}), frozenset())
    assert grants("viewer", iter(["*"]), None, iter(["logs", "status"])).subscribe == {"logs", "status"}


def test_a_role_that_is_not_in_the_table_grants_nothing_of_its_own() -> None:
    assert grants("owner", None, None, CHANNELS) == Grants(frozenset(), frozenset())
    assert grants("owner", ["logs"], None, CHANNELS).subscribe == {"logs"}


def test_the_table_is_configuration() -> None:
    table = {"viewer": RolePermissions(subscribe=("*",), publish=("l*",))}
    assert grants("viewer", None, None, CHANNELS, table) == Grants(frozenset(CHANNELS), frozenset({"logs"}))
    assert grants("admin", None, None, CHANNELS, table) == Grants(frozenset(), frozenset())


@given(
    role=st.sampled_from([*ROLES, "owner"]),
    subscribe=st.none() | st.lists(st.sampled_from([*CHANNELS, "s*", "*s", "*"])),
    publish=st.none() | st.lists(st.sampled_from([*CHANNELS, "s*", "*s", "*"])),
)
def test_grants_are_those_that_some_pattern_in_force_matches(
    role: str, subscribe: list[str] | None, publish: list[str] | None
) -> None:
    granted = grants(role, subscribe, publish, CHANNELS)
    own = ROLES.get(role, RolePermissions())
    for name in CHANNELS:
        patterns = own.subscribe if subscribe is None else subscribe
        assert (name in granted.subscribe) == any(matches(pattern, name) for pattern in patterns)
        patterns = own.publish if publish is None else publish
        assert (name in granted.publish) == any(matches(pattern, name) for pattern in patterns)


def test_the_roles_that_the_server_gives_are_in_the_table() -> None:
    assert {ADMIN, ANONYMOUS} < set(ROLES)
