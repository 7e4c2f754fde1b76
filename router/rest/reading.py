"""What a call brings: its query and its JSON body, checked against structs, with errors that name the field."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, TypeVar, cast

import msgspec
from msgspec import Raw
from quart import request

from router.errors import ErrorCode
from router.protocol import Refusal, field_error
from router.rest.asgi import header
from router.rest.problems import ProblemError, of_refusal

T = TypeVar("T")

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

_decode_raw = msgspec.json.Decoder(Raw).decode


def read_query(kind: type[T]) -> T:
    """The query of the call that is being served; of a name that came twice the first.

    Raises:
        ProblemError: A value does not fit.
    """
    try:
        return msgspec.convert(request.args.to_dict(), kind, strict=False)
    except msgspec.ValidationError as error:
        text = field_error(error)
        value = request.args.get(text.partition(":")[0], "")
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"{text} (got {value[:64]!r})") from None


async def read_body(allowed: Iterable[str] = (JSON,)) -> bytes:
    """The body of the call that is being served.

    Raises:
        ProblemError: It is of another type.
        werkzeug.exceptions.HTTPException: It is too large, or not whole in time.

    Cancellation: safe.
    """
    require_type(header(request.scope, b"content-type"), header(request.scope, b"content-encoding"), allowed)
    body = await request.get_data(cache=False, as_text=False)
    return cast(bytes, body)


def require_type(content_type: str | None, encoding: str | None, allowed: Iterable[str] = (JSON,)) -> None:
    """Refuse bodies of other types: a browser's form cannot send these to another site without asking first.

    Raises:
        ProblemError: The type is another, or it is encoded.
    """
    allowed = tuple(allowed)
    if media_type(content_type) not in allowed:
        detail = f"Content-Type must be {' or '.join(allowed)}, not {(content_type or '')[:64]!r}"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Post": ", ".join(allowed)})
    if encoding is not None and encoding.lower() != "identity":
        detail = f"Content-Encoding must be identity, not {encoding[:64]!r}: send the body as it is"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Encoding": "identity"})


def media_type(content_type: str | None) -> str:
    """A content type without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def decode(payload: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a body, or one event of many.

    Raises:
        Refusal: It is not JSON in UTF-8, or a field does not fit.
    """
    try:
        if not payload.isascii():
            payload.decode()  # msgspec leaves unchecked what it passes on as it came
        try:
            return decoder.decode(payload)
        except msgspec.ValidationError as error:
            _decode_raw(payload)  # it stops at the first wrong field: what follows may not even be JSON
            text = field_error(error).removeprefix(": ")
            raise Refusal(ErrorCode.INVALID_MESSAGE, text) from None
    except UnicodeDecodeError as error:
        raise Refusal(ErrorCode.INVALID_JSON, f"not valid UTF-8 at byte {error.start}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(ErrorCode.INVALID_JSON, f"not valid JSON: {error}") from None


def decode_body(payload: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a body.

    Raises:
        ProblemError: It is not JSON in UTF-8, or a field does not fit.
    """
    try:
        return decode(payload, decoder)
    except Refusal as refusal:
        raise of_refusal(refusal) from None
