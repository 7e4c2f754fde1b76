"""TOML files: reading one, finding the line of a key, writing values.

Values are written here rather than by a library: each goes on one line, with room for a comment after it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from router.config import ConfigError

#: A larger file is not a configuration; a device file would never end.
MAX_BYTES = 1 << 20

_POSITION = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
#: What a statement is made of: strings and comments, in which brackets mean nothing, then brackets, then all else.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|"(?:\\.|[^"\\])*"|'
    r"'''.*?'{3,5}|'[^']*'|"
    r"#[^\n]*|[][{}\n]|[^]['\"#{}\n]+",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+").fullmatch

#: Keys into tables and numbers into lists: `("channels", "orders.*", "subscribe", 0)`.
Path = tuple[str | int, ...]


class TomlFile:
    """A file that was read.

    Attributes:
        path: As it was given.
        values: Its content.
        open_to_others: Whether others than its owner may read or change it.
    """

    def __init__(self, path: str) -> None:
        """Read a file.

        Raises:
            ConfigError: It cannot be read, or is not TOML.
        """
        self.path = path
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - what it is asked is its descriptor
                self.open_to_others = bool(stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077)
                content = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(f"the configuration file {one_line(path)} cannot be read: {reason}") from None
        if len(content) > MAX_BYTES:
            raise ConfigError(f"the configuration file {one_line(path)} is larger than {MAX_BYTES} bytes")
        self._text = _decode(path, content)
        self.values = _parse(path, self._text)

    def where(self, path: Path) -> str:
        """The place of a value, or of the nearest around it: `FILE:LINE`."""
        keys = [key for key in path if isinstance(key, str)]
        while keys:
            line = _line_of(self._text, keys)
            if line is not None:
                return f"{one_line(self.path)}:{line}"
            keys.pop()
        return one_line(self.path)


def _decode(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{one_line(path)}:{line}: not UTF-8 text") from None


def _parse(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{one_line(path)}: not TOML: nested too deeply") from None
    except ValueError as error:
        found = _POSITION.fullmatch(str(error))
        if found is None:  # a number of thousands of digits, for one
            raise ConfigError(f"{one_line(path)}: not TOML: {one_line(str(error))}") from None
        said, line, column = found.groups()
        if line is None:
            line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
        hint = "; text stands in quotes" if said == "Invalid value" else ""
        raise ConfigError(f"{one_line(path)}:{line}:{column}: not TOML: {one_line(said)}{hint}") from None


def _line_of(text: str, keys: list[str]) -> int | None:
    """The line in which the statement that sets a key begins; None: none does."""
    statements = list(_statements(text))
    low, high = 0, len(statements) + 1  # the key is not in the first `low` statements, and is in the first `high`
    while high - low > 1:
        middle = (low + high) // 2
        if _holds(tomllib.loads(text[: statements[middle - 1][1]]), keys):
            high = middle
        else:
            low = middle
    if high > len(statements):
        return None
    return text.count("\n", 0, statements[high - 1][0]) + 1


def _statements(text: str) -> Iterator[tuple[int, int]]:
    """Where each line begins and ends, brackets and strings that span lines taken as part of one."""
    begin, depth = 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        elif token[0] == "\n" and not depth:
            yield begin, token.end()
            begin = token.end()
    yield begin, len(text)


def _holds(values: object, keys: Iterable[str]) -> bool:
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


# Writing


def written(value: object) -> str:
    """A value on one line; what a table has without a value is left out."""
    match value:
        case str():
            # JSON's escapes are TOML's, which wants one character more escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool():
            return "true" if value else "false"
        case Mapping():
            items = ", ".join(
                f"{key_written(key)} = {written(item)}" for key, item in value.items() if item is not None
            )
            return f"{{ {items} }}" if items else "{}"
        case list() | tuple():
            return f"[{', '.join(map(written, value))}]"
        case _:
            return str(value)


def key_written(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if _BARE_KEY(key) else written(key)


def path_written(path: Path) -> str:
    """A place in a configuration, for people: `channels."orders.*".subscribe[0]`."""
    steps = (f"[{key}]" if isinstance(key, int) else f".{key_written(key)}" for key in path)
    return one_line("".join(steps).removeprefix("."))


def one_line(text: str) -> str:
    """Text fit for a line of a terminal, a log or a comment."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
