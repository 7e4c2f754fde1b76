"""Who may subscribe and publish where: roles, the lists of channels and of tokens, and what a change does."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.auth.access import Access, Grants
from router.auth.identity import Identity
from router.channels import Channels
from router.config import ChannelSettings, Config
from router.events import CHANNELS
from router.permissions import ROLES, RolePermissions, matches
from tests.router.granting import grants


def subscribed(granted: Grants) -> set[str]:
    return {name for name in CHANNELS if granted.may_subscribe(name)}


def published(granted: Grants) -> set[str]:
    return {name for name in CHANNELS if granted.may_publish(name)}


def test_the_lists_of_a_role_hold_where_the_token_has_none() -> None:
    assert subscribed(grants("bot")) == {"metrics", "status", "signals"}
    assert published(grants("bot")) == set()


def test_a_list_of_the_token_stands_in_place_of_the_roles_own_and_leaves_the_other_alone() -> None:
    granted = grants("admin", ["logs"])
    assert (subscribed(granted), published(granted)) == ({"logs"}, set(CHANNELS) - {"connections"})
    granted = grants("viewer", None, ["l*", "*s"])
    assert (subscribed(granted), "logs" in published(granted)) == ({"metrics", "status"}, True)


def test_an_empty_list_is_a_list() -> None:
    granted = grants("admin", [], [])
    assert (subscribed(granted), published(granted)) == (set(), set())


def test_a_channel_that_there_is_not_is_granted_to_nobody() -> None:
    assert not grants("admin", ["*"], ["*"]).may_subscribe("nope")
    assert not grants("admin", ["*"], ["*"]).may_publish("nope")


def test_a_role_that_is_not_in_the_table_grants_nothing_of_its_own() -> None:
    assert subscribed(grants("owner")) == set()
    assert subscribed(grants("owner", ["logs"])) == {"logs"}


@given(
    role=st.sampled_from([*ROLES, "owner"]),
    subscribe=st.none() | st.lists(st.sampled_from([*CHANNELS, "s*", "*s", "*"])),
    publish=st.none() | st.lists(st.sampled_from([*CHANNELS, "s*", "*s", "*"])),
)
def test_grants_are_those_that_some_pattern_in_force_matches(
    role: str, subscribe: list[str] | None, publish: list[str] | None
) -> None:
    granted = grants(role, subscribe, publish)
    own = ROLES.get(role, RolePermissions())
    for name in CHANNELS:
        patterns = own.subscribe if subscribe is None else subscribe
        assert granted.may_subscribe(name) == any(matches(pattern, name) for pattern in patterns)
        patterns = own.publish if publish is None else publish
        assert granted.may_publish(name) == any(matches(pattern, name) for pattern in patterns)


# Channels of the configuration

ROLES_BY_PATTERN = {
    "admin": RolePermissions(),
    "developer": RolePermissions(),
    "viewer": RolePermissions(subscribe=("or*",)),
    "bot": RolePermissions(publish=("orders",)),
}


def may(name: str, settings: ChannelSettings, verb: Callable[[Grants, str], bool]) -> list[str]:
    """Who may, by role."""
    config = Config(roles=ROLES_BY_PATTERN, channels={name: settings})
    return [role for role in ROLES_BY_PATTERN if verb(grants(role, config=config), name)]


def test_a_new_channel_that_names_no_roles_is_for_its_keepers_and_for_whom_a_pattern_lets_in() -> None:
    assert may("orders", ChannelSettings(), Grants.may_subscribe) == ["admin", "developer", "viewer"]
    assert may("orders", ChannelSettings(), Grants.may_publish) == ["admin", "bot"]


def test_the_roles_that_a_channel_names_are_all_that_there_are() -> None:
    settings = ChannelSettings(subscribe=("bot",), publish=())
    assert may("orders", settings, Grants.may_subscribe) == ["bot"]
    assert may("orders", settings, Grants.may_publish) == []
    assert may("signals", ChannelSettings(subscribe=("viewer",)), Grants.may_subscribe) == ["viewer"]


def test_of_a_channel_of_the_system_nobody_has_more_than_its_role_says() -> None:
    assert may("signals", ChannelSettings(), Grants.may_subscribe) == []


def test_a_list_of_the_token_counts_more_than_that_of_the_channel() -> None:
    config = Config(channels={"orders.*": ChannelSettings(subscribe=("admin",))})
    assert grants("viewer", ["orders.*"], config=config).may_subscribe("orders.1")
    assert not grants("admin", [], config=config).may_subscribe("orders.1")


def test_a_family_grants_all_its_channels() -> None:
    config = Config(channels={"orders.*": ChannelSettings(subscribe=("viewer",))})
    granted = grants("viewer", config=config)
    assert granted.may_subscribe("orders.1")
    assert granted.may_subscribe("orders.2")
    assert not granted.may_subscribe("orders")
    assert not granted.may_publish("orders.1")


# One object for many, and what a change does


def test_those_of_a_role_share_their_grants() -> None:
    access = Access(ROLES, Channels())
    assert access.grants(Identity("ada", "bot")) is access.grants(Identity("bob", "bot"))
    assert access.grants(Identity("ada", "bot", ("logs",))) is not access.grants(Identity("bob", "bot"))
    assert access.grants(Identity("ada", "bot", None, ())) is not access.grants(Identity("bob", "bot"))
    assert access.grants(Identity("ada", "x")) is not access.grants(Identity("bob", "x")), "roles come from tokens"


@pytest.mark.parametrize("own", [None, ("orders*",)])
def test_grants_that_were_made_before_answer_as_the_rules_are_now(own: tuple[str, ...] | None) -> None:
    channels = Channels()
    access = Access(ROLES, channels)
    granted = access.grants(Identity("ada", "viewer", own, own))
    assert not granted.may_subscribe("orders")
    assert not granted.may_publish("orders")
    channels.configure({"orders": ChannelSettings(subscribe=("viewer",), publish=("viewer",))})
    access.configure(ROLES)
    assert granted.may_subscribe("orders")
    assert granted.may_publish("orders")
    channels.configure({})
    access.configure({})
    assert not granted.may_publish("orders")
    assert not granted.may_subscribe("orders")


def test_roles_that_change_are_read_anew() -> None:
    access = Access(ROLES, Channels())
    granted = access.grants(Identity("ada", "viewer"))
    assert not granted.may_subscribe("logs")
    access.configure({"viewer": RolePermissions(subscribe=("logs",))})
    assert granted.may_subscribe("logs")
    assert access.grants(Identity("bob", "viewer")).may_subscribe("logs")


def test_what_was_asked_before_is_remembered_up_to_a_bound() -> None:
    config = Config(channels={"orders.*": ChannelSettings(subscribe=("viewer",), publish=("viewer",))})
    granted = grants("viewer", config=config)
    for number in range(3 * Grants.MAX_REMEMBERED):
        assert granted.may_subscribe(f"orders.{number}")
        assert granted.may_publish(f"orders.{number}")
        assert len(granted._subscribe) <= Grants.MAX_REMEMBERED
        assert len(granted._publish) <= Grants.MAX_REMEMBERED
