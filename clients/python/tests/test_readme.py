"""The tables of the README agree with the code and the contract. Its programs are run by the project's tests/docs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Final

import neurograph_ws_client
from neurograph_ws_client import NeurographWSClient, errors
from neurograph_ws_client.dispatching import NAMES
from ws_line import fixture

README: Final = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


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
