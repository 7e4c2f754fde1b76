"""Logging: structured, for people on a terminal, JSON otherwise; tokens never appear.

Records of this program and of the libraries it stands on go the same way: structlog's processors over the
standard library's handlers.
"""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

#: What may stand between a name and its value, or around them: quotes, also escaped ones, and a terminal's colours.
_AROUND = r"(?:\\*[\"']|\x1b\[[0-9;]*m)*"
_SECRETS = (
    (re.compile(r"eyJ[\w-]+\.[\w-]+(\.[\w-]*)*"), "[redacted]"),  # a JWT, wherever it stands
    (re.compile(rf"(token{_AROUND}={_AROUND})[^&\s\"',;)}}\\\x1b]+", re.IGNORECASE), r"\1[redacted]"),
    (re.compile(r"(token\\*[\"']\s*:\s*\\*[\"'])[^\"'\\]+", re.IGNORECASE), r"\1[redacted]"),
    (re.compile(r"(bearer(?:[ .]|%20))[\w.~+/=-]{8,}", re.IGNORECASE), r"\1[redacted]"),
)


def redact(text: str) -> str:
    """`text` without the tokens that stand in it."""
    for secret, instead in _SECRETS:
        text = secret.sub(instead, text)
    return text


def configure(level: str, stream: TextIO, *more: logging.Handler) -> None:
    """Send all logging to `stream` and to `more` handlers.

    Args:
        level: The least level shown, for example `info`.
        stream: Human-readable where it is a terminal, JSON lines otherwise.
        more: Handlers that get one line of text for each record.
    """
    shown = logging.StreamHandler(stream)
    if stream.isatty():
        # Other renderings of an exception, where they are installed, show local variables, keys among them.
        shown.setFormatter(_formatter(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)))
    else:
        shown.setFormatter(_formatter(structlog.processors.format_exc_info, structlog.processors.JSONRenderer()))
    for handler in more:
        handler.setFormatter(_formatter(_as_line))
    root = logging.getLogger()
    root.handlers = [shown, *more]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *_FACTS,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def keep_to_the_host() -> None:
    """Give records to the standard library, as lines, unless the program has configured structlog.

    What structlog does of itself, print to the standard output, is not for a part of another program to do.
    """
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.stdlib.PositionalArgumentsFormatter(),
                _as_standard_record,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )


def _as_standard_record(logger: Any, method: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    return (redact(_as_line(logger, method, event)),), {"exc_info": event.get("exc_info")}


#: What every record is given, ours and others'.
_FACTS: list[structlog.typing.Processor] = [
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def _formatter(*rendering: structlog.typing.Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_FACTS,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering, _redact_rendered],
    )


def _redact_rendered(_logger: object, _method: str, rendered: Any) -> str:
    return redact(str(rendered))


def _as_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    told = {"event", "level", "logger", "timestamp", "exc_info"}
    details = [f"{key}={value}" for key, value in event.items() if key not in told]
    return " ".join([str(event["event"]), *details])
