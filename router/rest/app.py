"""The HTTP app: all resources, and before them the rules that hold for each call.

Origins: Host, Origin, CORS → RateLimit → Uploads: streams of lines → Quart: everything else
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, ParamSpec, TypeVar, cast

import trio
from quart import Blueprint, Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from actors import ActorRef
from router.auth.tokens import Authenticator
from router.hub.state import RouterState
from router.letters import Message
from router.rest.admission import Context, identify, make_context
from router.rest.asgi import App, header
from router.rest.broadcast import add_broadcast
from router.rest.channels import add_channels
from router.rest.connections import add_connections
from router.rest.docs import add_docs
from router.rest.events import add_events
from router.rest.explain import add_explain
from router.rest.health import add_health
from router.rest.history import add_history
from router.rest.ledger import add_ledger
from router.rest.openapi import document
from router.rest.origins import Origins
from router.rest.problems import ProblemError
from router.rest.rate import RateLimit
from router.rest.status import add_status
from router.rest.tokens import add_tokens
from router.rest.upload import Uploads

P = ParamSpec("P")
T = TypeVar("T")

API: Final = "/api/v1/websocket"


def make_app(state: RouterState, authenticator: Authenticator | None, router: ActorRef[Message]) -> App:
    """The ASGI app over a router.

    Args:
        state: The router's; read, never changed.
        authenticator: Checks tokens; None: there is no key.
        router: Does what changes something.
    """
    config = state.config
    context = make_context(state, authenticator, router)
    app: App = Uploads(cast(App, make_quart(context)), context, f"{API}/events")
    if config.rate_http is not None and not config.development:
        app = RateLimit(app, config.rate_http, trio.current_time)
    return Origins(app, config)


class _Quart(QuartTrio):
    def sync_to_async(self, func: Callable[P, T]) -> Callable[P, Awaitable[T]]:
        """Call sync handlers in place: the router's state belongs to this thread, and Quart would use another."""

        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            await trio.lowlevel.checkpoint()
            return func(*args, **kwargs)

        return call


def make_quart(context: Context) -> QuartTrio:
    """The Quart app: all resources but streams of lines."""
    config = context.state.config
    app = _Quart("router.rest", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.config["BODY_TIMEOUT"] = config.message_s
    app.config["PROPAGATE_EXCEPTIONS"] = False  # whatever FLASK_DEBUG says, a failure is a problem document
    app.url_map.merge_slashes = False

    @app.before_request
    def require_its_own_path() -> None:
        path = request.scope["path"]  # the same for what stands before Quart, which would cut slashes off the front
        if path != request.path:
            raise ProblemError(HTTPStatus.NOT_FOUND, _nothing_at(path))

    @app.errorhandler(ProblemError)
    def problem(error: ProblemError) -> Response:
        return Response(error.body(), status=error.status, headers=error.headers)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        detail = {
            HTTPStatus.NOT_FOUND: _nothing_at(request.path),
            HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method[:16]} is not possible here; the header Allow says what is",
            HTTPStatus.REQUEST_TIMEOUT: f"the body was not whole within {config.message_s:g} s",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"the body has more than {config.max_body_bytes} bytes; "
            f"many events go to {API}/events as application/x-ndjson",
            HTTPStatus.INTERNAL_SERVER_ERROR: "the server failed on this call; its log says why",
        }.get(status, error.description or status.phrase)
        headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
        return problem(ProblemError(status, detail, headers=headers))

    @app.get("/ws")
    def not_upgraded() -> Response:
        headers = {}
        if request.http_version.startswith("1."):  # later versions know no upgrade, and forbid the header
            headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        raise ProblemError(HTTPStatus.UPGRADE_REQUIRED, "this is a WebSocket's address", headers=headers)

    app.register_blueprint(_api(context), url_prefix=API)
    add_health(app, context)
    add_docs(app, document(app))
    return app


def _nothing_at(path: str) -> str:
    return f"there is nothing at {path[:64]!r}; /docs shows what there is"


def _api(context: Context) -> Blueprint:
    api = Blueprint("api", __name__)

    @api.before_request
    async def sign_in() -> None:
        if request.method != "OPTIONS":  # by it a browser asks whether it may call at all, and sends no token
            g.identity = await identify(context, header(request.scope, b"authorization"))

    add_status(api, context)
    add_channels(api, context)
    add_history(api, context)
    add_explain(api, context)
    add_broadcast(api, context)
    add_events(api, context)
    add_ledger(api, context)
    add_connections(api, context)
    add_tokens(api, context)
    return api
