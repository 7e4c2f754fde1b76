"""TOML: a file read or refused, the line that a key stands in, values written."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config import ConfigError
from router.loading.toml import MAX_BYTES, TomlFile, key_written, one_line, path_written, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.toml"


def toml(path: Path, content: str | bytes) -> TomlFile:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return TomlFile(str(path))


def refusal(path: Path | str, content: str | bytes | None = None) -> str:
    """What is said of a file, without its path."""
    with pytest.raises(ConfigError) as caught:
        TomlFile(str(path)) if content is None else toml(Path(path), content)
    said = str(caught.value)
    assert said.isprintable()
    return said.replace(one_line(str(path)), "FILE")


# Reading


def test_a_file_is_read(path: Path) -> None:
    file = toml(path, 'a = 1\n[b]\nc = "ü"\n')
    assert (file.values, file.path) == ({"a": 1, "b": {"c": "ü"}}, str(path))


def test_as_editors_on_windows_write_it(path: Path) -> None:
    file = toml(path, b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    assert file.values == {"a": 1, "b": 2}
    assert file.where(("b",)) == f"{path}:2"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_alone(path: Path, mode: int) -> None:
    path.touch()
    path.chmod(mode)
    assert not TomlFile(str(path)).open_to_others


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602])
def test_a_file_that_is_open_to_others(path: Path, mode: int) -> None:
    path.touch()
    path.chmod(mode)
    assert TomlFile(str(path)).open_to_others


def test_what_comes_through_a_pipe_is_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"a = 1\n")
    os.close(writer)
    try:
        assert TomlFile(f"/dev/fd/{reader}").values == {"a": 1}
    finally:
        os.close(reader)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml") == "the configuration file FILE cannot be read: No such file or directory"
    assert refusal(tmp_path) == "the configuration file FILE cannot be read: Is a directory"
    assert refusal("a\0b").startswith("the configuration file FILE cannot be read: embedded null")
    assert refusal(tmp_path / "a\nb").startswith("the configuration file FILE cannot")


def test_a_file_of_no_end_is_not_read_to_it(path: Path) -> None:
    assert refusal("/dev/zero") == f"the configuration file FILE is larger than {MAX_BYTES} bytes"
    assert toml(path, "#" * MAX_BYTES).values == {}
    assert "is larger than" in refusal(path, "#" * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a = ", "FILE:1:5: not TOML: Invalid value; text stands in quotes"),
        ("a = 1\n\nhost = localhost\n", "FILE:3:8: not TOML: Invalid value; text stands in quotes"),
        ("a", "FILE:1:2: not TOML: "),
        ("a = 1\n[b", "FILE:2:3: not TOML: "),
        ("a = [1,\n2\nb = 3", "FILE:3:1: not TOML: "),
        ('a = "x', "FILE:1:7: not TOML: "),
        ("a = 1\na = 2\n", "FILE:2:6: not TOML: "),
        ("a = 1 b = 2", "FILE:1:7: not TOML: "),
        ("a = \x01", "FILE:1:5: not TOML: Invalid value; text stands in quotes"),
        ("a = '\x01'", "FILE:1:6: not TOML: "),
        ("a = 1\r", "FILE:1:6: not TOML: "),
        (b"a = 1\nb = '\xff'", "FILE:2: not UTF-8 text"),
        (b"\xff\xfea\0", "FILE:1: not UTF-8 text"),
        ("a = " + "[" * 100_000, "FILE: not TOML: nested too deeply"),
        ("a = " + "9" * 5_000, "FILE: not TOML: Exceeds the limit (4300 digits) for integer string conversion"),
        ("a = 2000-02-30", "FILE:1:5: not TOML: "),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_toml_is_told_with_line_and_column(content: str | bytes, said: str, path: Path) -> None:
    assert refusal(path, content).startswith(said)


# Where a key stands


DOCUMENT = """\
# a comment with [ and " in it
a = 1
b = [  # an array [ of lines
  "x]", 'y"',
  ["z"],
]
c = \"\"\"
a = 2
"quoted\\\"\"\"\"\"
d = '''
[e]
''''
f = { g = { h = 1 }, i = "}" }

[j."k.*"]
l = ""
m.n = '''

'''

o = 1 # "
[p] # '
q = '"'
r = "'"
[[s]]
t = 1
[[s]]
u = 2
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("a",), 2),
        (("b",), 3),
        (("b", 1), 3),
        (("b", 2, 0), 3),
        (("c",), 7),
        (("d",), 10),
        (("f",), 13),
        (("f", "g", "h"), 13),
        (("f", "i"), 13),
        (("j",), 15),
        (("j", "k.*"), 15),
        (("j", "k.*", "l"), 16),
        (("j", "k.*", "m", "n"), 17),
        (("j", "k.*", "o"), 21),
        (("p", "q"), 23),
        (("p", "r"), 24),
        (("s", 1, "u"), 25),
        (("j", "k.*", "nothing"), 15),
        (("f", "g", "nothing", 3), 13),
    ],
)
def test_the_line_of_a_key(place: tuple[str | int, ...], line: int, path: Path) -> None:
    file = toml(path, DOCUMENT)
    assert file.where(place) == f"{path}:{line}"
    if line > 15:
        assert toml(path, DOCUMENT.rstrip("\n")).where(place) == f"{path}:{line}"


def test_a_key_that_is_nowhere_stands_in_the_file(path: Path) -> None:
    assert toml(path, DOCUMENT).where(("nothing",)) == str(path)
    assert toml(path, "").where(("nothing",)) == str(path)
    assert toml(path, "a = 1").where(()) == str(path)


_scalars = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
_keys = st.text(max_size=4) | st.sampled_from(["a", "b", "a.*"])
_values: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=6,
)


def spelled(value: Any, draw: st.DrawFn) -> str:
    """A value as people may write it: lists on lines, text in any quotes."""
    if isinstance(value, list) and draw(st.booleans()):
        return "[ # [\n" + "".join(f"{spelled(item, draw)}, # ]\n" for item in value) + "]"
    if isinstance(value, str) and draw(st.booleans()):
        is_literal = all(each in "\n\t" or each.isprintable() for each in value)
        if is_literal and "'''" not in value and not value.startswith("\n") and not value.endswith("'"):
            return f"'''{value}'''"
        return f'""{written(value)}""'
    return written(value)


@st.composite
def documents(draw: st.DrawFn) -> tuple[dict[str, Any], str, dict[str, int]]:
    """Some values, how they are written, and the line of each."""
    values = draw(st.dictionaries(_keys, _values, max_size=5))
    text, lines = "", {}
    for key, value in values.items():
        text += draw(st.sampled_from(["", "\n", "# [{'\"\n", "  "]))
        lines[key] = text.count("\n") + 1
        text += f"{key_written(key)} = {spelled(value, draw)}{draw(st.sampled_from(['', ' # }', '  ']))}\n"
    return values, text, lines


@settings(deadline=None)
@given(documents())
def test_the_line_of_any_key(
    tmp_path_factory: pytest.TempPathFactory, document: tuple[dict[str, Any], str, dict[str, int]]
) -> None:
    values, text, lines = document
    path = tmp_path_factory.getbasetemp() / "keys.toml"
    file = toml(path, text)
    assert file.values == values
    for key, line in lines.items():
        assert file.where((key,)) == f"{path}:{line}"


# Writing


@given(_values)
def test_any_value_is_written_on_one_line_and_read_again(value: Any) -> None:
    text = written(value)
    assert "\n" not in text
    assert tomllib.loads(f"a = {text}") == {"a": value}


def test_what_has_no_value_is_left_out_of_a_table() -> None:
    assert written({"a": None, "b": (1, 2.5)}) == "{ b = [1, 2.5] }"
    assert written({"a": None}) == "{}"


@pytest.mark.parametrize(
    ("key", "text"),
    [("a-b_9", "a-b_9"), ("a.*", '"a.*"'), ("", '""'), ("ü", '"ü"'), ('"\n', '"\\"\\n"'), ("a\n", '"a\\n"')],
)
def test_a_key_stands_in_quotes_where_it_must(key: str, text: str) -> None:
    assert key_written(key) == text
    assert tomllib.loads(f"{text} = 1") == {key: 1}


def test_a_place_is_written_as_in_a_file() -> None:
    assert path_written(("channels", "orders.*", "subscribe", 0)) == 'channels."orders.*".subscribe[0]'
    assert path_written(("a\u2028",)) == '"a\\u2028"'


def test_one_line() -> None:
    assert one_line("a\nb\tc\x7f\udc80\u2028 ü…") == "a\\nb\\tc\\x7f\\udc80\\u2028 ü…"
