"""`POST tokens/revoke`: makes a token, or all of a user's, invalid; for administrators."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from quart import Blueprint, Response

from router.errors import ErrorCode
from router.letters import Revoke
from router.rest.admission import Context, ask, caller, require_admin
from router.rest.answers import Ok, answered
from router.rest.operations import operation
from router.rest.problems import ProblemError
from router.rest.reading import decode_body, read_body

#: Longer ones no token has.
_Claim = Annotated[str, Meta(min_length=1, max_length=256)] | UnsetType


class RevokeBody(Struct, frozen=True):
    """One token by its `jti`, or all tokens of a user that were issued up to now by their `sub`: one of the two."""

    jti: _Claim = UNSET
    sub: _Claim = UNSET


class Revoked(Struct, kw_only=True):
    """It is refused from now on; so many sessions have ended, their connections closed with code 4501."""

    status: Ok = "ok"
    sessions_ended: int


_OneOfTwo = Annotated[RevokeBody, Meta(extra_json_schema={"oneOf": [{"required": ["jti"]}, {"required": ["sub"]}]})]
_decoder = msgspec.json.Decoder(RevokeBody)


def add_tokens(blueprint: Blueprint, context: Context) -> None:
    """Add the resource."""

    @blueprint.post("/tokens/revoke")
    @operation(
        "Tokens",
        Revoked,
        body=_OneOfTwo,
        example={"sub": "alice"},
        problems=[HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE],
    )
    async def revoke() -> Response:
        """Revoke a token, or a user's tokens.

        For the role admin. Connections that were opened with them are closed with code 4501. It holds until the
        token would have expired, or the server restarts.
        """
        require_admin(caller(), "the revocation of tokens is")
        body = decode_body(await read_body(), _decoder)
        token_id = None if body.jti is UNSET else body.jti
        user_id = None if body.sub is UNSET else body.sub
        if (token_id is None) == (user_id is None):
            status = HTTPStatus.UNPROCESSABLE_ENTITY
            raise ProblemError(status, "give one of jti (a token) and sub (a user)", code=ErrorCode.INVALID_MESSAGE)
        if context.authenticator is None:
            raise ProblemError(HTTPStatus.CONFLICT, "no key is configured, so no tokens are checked: set jwt_keys")
        ended: int = await ask(context, lambda reply: Revoke(reply, token_id=token_id, user_id=user_id))
        return answered(Revoked(sessions_ended=ended))
