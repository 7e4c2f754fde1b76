"""The reference is what the docstrings say, and says all."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path
from typing import Final

import neurograph_ws_client
from neurograph_ws_client import NeurographWSClient

DOCS: Final = Path(__file__).parents[1] / "docs"
PAGE: Final = runpy.run_path(str(DOCS / "reference.py"))


def test_it_is_up_to_date() -> None:
    assert (DOCS / "api.md").read_text(encoding="utf-8") == PAGE["reference"](), "run clients/python/docs/reference.py"


def test_each_public_name_is_there() -> None:
    names = {name for group in PAGE["TYPES"].values() for name in group}
    assert names | set(PAGE["error_names"]()) | {"NeurographWSClient"} == set(neurograph_ws_client.__all__)


def test_each_method_is_there() -> None:
    methods = {name for name, _ in inspect.getmembers(NeurographWSClient) if not name.startswith("_")}
    assert {name for group in PAGE["METHODS"].values() for name in group} == methods


def test_each_has_a_docstring_of_its_own() -> None:
    bare = [line for line in PAGE["reference"]().splitlines() if line.strip() == "None"]
    assert bare == []
