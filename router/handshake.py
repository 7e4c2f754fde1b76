"""What a WebSocket handshake asks for beyond the upgrade: token, reconnection, heartbeat; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs

from msgspec import Struct

#: The subprotocol that the server selects.
SUBPROTOCOL = "neurograph.v1"
_BEARER = "bearer."


class Handshake(Struct, frozen=True):
    """What the client asks for.

    Attributes:
        token: Its JWT, from the first place that has one: the header `Authorization`, a subprotocol, the query.
        reconnection_token: The session it wants to resume.
        resume: Its first message will say where it goes on.
        text_heartbeat: Heartbeats as `ping` messages, for scripts that cannot see pings.
        subprotocol: What to select; None: nothing was offered that is known.
    """

    token: str | None
    reconnection_token: str | None
    text_heartbeat: bool
    resume: bool
    subprotocol: str | None


class BadHandshake(ValueError):
    """The offer cannot be met; answered by status 400."""


def read(target: str, headers: Iterable[tuple[str, str]], subprotocols: Sequence[str]) -> Handshake:
    """Read a request.

    Args:
        target: The request's target, for example `/ws?token=…`.
        headers: Names in lower case.
        subprotocols: As offered.

    Raises:
        BadHandshake: A token came as a subprotocol and nothing that the server could select beside it.
    """
    query = parse_qs(target.partition("?")[2])
    bearers = [name[len(_BEARER) :] for name in subprotocols if name.startswith(_BEARER)]
    if bearers and SUBPROTOCOL not in subprotocols:
        raise BadHandshake(f"offer the subprotocol {SUBPROTOCOL} beside bearer.<token>")
    return Handshake(
        token=_authorization(headers) or (bearers[0] if bearers else None) or _first(query, "token"),
        reconnection_token=_first(query, "reconnection_token"),
        text_heartbeat=_first(query, "heartbeat") == "message",
        resume=_first(query, "resume") == "1",
        subprotocol=SUBPROTOCOL if SUBPROTOCOL in subprotocols else None,
    )


def _authorization(headers: Iterable[tuple[str, str]]) -> str | None:
    for name, value in headers:
        scheme, _, token = value.strip().partition(" ")
        if name == "authorization" and scheme.lower() == "bearer" and token.strip():
            return token.strip()
    return None


def _first(query: dict[str, list[str]], name: str) -> str | None:
    return query[name][0] if name in query else None
