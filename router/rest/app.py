"""The Quart-Trio app: the Origin rule, authentication and problem documents for every resource."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import ParamSpec, TypeVar

import trio
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, Unauthorized

from router.attachment import admits_anonymous, anonymous
from router.auth import Authenticator, Identity, InvalidTokenError
from router.origin import ForeignRequest, check
from router.rest.problems import CONTENT_TYPE, problem
from router.rest.status import status_blueprint
from router.state import RouterState

P = ParamSpec("P")
T = TypeVar("T")

_CODES = {
    HTTPStatus.UNAUTHORIZED: "invalid_token",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "payload_too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal",
}
_CHALLENGE = 'Bearer realm="neurograph-router"'
#: How long a browser may keep the answer to a preflight.
_PREFLIGHT_S = 600


class _App(QuartTrio):
    def sync_to_async(self, func: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Call sync handlers in place: the router's state belongs to this thread, and Quart would use another."""

        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            await trio.lowlevel.checkpoint()
            return func(*args, **kwargs)

        return call


def make_app(state: RouterState, authenticator: Authenticator | None) -> QuartTrio:
    """The app over a router's state.

    Args:
        state: Read, never changed.
        authenticator: Checks tokens; None in development mode.
    """
    app = _App("router.rest", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = state.config.max_body_bytes
    app.config["PROPAGATE_EXCEPTIONS"] = False  # whatever FLASK_DEBUG says, a failure is a problem document
    app.url_map.merge_slashes = False

    @app.before_request
    def admit() -> None:
        origin = request.headers.get("Origin")
        check(state.config, origin=origin, host=request.headers.get("Host"), scheme=request.scheme)
        g.origin = origin

    @app.after_request
    def allow_origin(response: Response) -> Response:
        response.headers["Vary"] = "Origin"
        if g.get("origin") is not None:
            response.headers["Access-Control-Allow-Origin"] = g.origin
            if "Access-Control-Request-Method" in request.headers:
                response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
                response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
                response.headers["Access-Control-Max-Age"] = _PREFLIGHT_S
        return response

    @app.errorhandler(ForeignRequest)
    def foreign(error: ForeignRequest) -> Response:
        return _problem(HTTPStatus.FORBIDDEN, "permission_denied", str(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        response = _problem(status, _CODES.get(status, "invalid_message"), error.description or status.phrase)
        response.headers.extend({name: value for name, value in error.get_headers() if name != "Content-Type"})
        if status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = _CHALLENGE
        return response

    async def identify() -> None:
        if request.method != "OPTIONS":  # by it a browser asks whether it may call at all, and sends no token
            g.identity = await _identify(state, authenticator, request.headers.get("Authorization"))

    @app.get("/ws")
    def not_upgraded() -> Response:
        response = _problem(HTTPStatus.UPGRADE_REQUIRED, "upgrade_required", "this is a WebSocket's address")
        if request.http_version.startswith("1."):  # later versions know no upgrade, and forbid the header
            response.headers.update({"Upgrade": "websocket", "Connection": "Upgrade"})
        return response

    status = status_blueprint(state)
    status.before_request(identify)
    app.register_blueprint(status, url_prefix="/api/v1/websocket")
    return app


async def _identify(state: RouterState, authenticator: Authenticator | None, authorization: str | None) -> Identity:
    scheme, _, token = (authorization or "").partition(" ")
    if authenticator is not None and scheme.lower() == "bearer":
        try:
            return await authenticator.verify(token.strip())
        except InvalidTokenError as error:
            raise Unauthorized(error.reason) from None
    if not admits_anonymous(state):
        raise Unauthorized("a token is needed: Authorization: Bearer <jwt>")
    return anonymous(state)


def _problem(status: HTTPStatus, code: str, detail: str) -> Response:
    return Response(problem(status, code, detail), status=status, content_type=CONTENT_TYPE)
