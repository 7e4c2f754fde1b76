"""The rules for `Host` and `Origin` before everything else, and the CORS headers that follow from them (ASGI)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from router.config import Config
from router.origin import ForeignRequest, check
from router.rest.asgi import App, Receive, Scope, Send, header, refuse
from router.rest.problems import ProblemError

#: How long a browser may keep the answer to a preflight.
_PREFLIGHT_S = 600
_VARY = (b"vary", b"Origin")


class Origins:
    """Lets a request through to the app that its `Host` and `Origin` allow, and tells browsers so."""

    def __init__(self, app: App, config: Config) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        origin = header(scope, b"origin")
        try:
            check(self._config, origin=origin, host=header(scope, b"host"), scheme=scope["scheme"])
        except ForeignRequest as error:
            await refuse(send, ProblemError(HTTPStatus.FORBIDDEN, str(error), headers={"Vary": "Origin"}))
            return
        asks_first = origin is not None and header(scope, b"access-control-request-method") is not None

        async def send_more(event: Mapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                headers = [*event["headers"], _VARY, *_allowing(origin)]
                event = {**event, "headers": headers + _preflight(headers) if asks_first else headers}
            await send(dict(event))

        await self._app(scope, receive, send_more)


def _allowing(origin: str | None) -> list[tuple[bytes, bytes]]:
    return [] if origin is None else [(b"access-control-allow-origin", origin.encode("latin-1"))]


def _preflight(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-methods", b", ".join(value for name, value in headers if name.lower() == b"allow")),
        (b"access-control-allow-headers", b"Authorization, Content-Type"),
        (b"access-control-max-age", str(_PREFLIGHT_S).encode()),
    ]
