"""Close codes and error codes: what a client does about each."""

from __future__ import annotations

import enum
from typing import Final


class Reconnect(enum.Enum):
    """Whether to connect again."""

    YES = "yes"
    WITH_FRESH_TOKEN = "fresh_token"  # noqa: S105 - no secret
    NO = "no"


class CloseCode(enum.IntEnum):
    """The close codes that this client uses or looks for; others are met by their range."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    ABNORMAL = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    TOKEN_EXPIRED = 4002


class ErrorCode(enum.StrEnum):
    """What the server may find wrong with a message; there may be more."""

    INVALID_JSON = "invalid_json"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_CHANNEL = "unknown_channel"
    PERMISSION_DENIED = "permission_denied"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    INVALID_FILTER = "invalid_filter"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - no secret
    HISTORY_UNAVAILABLE = "history_unavailable"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    INTERNAL = "internal"


_FRESH_TOKEN: Final = frozenset({CloseCode.POLICY_VIOLATION, CloseCode.TOKEN_EXPIRED})
_STOP: Final = frozenset({
    CloseCode.NORMAL, CloseCode.PROTOCOL_ERROR, CloseCode.UNSUPPORTED_DATA, CloseCode.INVALID_PAYLOAD,
    CloseCode.MESSAGE_TOO_BIG,
})  # fmt: skip
_RETRYABLE: Final = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.ENGINE_UNAVAILABLE, ErrorCode.INTERNAL})


def reconnect_after(code: int) -> Reconnect:
    """Whether to connect again after a close code; by its range, so that a code never seen before is met."""
    if code in _FRESH_TOKEN:
        return Reconnect.WITH_FRESH_TOKEN
    if code in _STOP or 4500 <= code <= 4999:
        return Reconnect.NO
    return Reconnect.YES


def is_retryable(code: str) -> bool:
    """Whether the same message may succeed later, with nothing else changed."""
    return code in _RETRYABLE
