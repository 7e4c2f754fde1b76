"""A test that waits for ever fails instead: at once where the clock jumps, after a while where it does not."""

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio

#: Far beyond what any test takes, by a clock that does not jump.
DEADLINE_S = 20
#: Beyond what any test's clock shows.
FOR_EVER_S = 1e6


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            jumps = "autojump_clock" in item.fixturenames
            item.obj = under_deadline(item.obj, FOR_EVER_S if jumps else DEADLINE_S)


def under_deadline(test: Callable[..., Coroutine[Any, Any, None]], seconds: float) -> Callable[..., Any]:
    @functools.wraps(test)
    async def limited(*args: object, **kwargs: object) -> None:
        with trio.fail_after(seconds):
            await test(*args, **kwargs)

    return limited
