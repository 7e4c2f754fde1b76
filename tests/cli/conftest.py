"""What every test of the command line starts from: no settings of whoever runs it."""

import os

import pytest


@pytest.fixture(autouse=True)
def settings_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("NEUROGRAPH_") or name == "NO_COLOR":
            monkeypatch.delenv(name)
