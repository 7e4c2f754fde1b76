import msgspec
import pytest

from router.errors import CloseCode, ErrorCode, GapReason
from tests.router.test_fixtures_shape import load


def reconnect_by_range(code: int) -> str:
    for span in load("close_codes.json")["ranges"]:
        if span["from"] <= code <= span["to"]:
            return str(span["reconnect"])
    raise AssertionError(code)


def test_the_server_knows_the_contracts_error_codes() -> None:
    assert {entry["code"] for entry in load("error_codes.json")} == set(ErrorCode)


@pytest.mark.parametrize("code", CloseCode)
def test_clients_know_each_close_code(code: CloseCode) -> None:
    assert code in {entry["code"] for entry in load("close_codes.json")["codes"]}


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000])
def test_the_range_of_a_close_code_says_whether_to_reconnect(code: CloseCode) -> None:
    meant = {entry["code"]: entry["reconnect"] for entry in load("close_codes.json")["codes"]}[code]
    assert (meant == "no") == (reconnect_by_range(code) == "no") == (code >= 4500)


def test_clients_know_the_reasons_of_gaps() -> None:
    gaps = [case["message"] for case in load("server_messages.json") if case["type"] == "gap"]
    assert set(GapReason) < {gap["reason"] for gap in gaps}


def test_codes_go_over_the_wire_as_plain_text_and_numbers() -> None:
    said = msgspec.json.encode([ErrorCode.INVALID_TOKEN, CloseCode.TOKEN_EXPIRED, GapReason.SLOW_CONSUMER])
    assert said == b'["invalid_token",4002,"slow_consumer"]'
    assert f"{ErrorCode.INTERNAL}" == "internal"
