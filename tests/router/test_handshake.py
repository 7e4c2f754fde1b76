from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.handshake import SUBPROTOCOL, BadHandshake, Handshake, read

BEARER = [SUBPROTOCOL, "bearer.by-subprotocol"]
HEADER = [("authorization", "Bearer by-header")]


def token(
    target: str = "/ws", headers: list[tuple[str, str]] | None = None, offered: list[str] | None = None
) -> str | None:
    return read(target, headers or [], offered or []).token


def test_nothing_asked_for() -> None:
    assert read("/ws", [], []) == Handshake(
        token=None, reconnection_token=None, text_heartbeat=False, resume=False, subprotocol=None
    )


def test_everything_asked_for() -> None:
    target = "/ws?heartbeat=message&reconnection_token=r.8fQ2&resume=1"
    assert read(target, [("host", "x"), *HEADER], [SUBPROTOCOL]) == Handshake(
        token="by-header", reconnection_token="r.8fQ2", text_heartbeat=True, resume=True, subprotocol=SUBPROTOCOL
    )


def test_the_first_place_that_has_a_token_wins() -> None:
    assert token("/ws?token=by-query", HEADER, BEARER) == "by-header"
    assert token("/ws?token=by-query", [], BEARER) == "by-subprotocol"
    assert token("/ws?token=by-query", [], [SUBPROTOCOL]) == "by-query"
    assert token("/ws", [], [SUBPROTOCOL]) is None


@pytest.mark.parametrize("value", ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c", " Bearer a.b.c "])
def test_the_header_names_its_scheme_in_any_case(value: str) -> None:
    assert token(headers=[("authorization", value)]) == "a.b.c"


@pytest.mark.parametrize("value", ["Basic dTpw", "Bearer", "Bearer ", "", "a.b.c", "BearerX a.b.c", "Digest Bearer"])
def test_another_header_is_no_token(value: str) -> None:
    assert token("/ws?token=by-query", [("authorization", value), ("x-authorization", "Bearer x")]) == "by-query"


def test_of_several_headers_the_first_bearer_counts() -> None:
    headers = [("authorization", "Basic dTpw"), ("authorization", "Bearer one"), ("authorization", "Bearer two")]
    assert token(headers=headers) == "one"
    assert read("/ws", iter(headers), []).token == "one"


@pytest.mark.parametrize(
    "offered", [["bearer.a.b.c"], ["chat", "bearer.a.b.c"], ["bearer."], ["neurograph.v2", "bearer.x"]]
)
def test_a_token_as_subprotocol_needs_one_that_can_be_selected_beside_it(offered: list[str]) -> None:
    with pytest.raises(BadHandshake, match=r"offer the subprotocol neurograph\.v1 beside bearer"):
        read("/ws", HEADER, offered)


@pytest.mark.parametrize(
    "offered", [["bearer.a.b.c", SUBPROTOCOL], [SUBPROTOCOL, "chat", "bearer.a.b.c", "bearer.d.e.f"]]
)
def test_the_offer_may_stand_in_any_order(offered: list[str]) -> None:
    asked = read("/ws", [], offered)
    assert (asked.token, asked.subprotocol) == ("a.b.c", SUBPROTOCOL)


def test_an_empty_token_is_none() -> None:
    assert token("/ws?token=by-query", [], [SUBPROTOCOL, "bearer."]) == "by-query"
    assert token("/ws?token=") is None
    assert token("/ws?token") is None
    assert token("/ws?token=&token=second") == "second"


@pytest.mark.parametrize("offered", [[], [""], ["chat"], ["Neurograph.v1"], ["neurograph.v2"], ["Bearer.x"]])
def test_what_is_not_known_is_not_selected(offered: list[str]) -> None:
    asked = read("/ws", [], offered)
    assert asked.subprotocol is None
    assert asked.token is None


def test_of_a_repeated_parameter_the_first_counts() -> None:
    asked = read(
        "/ws?token=a&reconnection_token=r&heartbeat=message&token=b&reconnection_token=s&heartbeat=ping", [], []
    )
    assert asked == Handshake(token="a", reconnection_token="r", text_heartbeat=True, resume=False, subprotocol=None)
    assert not read("/ws?heartbeat=ping&heartbeat=message", [], []).text_heartbeat


@pytest.mark.parametrize("value", ["Message", "ping", "1", "message%20", "messages"])
def test_only_one_value_asks_for_heartbeats_as_messages(value: str) -> None:
    assert not read(f"/ws?heartbeat={value}", [], []).text_heartbeat


def test_parameters_are_percent_decoded() -> None:
    asked = read("/ws?%74oken=a%2Eb%2ec&reconnection%5Ftoken=%72%2e8fQ2&heart%62eat=mess%61ge", [], [])
    assert asked == Handshake(
        token="a.b.c", reconnection_token="r.8fQ2", text_heartbeat=True, resume=False, subprotocol=None
    )


@pytest.mark.parametrize(
    "query",
    ["", "&", "=", "&&=&", "%", "%ff", "token%ff=x", "tokens=x", "Token=x", "x=token=y", "#token=x", ";token=x"],
)
def test_an_odd_query_asks_for_nothing(query: str) -> None:
    assert read(f"/ws?{query}", [], []) == read("/ws", [], [])


def test_what_stands_behind_a_second_question_mark_is_part_of_the_value() -> None:
    assert token("/ws?token=a?b") == "a?b"


TOKENS = st.text(min_size=1)


@given(token=TOKENS, reconnection_token=TOKENS)
def test_tokens_come_through_a_query_as_they_are(token: str, reconnection_token: str) -> None:
    query = urlencode({"token": token, "reconnection_token": reconnection_token})
    asked = read(f"/ws?{query}", [], [])
    assert (asked.token, asked.reconnection_token) == (token, reconnection_token)


@given(target=st.text(), headers=st.lists(st.tuples(st.text(), st.text())), offered=st.lists(st.text()))
def test_no_request_does_anything_but_ask_or_be_refused(
    target: str, headers: list[tuple[str, str]], offered: list[str]
) -> None:
    try:
        asked = read(target, headers, offered)
    except BadHandshake:
        assert SUBPROTOCOL not in offered
    else:
        assert asked.token != ""
