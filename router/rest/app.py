"""The Quart-Trio app: authentication, the Origin rule and problem documents for every resource."""

from __future__ import annotations

from http import HTTPStatus

from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from router.attachment import anonymous
from router.auth import Authenticator, Identity, InvalidTokenError
from router.origin import ForeignRequest, check
from router.permissions import ANONYMOUS
from router.rest.problems import CONTENT_TYPE, problem
from router.rest.status import status_blueprint
from router.state import RouterState

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large", 415: "unsupported_media_type"}


class NotSignedInError(Exception):
    """No token where one is needed, or a bad one: status 401."""


def make_app(state: RouterState, authenticator: Authenticator | None) -> QuartTrio:
    """The app over a router's state.

    Args:
        state: Read, never changed.
        authenticator: Checks tokens; None in development mode.
    """
    app = QuartTrio("router.rest")
    app.config["MAX_CONTENT_LENGTH"] = state.config.max_body_bytes

    @app.before_request
    async def admit() -> None:
        check(state.config, origin=request.headers.get("Origin"), host=request.host, scheme=request.scheme)
        g.identity = await _identify(state, authenticator, request.headers.get("Authorization"))

    @app.after_request
    async def allow_origin(response: Response) -> Response:
        origin = request.headers.get("Origin")
        response.headers["Vary"] = "Origin"
        if origin is not None and response.status_code != HTTPStatus.FORBIDDEN:
            response.headers["Access-Control-Allow-Origin"] = origin
        return response

    @app.errorhandler(ForeignRequest)
    async def foreign(error: ForeignRequest) -> Response:
        return _problem(HTTPStatus.FORBIDDEN, "permission_denied", str(error))

    @app.errorhandler(NotSignedInError)
    async def not_signed_in(error: NotSignedInError) -> Response:
        response = _problem(HTTPStatus.UNAUTHORIZED, "invalid_token", str(error))
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        return _problem(status, _CODES.get(status, "invalid_message"), error.description or status.phrase)

    @app.get("/ws")
    async def not_upgraded() -> Response:
        response = _problem(HTTPStatus.UPGRADE_REQUIRED, "upgrade_required", "this is a WebSocket's address")
        response.headers["Upgrade"] = "websocket"
        response.headers["Connection"] = "Upgrade"
        return response

    app.register_blueprint(status_blueprint(state), url_prefix="/api/v1/websocket")
    return app


async def _identify(state: RouterState, authenticator: Authenticator | None, authorization: str | None) -> Identity:
    scheme, _, token = (authorization or "").partition(" ")
    if authenticator is None:
        return anonymous(state)
    if scheme.lower() == "bearer":
        try:
            return await authenticator.verify(token.strip())
        except InvalidTokenError as error:
            raise NotSignedInError(error.reason) from None
    if not state.config.allow_anonymous:
        raise NotSignedInError("a token is needed: Authorization: Bearer <jwt>")
    return Identity(user_id=None, role=ANONYMOUS)


def _problem(status: HTTPStatus, code: str, detail: str) -> Response:
    return Response(problem(status, code, detail), status=status, content_type=CONTENT_TYPE)
