"""A dialogue with the real server on a client's connection, by the fixtures' steps and placeholders."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any, Final

import pytest

from neurograph_ws_client import ClosedError, NeurographWSClient, receiving
from neurograph_ws_client.messages import decode as read
from ws_peer import Collected

#: Channels with events of the server's own, which may come at any time.
TALKATIVE: Final = ("metrics", "logs", "status", "connections")

_PLACEHOLDER: Final = re.compile(r"\$(?P<kind>\w+)(?::(?P<name>\w+)(?:\+(?P<plus>\d+))?)?")
_KINDS: Final[dict[str, Callable[[Any], object]]] = {
    "any": lambda value: True,
    "string": lambda value: isinstance(value, str),
    "int": lambda value: _is_number(value) and value == int(value),
    "number": lambda value: _is_number(value),
    "timestamp": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z").fullmatch,
    "uuid4": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}").fullmatch,
}


def say_raw(client: NeurographWSClient, text: str) -> None:
    """Send a text past the client, on its connection."""
    core = client._core
    assert core._wire is not None
    core._wire.send(text.encode())
    core.on_output()


def filled(parts: list[Any]) -> str:
    """A text that is too long to write down."""
    return "".join(part if isinstance(part, str) else str(part["repeat"] * part["times"]) for part in parts)


def overhear(monkeypatch: pytest.MonkeyPatch) -> Collected:
    """All messages that clients read from now on."""
    heard = Collected()

    def decode(text: bytes) -> Any:
        message = read(text)
        heard(message)
        return message

    monkeypatch.setattr(receiving, "decode", decode)
    return heard


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Talk:
    """One dialogue.

    Args:
        client: Whose connection it is held on.
        heard: What the client reads.
    """

    def __init__(self, client: NeurographWSClient, heard: Collected) -> None:
        self._client = client
        self._heard = heard
        self._next = 0
        self._memory: dict[str, Any] = {"run": secrets.token_hex(8)}

    async def step(self, step: dict[str, Any]) -> None:
        if "send" in step or "send_parts" in step:
            text = filled(step.get("send_parts", [step.get("send")]))
            say_raw(self._client, re.sub(r"\{\{(\w+)\}\}", lambda found: str(self._memory[found[1]]), text))
        elif "expect" in step:
            message = await self._hear([step["expect"]])
            assert self._matches(step["expect"], message), (step, message)
        elif "expect_unordered" in step:
            runs = [list(each) if isinstance(each, list) else [each] for each in step["expect_unordered"]]
            while runs:
                message = await self._hear([run[0] for run in runs])
                run = next((run for run in runs if self._matches(run[0], message)), None)
                assert run is not None, (runs, message)
                del run[0]
                runs = [run for run in runs if run]
        else:
            with pytest.raises(ClosedError) as caught:
                await self._client.run_forever()
            assert caught.value.code == step["expect_close"]

    async def _hear(self, expected: list[Any]) -> Any:
        wanted = [each.get("channel") for each in expected if "type" not in each]
        while True:
            message = (await self._heard.until(self._next + 1))[self._next]
            self._next += 1
            if "type" in message or message["channel"] not in TALKATIVE or message["channel"] in wanted:
                return message

    def _matches(self, expected: Any, value: Any) -> bool:
        match expected:
            case str() if found := _PLACEHOLDER.fullmatch(expected):
                if not _KINDS[found["kind"]](value):
                    return False
                if found["plus"] is not None:
                    return bool(value == self._memory[found["name"]] + int(found["plus"]))
                return found["name"] is None or bool(self._memory.setdefault(found["name"], value) == value)
            case dict():
                return (
                    isinstance(value, dict)
                    and not value.keys() & set(expected.get("$absent", ()))
                    and all(n in value and self._matches(e, value[n]) for n, e in expected.items() if n != "$absent")
                )
            case list():
                return (
                    isinstance(value, list)
                    and len(value) == len(expected)
                    and all(self._matches(e, v) for e, v in zip(expected, value, strict=True))
                )
        return bool(value == expected) and isinstance(value, bool) == isinstance(expected, bool)
