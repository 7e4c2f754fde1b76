"""Who imports whom: layers stand in the order that the docstrings of `router` and its packages give."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import router

ROOT = Path(router.__file__).parents[1]
#: What a module has no use for that says "no I/O", or whose package does: it is tested without an event loop.
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


def docstring(module: str) -> str:
    return ast.get_docstring(ast.parse(ROUTER[module].read_text(encoding="utf-8"))) or ""


def layers(package: str) -> list[str]:
    """The layers of a package, in the order of the last indented paragraph of its docstring; none: it is one layer."""
    if "In layers" not in (text := docstring(package)):
        return []
    return re.findall(r"\w+", re.findall(r"(?:^    .+\n?)+", text, re.MULTILINE)[-1])


LAYERED = {package: layers(package) for package in sorted(ROUTER) if layers(package)}


def part(module: str, package: str) -> str:
    """The layer of a package that a module is of; empty for the package itself, and for what is not in it."""
    return module.removeprefix(f"{package}.").partition(".")[0] if module.startswith(f"{package}.") else ""


def test_the_router_is_in_layers() -> None:
    assert LAYERED.keys() > {"router"}


@pytest.mark.parametrize("package", LAYERED)
def test_every_module_has_its_place_in_the_list_once(package: str) -> None:
    assert sorted(LAYERED[package]) == sorted({part(module, package) for module in ROUTER} - {""})


@pytest.mark.parametrize(
    ("package", "module"),
    [(package, module) for package in LAYERED for module in sorted(ROUTER) if part(module, package)],
)
def test_a_module_imports_only_from_layers_above_its_own(package: str, module: str) -> None:
    order = LAYERED[package]
    own = order.index(part(module, package))
    below = [name for name in imports(ROUTER[module]) if part(name, package) in order[own + 1 :]]
    assert below == []


def is_pure(module: str) -> bool:
    """Whether a module says that it does no I/O, or its package says so."""
    first = docstring(module).partition("\n")[0]
    return "no I/O" in first or ("." in module and is_pure(module.rpartition(".")[0]))


@pytest.mark.parametrize("module", sorted(filter(is_pure, ROUTER)))
def test_a_module_that_does_no_io_knows_no_event_loop(module: str) -> None:
    assert {library(name) for name in imports(ROUTER[module])} & IMPURE_LIBRARIES == set()


@pytest.mark.parametrize("module", sorted(ACTORS))
def test_the_actors_know_nothing_of_the_router(module: str) -> None:
    assert not any(library(name) == "router" for name in imports(ACTORS[module]))


@pytest.mark.parametrize(
    ("name", "user"), [("trio_websocket", "router.lanes.websocket"), ("hypercorn", "router.door.http")]
)
def test_a_library_that_may_have_to_go_is_known_to_one_module(name: str, user: str) -> None:
    modules = ROUTER | ACTORS
    users = [module for module, path in modules.items() if name in map(library, imports(path))]
    assert users == [user]


@pytest.mark.parametrize("module", sorted(ROUTER | ACTORS))
def test_only_the_command_line_is_a_client(module: str) -> None:
    client = "neurograph_ws_client" in map(library, imports((ROUTER | ACTORS)[module]))
    assert not client or module.startswith("router.cli.")
