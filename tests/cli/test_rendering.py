"""How events look: as they came, on one line, spread out; and that a terminal obeys none of them."""

import json

import pytest

from router.cli.rendering import renderer


def shown(style: str, payload: str, *, colour: bool = False) -> str:
    return renderer(style, colour=colour)(payload.encode()).decode()


EVENT = (
    '{"channel":"signals","timestamp":"2024-12-29T12:00:00.123Z","event_type":"x.y",'
    '"data":{"a" : "ü",\n\t"b":[1]},"seq":5}'
)


def test_json_is_the_event_as_it_came_on_one_line() -> None:
    text = shown("json", EVENT)
    assert text == EVENT.replace("\n\t", " ") + "\n"
    assert json.loads(text) == json.loads(EVENT)


def test_compact_is_words_and_data() -> None:
    assert shown("compact", EVENT) == '2024-12-29T12:00:00.123Z signals 5 x.y {"a" : "ü", "b":[1]}\n'
    assert shown("compact", '{"channel":"global","timestamp":"t","event_type":"x","data":{}}') == "t global - x {}\n"


def test_pretty_is_spread_out() -> None:
    text = '12:00:00.123Z signals x.y #5\n{\n  "a": "ü",\n  "b": [\n    1\n  ]\n}\n'
    assert shown("pretty", EVENT) == text
    assert shown("pretty", '{"channel":"global","timestamp":"","event_type":"x","data":{}}') == " global x\n{}\n"


def test_colours_change_nothing_but_colours() -> None:
    coloured = shown("pretty", EVENT, colour=True)
    assert "\x1b[36m" in coloured
    assert '\x1b[34m"a"\x1b[0m: "ü"' in coloured
    for code in ("0", "1", "2", "34", "36"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == shown("pretty", EVENT)


@pytest.mark.parametrize("evil", ["\x9b", "\x7f", "\u202e", "\u2066"])
def test_pretty_has_nothing_that_a_terminal_would_obey(evil: str) -> None:
    payload = json.dumps({"channel": f"a{evil}", "timestamp": "t", "event_type": f"x{evil}", "data": {evil: evil}})
    text = shown("pretty", payload.replace(f"\\u{ord(evil):04x}", evil))
    assert evil not in text
    assert text.count(f"\\u{ord(evil):04x}") == 4
