"""The tables of the README agree with the code and the contract. Its programs are run by the project's tests/docs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import neurograph_ws_client
from neurograph_ws_client import NeurographWSClient, errors
from neurograph_ws_client.dispatching import NAMES
from ws_line import fixture

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
#: For the type checker; it only ever passes where something hangs.
DEADLINE_S: Final = 120.0
#: What else a program may well do, and what it may not.
TYPED: Final = """
from typing import Any, assert_type

from neurograph_ws_client import Channel, Event, Gap, MetricsEvent, NeurographWSClient, SignalsEvent


def on_dict(event: dict[str, Any]) -> None: ...
async def on_event(event: Event) -> None: ...
def on_metrics(event: MetricsEvent) -> None: ...


async def main(client: NeurographWSClient) -> None:
    client.subscribe(Channel.METRICS, on_dict)
    client.subscribe("orders", on_dict)
    for channel in Channel:
        client.subscribe(channel, on_event, last=1)
    client.subscribe("signals", lambda event: print(event["data"]["priority"] + 1))
    client.subscribe("logs", on_metrics)  # type: ignore[arg-type]
    async for item in client.events("signals", gaps=True):
        if "type" in item:
            assert_type(item, Gap)
        else:
            assert_type(item, SignalsEvent)
            item["data"]["n"]  # type: ignore[typeddict-item]
    async for other in client.events("orders", gaps=True):
        if "type" not in other:
            print(other["data"]["n"])
    at = {"epoch": "e", "seq": 41}
    await client.history("signals", after=at)
    client.subscribe("signals", on_dict, recover=at)
    client.subscribe_multiple(["signals"], on_dict, recover={"signals": at})
"""


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first heading this is."""
    _, _, rest = README.partition(f"| {heading} |")
    table = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def test_options_and_their_defaults() -> None:
    parameters = inspect.signature(NeurographWSClient).parameters
    shown = {name.strip("`"): eval(default.strip("`"), {}) for name, default, _ in rows("option")}
    assert shown == {name: parameter.default for name, parameter in parameters.items()}
    assert list(shown) == list(parameters)


def test_every_error_with_pythons_kind() -> None:
    shown = {}
    for first, *_ in rows("error"):
        name, *kinds = re.findall(r"`(\w+)`", first)
        shown[name] = kinds
    expected = {
        name: [base.__name__ for base in error.__bases__[1:]]
        for name, error in vars(errors).items()
        if name in neurograph_ws_client.__all__ and name != "NeurographError" and inspect.isclass(error)
    }
    assert shown == expected


def test_every_close_code() -> None:
    answers = {"comes back": "yes", "is closed": "no"}
    shown = {}
    for codes, _, does in rows("the server closes with"):
        for code in re.findall(r"(?<!up to )\b\d{4}", codes):
            shown[int(code)] = answers.get(does, "fresh_token")
    assert shown == {case["code"]: case["reconnect"] for case in fixture("close_codes.json")["codes"]}


def test_every_callback() -> None:
    shown = [name for first, _ in rows("`on(…)`") for name in re.findall(r"`(\w+)`", first)]
    assert sorted(shown) == sorted(NAMES)


def test_its_programs_are_typed_strictly(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    names = [f"program_{number}.py" for number in range(len(blocks) + 1)]
    for name, text in zip(names, [*blocks, TYPED], strict=True):
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", *names],
        cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
