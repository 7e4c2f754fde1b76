"""`debug`: what happens is written to stderr, once."""

import logging

import pytest

from neurograph_ws_client import NeurographWSClient
from neurograph_ws_client.log import log
from ws_log import as_in_a_program


def debugging() -> NeurographWSClient:
    return NeurographWSClient("ws://127.0.0.1:1/ws", debug=True)


def test_of_two_clients_each_line_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    with as_in_a_program():
        for _ in range(2):
            debugging()
        log.debug("an attempt")
    assert capsys.readouterr().err.count("an attempt") == 1


@pytest.mark.parametrize("name", ["", "neurograph_ws_client"])
def test_a_handler_that_the_program_brings_is_the_only_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    class Own(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    with as_in_a_program():
        logging.getLogger(name).addHandler(Own())
        debugging()
        log.debug("an attempt")
    assert seen == ["an attempt"]
    assert capsys.readouterr().err == ""


def test_beside_basic_config_each_line_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    with as_in_a_program():
        logging.basicConfig()
        debugging()
        log.debug("an attempt")
    assert capsys.readouterr().err == "DEBUG:neurograph_ws_client:an attempt\n"


def test_without_it_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with as_in_a_program():
        NeurographWSClient("ws://127.0.0.1:1/ws")
        log.debug("an attempt")
    assert capsys.readouterr().err == ""
