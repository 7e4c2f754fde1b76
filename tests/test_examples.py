"""The example programs run, and are the programs that the documentation shows."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import actors

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str) -> str:
    """What the program prints; it is to succeed and to complain of nothing."""
    program = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def without_docstrings(source: str) -> str:
    """The program itself, however it is laid out; a body that is only a docstring counts as `pass`."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) is not None:
                del node.body[0]
            if not node.body:
                node.body.append(ast.Pass())
    return ast.unparse(tree)


def test_the_counter_counts() -> None:
    assert run("counter.py") == "42\n"


def test_the_counter_is_the_program_that_the_package_shows() -> None:
    assert actors.__doc__ is not None
    _, named, shown = actors.__doc__.partition("`examples/counter.py`:\n")
    assert named
    assert without_docstrings(textwrap.dedent(shown)) == without_docstrings((EXAMPLES / "counter.py").read_text())
