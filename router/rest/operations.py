"""What the OpenAPI document says of an operation: a mark on its handler, next to the code that has to keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

from msgspec import Struct
from quart_schema import document_querystring, document_request, document_response, security_scheme, tag

from router.rest.problems import Problem

H = TypeVar("H", bound=Callable[..., Any])

#: The attribute of a handler that has its example of a body, or None.
EXAMPLE: Final = "_neurograph_example"
#: The headings under which operations stand, in their order.
SECTIONS: Final = ("Publishing", "Channels", "Filters", "Status", "Connections", "Tokens", "Health")
#: The name of the way to sign in.
BEARER: Final = "bearer"

#: What a call with a body may be answered.
_FOR_BODIES: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


def operation(
    section: str,
    answer: type[Struct],
    *,
    query: type[Struct] | None = None,
    body: Any = None,
    example: object = None,
    problems: Iterable[HTTPStatus] = (),
    problem_models: Mapping[HTTPStatus, type[Problem]] | None = None,
    secured: bool = True,
) -> Callable[[H], H]:
    """Say of a handler what it takes and answers. Its docstring's first line is the title.

    Args:
        section: Under which of `SECTIONS` it stands.
        answer: The struct of the answer 200.
        query: The struct of the query.
        body: The type of the body.
        example: A body.
        problems: The statuses of problems of its own; those that follow from the rest need not be named.
        problem_models: Problem documents that say more than others, by their statuses.
        secured: Whether it looks at tokens, and counts against the rate limit.
    """
    problem_models = problem_models or {}
    statuses = {HTTPStatus.FORBIDDEN, *problems, *problem_models}  # any page may send its visitors' browsers here
    if secured:
        statuses |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}
    if query is not None:
        statuses.add(HTTPStatus.BAD_REQUEST)
    if body is not None:
        statuses.update(_FOR_BODIES)

    def mark(handler: H) -> H:
        setattr(handler, EXAMPLE, example)
        handler = tag([section])(document_response(answer)(handler))
        for status in sorted(statuses):
            handler = document_response(problem_models.get(status, Problem), status.value)(handler)
        if query is not None:
            handler = document_querystring(query)(handler)
        if body is not None:
            handler = document_request(body)(handler)
        if secured:
            handler = security_scheme([{BEARER: []}, {}])(handler)
        return handler

    return mark
