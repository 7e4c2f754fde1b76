"""Who imports whom: the rooms stand in the order that `router`'s docstring gives, and outside libraries in theirs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import router

ROOT = Path(router.__file__).parents[1]
#: Rooms that do no I/O and are tested without an event loop.
PURE = {
    "errors", "clock", "limits", "permissions", "policies", "config", "values", "checks", "settings", "effective",
    "events", "schemas", "filters", "frames", "handshake", "protocol", "origin",
    "outbox", "engine", "subscriptions", "sessions", "intake", "logs",
}  # fmt: skip
#: What a pure room has no use for.
IMPURE_LIBRARIES = {"trio", "trio_websocket", "hypercorn", "quart", "quart_trio", "socket", "psutil"}


def find_modules(package: str) -> dict[str, Path]:
    """The modules of a package, by dotted name."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


ROUTER = find_modules("router")
ACTORS = find_modules("actors")


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a module imports, wherever the statement stands in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            for alias in node.names:  # `from router import logs` is about the module
                name = f"{node.module}.{alias.name}"
                yield name if name in ROUTER else node.module


def library(name: str) -> str:
    return name.partition(".")[0]


def room(module: str) -> str:
    """The part of a module's name that the list of rooms has; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def listed_rooms() -> list[str]:
    """The rooms in the order of the docstring's last indented paragraph."""
    assert router.__doc__ is not None
    listed = re.findall(r"(?:^    .+\n)+", router.__doc__, re.MULTILINE)[-1]
    return re.findall(r"\w+", listed)


def test_every_module_has_its_place_in_the_list_once() -> None:
    assert sorted(listed_rooms()) == sorted({room(module) for module in ROUTER} - {""})


@pytest.mark.parametrize("module", sorted(ROUTER))
def test_a_module_imports_only_from_rooms_above_its_own(module: str) -> None:
    rooms = listed_rooms()
    here = room(module)
    above = {"", here, *rooms[: rooms.index(here)]} if here else set()
    below = [name for name in imports(ROUTER[module]) if library(name) == "router" and room(name) not in above]
    assert below == []


@pytest.mark.parametrize("module", sorted(module for module in ROUTER if room(module) in PURE))
def test_pure_rooms_do_without_an_event_loop(module: str) -> None:
    assert {library(name) for name in imports(ROUTER[module])} & IMPURE_LIBRARIES == set()


def test_pure_rooms_exist() -> None:
    assert set(listed_rooms()) >= PURE


@pytest.mark.parametrize("module", sorted(ACTORS))
def test_the_actors_know_nothing_of_the_router(module: str) -> None:
    assert not any(library(name) == "router" for name in imports(ACTORS[module]))


@pytest.mark.parametrize(("name", "user"), [("trio_websocket", "router.lanes.websocket"), ("hypercorn", "router.http")])
def test_a_library_that_may_have_to_go_is_known_to_one_module(name: str, user: str) -> None:
    modules = ROUTER | ACTORS
    users = [module for module, path in modules.items() if name in map(library, imports(path))]
    assert users == [user]


@pytest.mark.parametrize("module", sorted(ROUTER | ACTORS))
def test_only_the_command_line_is_a_client(module: str) -> None:
    client = "neurograph_ws_client" in map(library, imports((ROUTER | ACTORS)[module]))
    assert not client or module.startswith("router.cli.")
