"""The closed vocabularies of the wire: error codes, close codes and gap reasons.

A client acts on the range of a close code, so that it can meet one that it has never seen: 4000–4499 reconnect,
4500–4999 do not.
"""

from __future__ import annotations

import enum


class RouterError(Exception):
    """Base of the errors that this package raises for its callers."""


class ErrorCode(enum.StrEnum):
    """`code` of an `error` message. An error never closes the connection."""

    INVALID_JSON = "invalid_json"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_CHANNEL = "unknown_channel"
    PERMISSION_DENIED = "permission_denied"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a code, no secret
    INVALID_FILTER = "invalid_filter"
    HISTORY_UNAVAILABLE = "history_unavailable"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    INTERNAL = "internal"


class CloseCode(enum.IntEnum):
    """Close codes that this server sends (RFC 6455 section 7.4 and the private range)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    UNSUPPORTED_DATA = 1003
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013

    HEARTBEAT_MISSED = 4000
    SLOW_CONSUMER = 4001
    TOKEN_EXPIRED = 4002
    CONTROL_OVERFLOW = 4003
    TOO_MANY_MESSAGES = 4004
    DISCONNECTED_BY_ADMIN = 4500
    TOKEN_REVOKED = 4501
    SESSION_TAKEN_OVER = 4502


class GapReason(enum.StrEnum):
    """Why events are missing at the place of a `gap`."""

    SLOW_CONSUMER = "slow_consumer"
    BUFFER_OVERFLOW = "buffer_overflow"
    HISTORY_TRIMMED = "history_trimmed"
    EPOCH_CHANGED = "epoch_changed"
