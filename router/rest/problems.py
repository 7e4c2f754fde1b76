"""Errors over HTTP: problem documents (RFC 9457) whose `code` is the socket's error code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from router.errors import ErrorCode
from router.protocol import Refusal

CONTENT_TYPE = "application/problem+json"
_CHALLENGE = 'Bearer realm="neurograph-router"'

#: What a refusal of the socket is over HTTP.
_STATUS: Mapping[str, HTTPStatus] = MappingProxyType(
    {
        ErrorCode.INVALID_JSON: HTTPStatus.BAD_REQUEST,
        ErrorCode.INVALID_MESSAGE: HTTPStatus.UNPROCESSABLE_ENTITY,
        ErrorCode.UNKNOWN_CHANNEL: HTTPStatus.NOT_FOUND,
        ErrorCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
        ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
        ErrorCode.PAYLOAD_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ErrorCode.INVALID_FILTER: HTTPStatus.UNPROCESSABLE_ENTITY,
        ErrorCode.HISTORY_UNAVAILABLE: HTTPStatus.CONFLICT,
    }
)
#: What other statuses are called.
_CODES: Mapping[int, str] = MappingProxyType(
    {
        HTTPStatus.UNAUTHORIZED: ErrorCode.INVALID_TOKEN,
        HTTPStatus.FORBIDDEN: ErrorCode.PERMISSION_DENIED,
        HTTPStatus.NOT_FOUND: "not_found",
        HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
        HTTPStatus.REQUEST_TIMEOUT: "timeout",
        HTTPStatus.CONFLICT: "conflict",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ErrorCode.PAYLOAD_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
        HTTPStatus.UPGRADE_REQUIRED: "upgrade_required",
        HTTPStatus.TOO_MANY_REQUESTS: ErrorCode.RATE_LIMITED,
        HTTPStatus.INTERNAL_SERVER_ERROR: ErrorCode.INTERNAL,
        HTTPStatus.SERVICE_UNAVAILABLE: ErrorCode.ENGINE_UNAVAILABLE,
    }
)


class Problem(Struct, frozen=True, kw_only=True):
    """Why a call was not done (RFC 9457)."""

    title: str
    status: int
    detail: str
    code: Annotated[str, Meta(description="The socket's error code, where it has one for this")]
    type: str = "about:blank"
    retry_after: Annotated[float, Meta(description="Seconds, where waiting helps")] | UnsetType = UNSET


class ProblemError(Exception):
    """A call that is not done; it is answered by a problem document.

    Attributes:
        problem: The document.
        headers: Of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        code: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            title=status.phrase,
            status=status.value,
            detail=detail,
            code=code or _CODES.get(status, ErrorCode.INVALID_MESSAGE),
            retry_after=UNSET if retry_after is None else retry_after,
        )
        self.headers = dict(headers)
        self.headers["Content-Type"] = CONTENT_TYPE
        if retry_after is not None:
            self.headers["Retry-After"] = str(math.ceil(retry_after))
        if status is HTTPStatus.UNAUTHORIZED:
            self.headers["WWW-Authenticate"] = _CHALLENGE

    def told(self, more: str) -> ProblemError:
        """The same, and `more` about it."""
        problem = self.problem
        return ProblemError(
            HTTPStatus(problem.status),
            f"{problem.detail}; {more}",
            code=problem.code,
            retry_after=problem.retry_after or None,
        )

    @property
    def status(self) -> int:
        """The answer's status."""
        return self.problem.status

    def body(self) -> bytes:
        """The document as JSON."""
        return msgspec.json.encode(self.problem)


def of_refusal(refusal: Refusal) -> ProblemError:
    """A refusal of the socket's, as HTTP says it."""
    status = _STATUS.get(refusal.code, HTTPStatus.SERVICE_UNAVAILABLE)
    return ProblemError(status, refusal.message, code=refusal.code, retry_after=refusal.retry_after)
