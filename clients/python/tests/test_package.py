"""The package: it builds, installs into an empty environment, runs there with what it declares, and is typed."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest
import router

import neurograph_ws_client
from ws_router import router as running_router

ROOT: Final = Path(__file__).parents[1]
#: For one program; it only ever passes where something hangs.
DEADLINE_S: Final = 120.0
PROGRAM: Final = """
import asyncio
import sys

from neurograph_ws_client import NeurographWSClient


async def main():
    async with NeurographWSClient(sys.argv[1]) as client:
        print((await client.publish("signals", "signal.a")).first)


asyncio.run(main())
"""
TYPED: Final = """
from neurograph_ws_client import Channel, EventStream, MetricsEvent, NeurographWSClient


def on_metrics(event: MetricsEvent) -> None:
    cpu: float = event["data"]["cpu_percent"]
    print(cpu)


async def main() -> None:
    async with NeurographWSClient() as client:
        client.subscribe(Channel.METRICS, on_metrics, last=5)
        stream: EventStream[MetricsEvent] = client.events("metrics")
        async for event in stream:
            print(event["seq"] + 1)
        receipt = await client.publish("signals", "signal.a")
        print(receipt.first + 1)
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def succeed(*command: str | Path, cwd: Path) -> str:
    """What it prints."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is made of it."""
    folder = tmp_path_factory.mktemp("built")
    # Without isolation, in which it would fetch its backend: that one is installed.
    succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    succeed(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--no-index",
            "--no-deps", wheel, cwd=folder)  # fmt: skip
    (packages,) = folder.glob("lib/python*/site-packages")
    for requirement in metadata.requires("neurograph-ws-client") or ():
        if "extra" not in requirement:
            _link(re.split(r"[^\w-]", requirement)[0], packages)
    return python


def _link(name: str, packages: Path) -> None:
    """Put what is installed here into another environment, for there may be no network."""
    files = metadata.files(name) or []
    for top in {file.parts[0] for file in files if ".." not in file.parts and file.parts[0] != "__pycache__"}:
        (packages / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))


def test_the_wheel_has_the_package_and_its_types(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    source = ROOT / "src"
    expected = {str(path.relative_to(source)) for path in source.rglob("*") if path.suffix in (".py", ".typed")}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "neurograph_ws_client/py.typed" in expected


def test_the_sdist_has_what_its_readers_need_and_no_tests(built: Path) -> None:
    """The tests stay behind: they run the router, which is not in it."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "docs/api.md", "pyproject.toml"} <= names
    assert {name.partition("/")[0] for name in names if "/" in name} == {"src", "docs"}


def test_it_runs_with_what_it_declares(installed: Path) -> None:
    with running_router() as one:
        assert succeed(installed, "-W", "error", "-c", PROGRAM, one.url, cwd=installed.parent) == "1\n"
    done = run(installed, "-c", "import trio", cwd=installed.parent)
    assert "No module named 'trio'" in done.stderr, "the environment is not empty"


def test_its_types_are_found_and_strict(installed: Path, tmp_path: Path) -> None:
    def check(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "program.py").write_text(text, encoding="utf-8")
        return run(sys.executable, "-m", "mypy", "--strict", "--python-executable", installed, "--cache-dir", "cache",
                   "program.py", cwd=tmp_path)  # fmt: skip

    done = check(TYPED)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = check(TYPED.replace("cpu_percent", "cpu_procent"))
    assert 'TypedDict "MetricsData" has no key "cpu_procent"' in wrong.stdout


def test_there_is_one_version(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    versions = {wheel.name.split("-")[1], neurograph_ws_client.__version__, changes[0], router.__version__}
    assert versions == {metadata.version("neurograph-ws-client")}
