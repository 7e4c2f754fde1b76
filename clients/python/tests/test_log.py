"""`debug`: what happens is written to stderr, once."""

import logging

import pytest

from neurograph_ws_client import NeurographWSClient
from neurograph_ws_client.log import log


def debugging() -> NeurographWSClient:
    return NeurographWSClient("ws://127.0.0.1:1/ws", debug=True)


def test_of_two_clients_each_line_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        debugging()
    log.debug("an attempt")
    assert capsys.readouterr().err.count("an attempt") == 1


def test_a_handler_that_the_program_brings_is_the_only_one(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    class Own(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    log.addHandler(Own())
    debugging()
    log.debug("an attempt")
    assert seen == ["an attempt"]
    assert capsys.readouterr().err == ""


def test_without_it_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    NeurographWSClient("ws://127.0.0.1:1/ws")
    log.debug("an attempt")
    assert capsys.readouterr().err == ""
