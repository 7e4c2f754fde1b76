"""The contract's dialogues and permissions, held with the whole router."""

import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import ChildSpec
from router.feeds.metrics import MetricsFeed
from tests.router.harness import WITH_KEY, Client, Json, World, running

FIXTURES = Path(__file__).parents[2] / "clients" / "fixtures"
CONVERSATIONS = json.loads((FIXTURES / "conversations.json").read_text(encoding="utf-8"))
PERMISSIONS = json.loads((FIXTURES / "permissions.json").read_text(encoding="utf-8"))
#: Channels with events of the system's own, which may come at any time.
TALKATIVE = ("metrics", "logs", "status", "connections")

PLACEHOLDER = re.compile(r"\$(?P<kind>\w+)(?::(?P<name>\w+)(?:\+(?P<plus>\d+))?)?")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


KINDS: dict[str, Callable[[Any], object]] = {
    "any": lambda value: True,
    "string": lambda value: isinstance(value, str),
    "int": lambda value: is_number(value) and value == int(value),
    "number": is_number,
    "timestamp": lambda value: isinstance(value, str) and TIMESTAMP.fullmatch(value),
    "uuid4": lambda value: isinstance(value, str) and UUID4.fullmatch(value),
}


def matches(expected: Any, value: Any, memory: dict[str, Any]) -> bool:
    """Whether a value is as the fixtures' README has it; what is to be remembered goes to `memory`."""
    match expected:
        case str() if placeholder := PLACEHOLDER.fullmatch(expected):
            if not KINDS[placeholder["kind"]](value):
                return False
            name, plus = placeholder["name"], placeholder["plus"]
            if plus is not None:
                return bool(value == memory[name] + int(plus))
            return name is None or bool(value == memory.setdefault(name, value))
        case dict():
            absent = expected.get("$absent", ())
            return isinstance(value, dict) and all(
                (key not in value) if key in absent else key in value and matches(wanted, value[key], memory)
                for key, wanted in {**expected, **dict.fromkeys(absent)}.items()
                if key != "$absent"
            )
        case list():
            return (
                isinstance(value, list)
                and len(value) == len(expected)
                and all(matches(wanted, item, memory) for wanted, item in zip(expected, value, strict=True))
            )
        case bool() | None:
            return value is expected
        case int() | float():
            return is_number(value) and value == expected
        case _:
            return bool(value == expected)


class Talk:
    """One conversation; what it remembers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._memory: dict[str, Any] = {}
        self._run = secrets.token_hex(8)

    async def follow(self, steps: list[Json]) -> None:
        for step in steps:
            for _ in range(step.get("times", 1)):
                await self._step(step)

    async def _step(self, step: Json) -> None:
        if "send" in step or "send_parts" in step:
            parts = [step["send"]] if "send" in step else step["send_parts"]
            self._client.send_text("".join(map(self._fill, parts)))
        elif "expect" in step:
            message = await self._next([step["expect"]])
            assert matches(step["expect"], message, self._memory), (step, message, self._memory)
        elif "expect_unordered" in step:
            await self._expect_unordered(step["expect_unordered"])
        else:
            assert (await self._client.ended())[0] == step["expect_close"]

    def _fill(self, part: Any) -> str:
        if not isinstance(part, str):
            return str(part["repeat"] * part["times"])
        return re.sub(r"\{\{(\w+)\}\}", lambda found: str({"run": self._run, **self._memory}[found[1]]), part)

    async def _next(self, expected: list[Any]) -> Json:
        wanted = {each.get("channel") for each in expected if "type" not in each}
        while True:
            message = await self._client.receive()
            if "type" in message or message["channel"] not in TALKATIVE or message["channel"] in wanted:
                return message

    async def _expect_unordered(self, expected: list[Any]) -> None:
        runs = [list(each) if isinstance(each, list) else [each] for each in expected]
        while runs:
            message = await self._next([run[0] for run in runs])
            run = next((run for run in runs if matches(run[0], message, dict(self._memory))), None)
            assert run is not None, (message, runs, self._memory)
            del run[0]
            runs = [run for run in runs if run]


def each(cases: list[Json]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


def metrics(world: World) -> list[ChildSpec]:
    return [ChildSpec("metrics", lambda: MetricsFeed(world.state, world.router))]


@pytest.mark.parametrize("conversation", each(CONVERSATIONS))
async def test_the_router_converses_as_the_contract_says(conversation: Json, autojump_clock: MockClock) -> None:
    async with running(watched=True, feeds=metrics) as world:
        await Talk(world.open()).follow(conversation["steps"])


async def test_conversations_one_after_the_other_leave_nothing_behind(autojump_clock: MockClock) -> None:
    async with running(watched=True) as world:
        for conversation in CONVERSATIONS:
            if not conversation.get("slow"):
                client = world.open()
                await Talk(client).follow(conversation["steps"])
                client.close(1000)
                await client.ended()
        await trio.sleep(302)  # what was closed otherwise than with 1000 could be resumed until now
        world.assert_nothing_left()


async def as_role(world: World, role: str) -> Client:
    return await world.connect(token=None if role == "anonymous" else world.jwt(role=role))


async def assert_allows(client: Client, allows: dict[str, list[bool]]) -> None:
    client.subscribe(*allows)
    answer = await client.reply("subscribed")
    assert answer["channels"] == [name for name, (subscribe, _) in allows.items() if subscribe]
    client.send("unsubscribe", channels=list(allows))
    await client.reply("unsubscribed")
    for name, (_, publish) in allows.items():
        client.publish(name, id=name)
        answer = await client.receive()
        assert answer["id"] == name
        assert (answer["type"] == "published") == publish
        assert publish or answer["code"] == "permission_denied"


@pytest.mark.parametrize("role", PERMISSIONS["table"])
async def test_a_role_may_do_what_the_table_says(role: str, autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        client = await as_role(world, role)
        assert client.connected["role"] == role
        await assert_allows(client, PERMISSIONS["table"][role])


@pytest.mark.parametrize("case", each(PERMISSIONS["claims"]))
async def test_a_token_may_widen_or_narrow_its_own(case: Json, autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        client = await world.connect(token=world.jwt(**case["claims"]))
        assert client.connected["role"] == case["role"]
        await assert_allows(client, case["allows"])


@pytest.mark.parametrize("case", each(PERMISSIONS["cases"]))
async def test_a_refusal_reads_as_the_contract_says(case: Json, autojump_clock: MockClock) -> None:
    async with running(WITH_KEY) as world:
        client = await as_role(world, case["role"])
        await Talk(client).follow([{"send": case["send"]}, {"expect": case["expect"]}])
