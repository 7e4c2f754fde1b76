"""The registry of channels: the system's own, configured ones, and families."""

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.channels import Channels
from router.config import ChannelSettings
from router.events import CHANNELS
from router.schemas import Schema

FAMILY = ChannelSettings(description="Readings")


def test_without_a_configuration_there_are_the_systems_own() -> None:
    channels = Channels()
    assert [spec.name for spec in channels] == list(CHANNELS)
    assert channels.find("signals") is CHANNELS["signals"]
    assert channels.find("orders") is None


def test_a_configured_channel_takes_any_object() -> None:
    channels = Channels({"orders": ChannelSettings(description="Orders", subscribe=("viewer",))})
    spec = channels.find("orders")
    assert spec is not None
    assert (spec.name, spec.description) == ("orders", "Orders")
    assert (spec.settings.subscribe, spec.settings.publish) == (("viewer",), None)
    assert (spec.system, spec.is_family) == (False, False)
    spec.check(msgspec.Raw(b'{"any":[1]}'))
    with pytest.raises(msgspec.ValidationError):
        spec.check(msgspec.Raw(b"[]"))


def test_data_of_a_channel_with_a_schema_fit_it() -> None:
    schema = Schema('{"required": ["id"]}')
    channels = Channels({"orders.*": ChannelSettings(schema_file="order.json"), "jobs": FAMILY}, {"orders.*": schema})
    spec, jobs = channels.find("orders.eu"), channels.find("jobs")
    assert spec is not None
    assert jobs is not None
    assert (spec.description, spec.schema) == ("Events of orders.*", msgspec.Raw(b'{"required":["id"]}'))
    spec.check(msgspec.Raw(b'{"id":1}'))
    with pytest.raises(msgspec.ValidationError, match="missing required field `id`"):
        spec.check(msgspec.Raw(b"{}"))
    jobs.check(msgspec.Raw(b"{}"))
    assert jobs.schema is None


def test_a_channel_whose_schema_was_not_read_is_none() -> None:
    """Else its events would pass unchecked."""
    with pytest.raises(KeyError):
        Channels({"orders": ChannelSettings(schema_file="order.json")})


def test_a_channel_without_a_description_has_one_all_the_same() -> None:
    spec = Channels({"orders": ChannelSettings()}).find("orders")
    assert spec is not None
    assert spec.description == "Events of orders"


def test_of_a_channel_of_the_system_description_and_roles_may_be_set_and_the_data_stay() -> None:
    channels = Channels({"signals": ChannelSettings(publish=("bot",))})
    spec = channels.find("signals")
    assert spec is not None
    assert (spec.system, spec.description) == (True, CHANNELS["signals"].description)
    assert (spec.settings.subscribe, spec.settings.publish) == (None, ("bot",))
    with pytest.raises(msgspec.ValidationError):
        spec.check(msgspec.Raw(b'{"priority":256}'))
    assert CHANNELS["signals"].settings.publish is None
    assert [each.name for each in channels] == list(CHANNELS)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sensors.a", "sensors.*"),
        ("sensors.a.b", "sensors.*"),
        ("sensors.hot.a", "sensors.hot.*"),
        ("sensors.hot.", "sensors.*"),
        ("sensors.hot", "sensors.*"),
        ("sensors.fixed", "sensors.fixed"),
        ("sensors.fixed.a", "sensors.*"),
        ("sensors..a", "sensors.*"),
        ("sensors." + "a" * 56, "sensors.*"),
        ("sensors." + "a" * 57, None),
        ("sensors.", None),
        ("sensors", None),
        ("sensors.*", None),
        ("sensors.A", None),
        ("sensors.é", None),
        ("sensors.a b", None),
        ("sensorsx.a", None),
        (".a", None),
        (".", None),
        ("", None),
    ],
)
def test_a_name_belongs_to_the_nearest_family(name: str, found: str | None) -> None:
    channels = Channels({"sensors.*": FAMILY, "sensors.hot.*": FAMILY, "sensors.fixed": ChannelSettings()})
    spec = channels.find(name)
    assert (spec and spec.name) == found


@given(prefix=st.text("ab.", min_size=1, max_size=5), name=st.text(string.printable, max_size=10))
def test_a_family_takes_what_stands_under_its_name_and_nothing_else(prefix: str, name: str) -> None:
    channels = Channels({prefix + ".*": FAMILY})
    allowed = set(string.ascii_lowercase + string.digits + "._-")
    fits = name.startswith(prefix + ".") and len(name) > len(prefix) + 1 and set(name) <= allowed
    assert (channels.find(name) is not None) == (fits or name in CHANNELS)


def test_configured_anew_it_knows_no_others() -> None:
    channels = Channels({"orders.*": FAMILY, "jobs": FAMILY})
    channels.configure({"jobs.*": FAMILY})
    assert channels.find("orders.1") is None
    assert channels.find("jobs") is None
    assert channels.find("jobs.1") is not None
    assert [spec.name for spec in channels] == [*CHANNELS, "jobs.*"]
