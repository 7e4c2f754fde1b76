"""`/openapi.json` and the page at `/docs` that shows it: three files of this package, and nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from quart import Quart, Response

from router.rest.reading import JSON

_CONTENT_TYPES = {
    "docs.html": "text/html; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
}
#: The page runs its own script and asks this server; no other page may frame it, for it can make calls.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def add_docs(app: Quart, document: bytes) -> None:
    """Add the resources; `document` is the OpenAPI document."""
    folder = files("router.rest") / "pages"
    pages = {name: (folder / name).read_bytes() for name in _CONTENT_TYPES}

    def page(name: str) -> Response:
        response = Response(pages[name], content_type=_CONTENT_TYPES[name])
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-cache"
        return response

    @app.get("/openapi.json")
    def openapi() -> Response:
        return Response(document, content_type=JSON)

    @app.get("/docs")
    def docs() -> Response:
        return page("docs.html")

    @app.get("/docs/docs.css")
    def style() -> Response:
        return page("docs.css")

    @app.get("/docs/docs.js")
    def script() -> Response:
        return page("docs.js")
