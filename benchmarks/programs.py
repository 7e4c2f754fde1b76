"""The C programs, compiled when a measurement begins."""

import os
import shutil
import subprocess
from pathlib import Path

from .errors import BenchmarkError

_SOURCES = Path(__file__).parent
_BINARIES = _SOURCES / "bin"
_FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra"]
_COMPILE_TIMEOUT_S = 120

_PARTS = {
    "baseline": ["baseline.c"],
    "load": ["load.c", "load_client.c", "load_saturate.c", "load_paced.c", "load_idle.c", "load_listen.c"],
}

BASELINE = _BINARIES / "baseline"
LOAD = _BINARIES / "load"


def build() -> None:
    """Compiles every program anew; it takes a second or two.

    Raises:
        BenchmarkError: there is no C compiler, or it refused a program.
    """
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise BenchmarkError(f"no C compiler named {compiler}; install gcc or clang, or name one in CC")
    _BINARIES.mkdir(exist_ok=True)
    for name, parts in _PARTS.items():
        command = [compiler, *_FLAGS, "-o", str(_BINARIES / name), *(str(_SOURCES / part) for part in parts)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise BenchmarkError(f"{compiler} refused {name}; its words:\n{done.stderr}")
