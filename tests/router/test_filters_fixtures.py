"""The contract's cases that hold filters, as far as the language alone can tell."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw, Struct, UnsetType

from router import filters
from router.filters import Candidate, Filter, FilterError
from tests.router.test_fixtures_shape import Case, each, load, wire_text


class Subscribe(Struct):
    filter: Raw | UnsetType = UNSET


def filter_of(text: str) -> Raw | None:
    """The filter in a message, as it was sent; None: there is none."""
    try:
        sent = msgspec.json.decode(text, type=Subscribe).filter
    except (msgspec.DecodeError, RecursionError):
        return None
    return None if sent is UNSET else sent


MESSAGES = [case for case in load("client_messages.json") if filter_of(wire_text(case)) is not None]
CONVERSATIONS = [
    case
    for case in load("conversations.json")
    if any(filter_of(step["send"]) is not None for step in case["steps"] if "send" in step)
]


def filter_in(case: Case) -> Raw:
    sent = filter_of(wire_text(case))
    assert sent is not None
    return sent


@each([case for case in MESSAGES if case["valid"]])
def test_a_filter_of_a_valid_message_is_read(case: Case) -> None:
    assert filters.compile(filter_in(case)) == filters.compile(case["message"]["filter"])


@each([case for case in MESSAGES if not case["valid"]])
def test_a_filter_of_a_refused_message_is_refused(case: Case) -> None:
    assert case["error"]["code"] == "invalid_filter"
    with pytest.raises(FilterError):
        filters.compile(filter_in(case))


def test_there_are_cases_of_all_three_kinds() -> None:
    assert sum(case["valid"] for case in MESSAGES) >= 7
    assert sum(not case["valid"] for case in MESSAGES) >= 17
    assert len(CONVERSATIONS) >= 4


def events_of(message: Any) -> list[Any]:
    return message.get("events", [message]) if message["type"] == "publish" else []


def listed(expected: Any) -> list[Any]:
    """The events that a step of a conversation waits for."""
    match expected:
        case {"expect": {"event_type": _} as event}:
            return [event]
        case {"expect_unordered": some}:
            return [event for run in some if isinstance(run, list) for event in run]
    return []


@each(CONVERSATIONS)
def test_a_conversation_hears_of_the_events_that_its_filters_match(case: Case) -> None:
    wanted: Filter | None = None
    published: list[Any] = []
    heard: list[str] = []
    for step, following in zip(case["steps"], [*case["steps"][1:], {}], strict=True):
        heard += [event["event_type"] for event in listed(step)]
        if "send" not in step:
            continue
        message = json.loads(step["send"])
        if (sent := filter_of(step["send"])) is not None:
            if following["expect"]["type"] == "error":
                assert following["expect"]["code"] == "invalid_filter"
                with pytest.raises(FilterError):
                    filters.compile(sent)
                continue
            wanted = filters.compile(sent)
            replayed = [event["event_type"] for event in published if passes(wanted, event)][-message.get("last", 0) :]
            heard += [f"-{event_type}" for event_type in (replayed if "last" in message else [])]
        for event in events_of(message):
            published.append(event)
            if passes(wanted, event):
                heard.append(f"-{event['event_type']}")
    told = [each[1:] for each in heard if each.startswith("-")]
    assert told == [each for each in heard if not each.startswith("-")]
    assert told


def passes(wanted: Filter | None, event: Any) -> bool:
    data = Raw(msgspec.json.encode(event.get("data", {})))
    return wanted is None or wanted.matches(Candidate("signals", "t", event["event_type"], 1, data))
