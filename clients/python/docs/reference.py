"""Writes `api.md` from the signatures, docstrings and `#:` comments of the package.

python clients/python/docs/reference.py
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import neurograph_ws_client
from neurograph_ws_client import NeurographWSClient, errors, events

TARGET: Final = Path(__file__).with_name("api.md")
_INTRODUCTION: Final = """# Reference

All names are imported from `neurograph_ws_client`. What the words mean, and what is promised, is in the
[README](../README.md). This page is made by `python clients/python/docs/reference.py`.
"""
#: The client's methods, by what they are for. A test sees to it that none is missing.
METHODS: Final = {
    "Connecting": ("connect", "run_forever", "disconnect"),
    "Subscribing": ("subscribe", "subscribe_multiple", "unsubscribe", "events"),
    "Being called back": ("on", "off"),
    "Publishing": ("publish", "publish_batch"),
    "Asking the server": ("history", "ping", "authenticate", "fetch_subscriptions"),
    "What is known here": ("is_connected", "state", "get_subscriptions", "get_connection_info"),
}
#: The other names, by what they are. A test sees to it that none is missing.
TYPES: Final = {
    "What calls give back": ("EventStream", "Publication", "Published", "History", "Authenticated", "ConnectionInfo"),
    "What calls take": (
        "Token", "Channel", "Policy", "SubscribeOptions", "SubscribeMultipleOptions", "Position", "Callback",
        "EventToPublish",
    ),
    "Events": (
        "Event", "TextEvent", "Gap", "MetricsEvent", "MetricsData", "SignalsEvent", "SignalsData", "ActionsEvent",
        "ActionsData", "LogsEvent", "LogsData", "StatusEvent", "StatusData", "ConnectionsEvent", "ConnectionsData",
    ),
    "States and codes": ("State", "ErrorCode"),
}  # fmt: skip
_SECTION: Final = re.compile(r"^(Args|Attributes|Raises):\n((?:    .*\n?|\n)+)", re.MULTILINE)
_ENTRY: Final = re.compile(r"^(\*{0,2}\w+): (.*(?:\n {4,}.*)*)", re.MULTILINE)


def reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## NeurographWSClient", _signature(NeurographWSClient), _text(NeurographWSClient)]
    for title, names in METHODS.items():
        parts.append(f"### {title}")
        parts += [part for name in names for part in _member(NeurographWSClient, name)]
    for title, names in TYPES.items():
        parts.append(f"## {title}")
        parts += [part for name in names for part in _type(name)]
    parts += ["## Errors", _errors_tree()]
    parts += [part for name in error_names() for part in _type(name)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def error_names() -> list[str]:
    """The errors, in the order in which they are defined."""
    return [name for name in vars(errors) if name.endswith("Error") and name in neurograph_ws_client.__all__]


def _errors_tree() -> str:
    before, tree, after = re.split(r"((?:^    .*\n)+)", inspect.getdoc(errors) or "", maxsplit=1, flags=re.MULTILINE)
    return f"{before.strip()}\n\n```text\n{inspect.cleandoc(tree)}\n```\n\n{after.strip()}"


def _member(owner: type, name: str) -> Iterator[str]:
    member = inspect.getattr_static(owner, name)
    yield f"#### {name}"
    if isinstance(member, property):
        assert member.fget is not None
        yield f"```python\n{name}: {inspect.signature(member.fget).return_annotation}\n```"
        yield _text(member.fget)
    else:
        yield _signature(member, name)
        yield _text(member)


def _type(name: str) -> Iterator[str]:
    cls = getattr(neurograph_ws_client, name)
    yield f"### {name}"
    if not inspect.isclass(cls):
        yield f"```python\n{name} = {str(cls).replace('collections.abc.', '').replace('typing.', '')}\n```"
        yield _comment_above(name)
    elif issubclass(cls, enum.Enum):
        yield _text(cls)
        yield "\n".join(
            f"- `{member.name}`: `{str(member)!r}`{_comment(cls, member.name)}" for member in cls.__members__.values()
        )
    elif typing.is_typeddict(cls):
        yield _text(cls)
        yield "\n".join(
            f"- `{name}`: `{_shown(kind)}`{_comment(cls, name)}" for name, kind in cls.__annotations__.items()
        )
    elif issubclass(cls, Exception):
        yield f"```python\nclass {name}({', '.join(base.__name__ for base in cls.__bases__)})\n```"
        yield _text(cls)
    elif hasattr(cls, "__dataclass_fields__"):
        yield _text(cls)
    else:
        yield _text(cls, without="Args")
        for member, value in vars(cls).items():
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                yield from _member(cls, member)


def _shown(kind: Any) -> str:
    if isinstance(kind, typing.ForwardRef):
        return kind.__forward_arg__
    return kind.__name__ if type(kind) is type else str(kind).replace("typing.", "")


def _signature(function: Any, name: str = "") -> str:
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    shown = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    text = str(shown).replace("'", "")
    for parameter in parameters:
        if isinstance(parameter.default, str):
            text = text.replace(f" = {parameter.default}", f' = "{parameter.default}"')
    name = name or function.__name__
    prefix = "await " if inspect.iscoroutinefunction(function) else ""
    returns = "" if inspect.isclass(function) else f" -> {signature.return_annotation}"
    line = f"{prefix}{name}{text}{returns}"
    if len(line) > 100:
        inner = _split(text[1:-1])
        line = f"{prefix}{name}(\n" + "".join(f"    {each},\n" for each in inner) + f"){returns}"
    return f"```python\n{line}\n```"


def _split(parameters: str) -> list[str]:
    """Parameters apart, at commas that are within no brackets."""
    parts, depth = [""], 0
    for character in parameters:
        depth += (character in "[(") - (character in "])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _text(documented: Any, without: str = "") -> str:
    """A docstring, its sections as lists."""

    def as_list(section: re.Match[str]) -> str:
        title, body = section.groups()
        if title == without:
            return ""
        entries = _ENTRY.findall(inspect.cleandoc(body))
        lines = (f"- `{name}`: {' '.join(text.split())}" for name, text in entries)
        return f"**{'Arguments' if title == 'Args' else title}**\n\n" + "\n".join(lines) + "\n\n"

    if documented.__doc__ is None:  # a type made by a call
        return _comment_above(documented.__name__)
    return re.sub(r"\n{3,}", "\n\n", _SECTION.sub(as_list, f"{inspect.getdoc(documented)}\n"))


def _comment_above(name: str) -> str:
    """The `#:` comment above a type of the module of events that cannot have a docstring."""
    found = re.search(rf"((?:^#: .*\n)+){name} = ", inspect.getsource(events), re.MULTILINE)
    assert found, name
    return "\n".join(line[3:] for line in found[1].splitlines())


def _comment(cls: Any, name: str) -> str:
    """The `#:` comment above a member of a class, as the end of its line."""
    if cls.__doc__ is None:
        return ""
    lines = inspect.getsource(cls).splitlines()
    (tree,) = ast.parse("\n".join(lines)).body
    assert isinstance(tree, ast.ClassDef)
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
        if isinstance(target, ast.Name) and target.id == name:
            above = lines[node.lineno - 2].strip()
            return f". {above[3:]}" if above.startswith("#: ") else ""
    return ""


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
