"""Channels with a JSON Schema over HTTP: what is refused, and the schema itself for who has a use for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from trio.testing import MockClock

from router.config import ChannelSettings
from router.schemas import Schema
from tests.rest.calls import WITH_KEY, Api, api

TEXT = '{"required": ["id"], "properties": {"id": {"type": "integer"}}}'


@asynccontextmanager
async def with_schema(**settings: Any) -> AsyncIterator[Api]:
    """An API where the data of `orders.…` must have an `id`; viewers may subscribe, bots publish."""
    channels = {"orders.*": ChannelSettings(schema_file="order.json", subscribe=("viewer",), publish=("bot", "admin"))}
    async with api(**settings) as rest:
        state = rest.world.state
        state.channels.configure(channels, {"orders.*": Schema(TEXT)})
        state.access.configure(state.config.roles)
        yield rest


async def test_an_event_that_does_not_fit_is_refused(autojump_clock: MockClock) -> None:
    async with with_schema() as rest:
        event = {"channel": "orders.eu", "event_type": "x"}
        bad, good = event | {"data": {"id": "1"}}, event | {"data": {"id": 1}}
        answer = await rest.post("broadcast", bad)
        assert answer.problem(422, "invalid_message") == 'data.id: the value is not of type "integer"'
        assert (await rest.post("broadcast", good)).ok()["seq"] == 1
        done = (await rest.post("events", [good, bad, event, good])).ok()
        assert done == {
            "accepted": 2,
            "rejected": [
                {"line": 1, "error": 'data.id: the value is not of type "integer"'},
                {"line": 2, "error": "data.id is missing"},
            ],
            "rejected_count": 2,
        }


@pytest.mark.parametrize(("role", "sees"), [("viewer", True), ("bot", True), ("admin", True), ("developer", False)])
async def test_the_schema_is_shown_to_who_has_a_use_for_it(role: str, sees: bool, autojump_clock: MockClock) -> None:
    async with with_schema(**WITH_KEY) as rest:
        told = (await rest.get("channels/orders.eu", Authorization=rest.bearer(role=role))).ok()
        assert told.get("schema") == ({"required": ["id"], "properties": {"id": {"type": "integer"}}} if sees else None)
        for name in ("signals", "orders.*"):
            assert "schema" not in (await rest.get(f"channels/{name}", Authorization=rest.bearer(role=role))).ok()
