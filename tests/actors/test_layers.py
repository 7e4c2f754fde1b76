"""What the package imports, and what it offers."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest

import actors

#: Each imports only those before it.
LAYERS = ("errors", "mailbox", "actor", "child", "tree", "supervisor")
INTERNAL = {"Box", "Child", "State"}

FOLDER = Path(actors.__file__).parent


def imports(module: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def test_every_module_has_its_layer() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*LAYERS, "__init__"}
    assert actors.__doc__ is not None
    assert " → ".join(LAYERS) in actors.__doc__


@pytest.mark.parametrize("module", LAYERS)
def test_a_module_imports_only_layers_below_it_trio_and_the_standard_library(module: str) -> None:
    below = {f"actors.{name}" for name in LAYERS[: LAYERS.index(module)]}
    others = {name for name in imports(module) if name.partition(".")[0] not in sys.stdlib_module_names}
    assert others <= {*below, "trio"}


def test_the_package_offers_every_public_class_of_its_modules_and_nothing_else() -> None:
    offered = {name: value for name, value in vars(actors).items() if inspect.isclass(value)}
    defined: dict[str, object] = {}
    for layer in LAYERS:
        module = importlib.import_module(f"actors.{layer}")
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == module.__name__ and name not in INTERNAL:
                defined[name] = value
    assert offered == defined
