"""What the operating system is asked: cores, limits, a process's CPU time and memory. Linux only."""

import ctypes
import os
import platform
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from .errors import BenchmarkError

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
# Loaded before any fork: between fork and exec as little as possible is done.
_libc = ctypes.CDLL(None)


def choose_cores(wanted: str | None) -> tuple[int, int]:
    """Returns the server's core and the load's.

    Args:
        wanted: two numbers joined by a comma, or `None` for the first two cores this process may use.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if wanted is None:
        if len(allowed) < 2:
            raise BenchmarkError(
                f"only core {allowed[0]} may be used, so server and load would share it; "
                f"allow two cores, or say --cores {allowed[0]},{allowed[0]} to measure all the same"
            )
        return allowed[0], allowed[1]
    numbers = wanted.split(",")
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) in allowed for number in numbers):
        raise BenchmarkError(f"--cores {wanted} is not two of the cores {allowed}; write them as in --cores 0,1")
    return int(numbers[0]), int(numbers[1])


def pin(core: int) -> None:
    """Keeps this process on one core."""
    os.sched_setaffinity(0, {core})


def child_setup(core: int) -> Callable[[], None]:
    """Returns what a child does before it becomes the program it is meant to be.

    It moves to its core, and asks the kernel to be killed should this process die without ending it.
    """

    def setup() -> None:
        os.sched_setaffinity(0, {core})
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return setup


def raise_open_files() -> int:
    """Raises the limit of open files as far as it goes, for children to inherit; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process, user and system, all its threads. Its resolution is mostly 10 ms."""
    # The name, in parentheses, may hold spaces; what follows it does not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """The resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * 1024
    raise BenchmarkError(f"process {pid} has ended, so its memory cannot be read; look at its last lines")


def describe() -> str:
    """The machine in a line."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return (
        f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )
