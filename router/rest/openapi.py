"""The OpenAPI document, made by quart-schema of the marks that `operation` has set."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from quart import Quart
from quart_schema import DataSource, Info, OpenAPIProvider, QuartSchema
from quart_schema.openapi import HttpSecurityScheme, Tag
from werkzeug.routing.rules import Rule

from router import __version__
from router.rest.operations import BEARER, EXAMPLE, SECTIONS
from router.rest.problems import CONTENT_TYPE, Problem
from router.rest.reading import JSON, NDJSON

_REF_TEMPLATE = "#/components/schemas/{name}"
_DESCRIPTION = (
    "Channels, events and connections of the router. Errors are problem documents (RFC 9457) whose `code` is the "
    "socket's error code. The WebSocket is at `/ws`. In development mode no token is needed, and everybody has the "
    "role `admin`."
)

#: What the problems mean, whatever the call; those with a struct of their own say it themselves.
_MEANINGS = {
    HTTPStatus.BAD_REQUEST: "A parameter does not fit, or the body is not JSON",
    HTTPStatus.UNAUTHORIZED: "The token is bad, or there is none and there has to be one",
    HTTPStatus.FORBIDDEN: "Not for this role, or not from this origin",
    HTTPStatus.NOT_FOUND: "There is no such channel or client",
    HTTPStatus.REQUEST_TIMEOUT: "The body was not whole in time",
    HTTPStatus.CONFLICT: "No key is configured, so no tokens are checked",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body, or the event in it, is too large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The Content-Type is another than those listed",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field of the body does not fit",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests from this address",
    HTTPStatus.SERVICE_UNAVAILABLE: "The router is not there; try again",
}
_PROBLEM = Problem.__doc__


def document(app: Quart) -> bytes:
    """The document of all marked operations of an app, as JSON."""
    schema = QuartSchema(
        app,
        openapi_path=None,
        info=Info(title="neurograph-router", version=__version__, description=_DESCRIPTION),
        tags=[Tag(name=name) for name in SECTIONS],
        security_schemes={BEARER: HttpSecurityScheme(scheme="bearer", bearer_format="JWT")},
        conversion_preference="msgspec",
        openapi_provider_class=_Provider,
    )
    return msgspec.json.encode(schema.openapi_provider.schema())


class _Provider(OpenAPIProvider):
    """quart-schema's own keeps only the first of a struct's components, and knows only JSON's content type."""

    def generate_rules(self) -> Iterable[Rule]:
        marked = (
            rule for rule in super().generate_rules() if hasattr(self._app.view_functions[rule.endpoint], EXAMPLE)
        )
        return sorted(marked, key=lambda rule: rule.rule)

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        paths, components = super().build_paths(rule)
        example = getattr(self._app.view_functions[rule.endpoint], EXAMPLE)
        for operations in paths.values():
            for operation in operations.values():
                operation["description"] = " ".join(operation["description"].split())
                operation["summary"] = operation["summary"].removesuffix(".")
                for status, response in operation["responses"].items():
                    if status in _MEANINGS and response["description"] == _PROBLEM:
                        response["description"] = _MEANINGS[status]
                if "requestBody" in operation:
                    _add_example(operation["requestBody"]["content"], example)
        return paths, components

    def build_querystring_parameters(self, model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        _, components = _schema(model)
        fields = components.pop(model.__name__)["properties"]
        return [
            {"name": name, "in": "query", "description": schema.pop("description"), "schema": schema}
            for name, schema in fields.items()
        ], components

    def build_request_body(self, model: Any, source: DataSource) -> tuple[dict[str, Any], dict[str, Any]]:
        schema, components = _schema(model)
        return {"required": True, "content": {JSON: {"schema": schema}}}, components

    def build_response_object(self, model: Any, headers_model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        schema, components = _schema(model)
        content_type = CONTENT_TYPE if issubclass(model, Problem) else JSON
        description = components[model.__name__]["description"]
        return {"description": description, "content": {content_type: {"schema": schema}}}, components


def _schema(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    (schema,), components = msgspec.json.schema_components((model,), ref_template=_REF_TEMPLATE)
    return schema, components


def _add_example(content: dict[str, Any], example: object) -> None:
    """Give a body its example; what takes an array takes lines, too."""
    content[JSON]["example"] = example
    if isinstance(example, list):
        lines = "".join(msgspec.json.encode(item).decode() + "\n" for item in example)
        content[NDJSON] = {"schema": {"type": "string", "description": "One event a line"}, "example": lines}
