"""Errors over HTTP: problem documents (RFC 9457) whose `code` is the socket's error code."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from msgspec import Struct

CONTENT_TYPE = "application/problem+json"


class Problem(Struct, frozen=True):
    """A problem document."""

    title: str
    status: int
    detail: str
    code: str
    type: str = "about:blank"


def problem(status: HTTPStatus, code: str, detail: str) -> bytes:
    """A problem document as JSON."""
    return msgspec.json.encode(Problem(status.phrase, status.value, detail, code))
