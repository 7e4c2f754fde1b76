"""How a client behaves."""

from __future__ import annotations

from typing import NamedTuple


class Settings(NamedTuple):
    """How a client behaves; see `NeurographWSClient`."""

    auto_reconnect: bool = True
    max_reconnect_attempts: int | None = None
    connect_timeout_s: float = 10.0
    request_timeout_s: float = 10.0
    close_timeout_s: float = 2.0
    queue_events: int = 10_000
    queue_bytes: int = 16 << 20
    publish_queue: int = 1_000
    publish_queue_bytes: int = 1 << 20
    fresh_tokens: bool = False
    keep_text: bool = False
