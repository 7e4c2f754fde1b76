"""The API called with whatever its document allows, and with much that it forbids: no failure, no unknown answer.

Over real sockets; schemathesis calls from a thread of its own.
"""

from collections import Counter
from typing import Any

import jwt
import requests
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from router.limits import Rate
from tests.rest.calls import API, WITH_KEY, http
from tests.router.harness import HS_KEY
from tests.router.serving import serving

#: Passes only where something hangs.
DEADLINE_S = 240
EXAMPLES = 15
#: The document cannot say what data a channel's schema takes, nor which channels there are.
EXCLUDED: list[Any] = [positive_data_acceptance]

Statuses = dict[str, Counter[int]]


class Caller:
    """Calls a server's operations with one token, or none. The state is the statuses that it has seen."""

    def __init__(self, port: int, document: dict[str, Any], token: str | None) -> None:
        self._base_url = f"http://127.0.0.1:{port}"
        self._schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig())
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._session = requests.Session()
        self._session.trust_env = False
        self.seen: Statuses = {}

    def call_all(self) -> Statuses:
        for result in self._schema.get_all_operations():
            assert isinstance(result, Ok), result
            operation = result.ok()
            self.seen[operation.label] = Counter()
            self._call_with_examples(operation)
            self._call_randomly(operation, GenerationMode.POSITIVE)
            if operation.query or operation.body:
                self._call_randomly(operation, GenerationMode.NEGATIVE)
        self._session.close()
        return self.seen

    def _call_with_examples(self, operation: APIOperation[Any, Any, Any, Any]) -> None:
        content = operation.definition.raw.get("requestBody", {}).get("content", {})
        for media_type, media in content.items():
            self._call(operation.Case(body=media["example"], media_type=media_type))
        if "{channel}" in operation.path:
            self._call(operation.Case(path_parameters={"channel": "signals"}))

    def _call_randomly(self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> None:
        @given(case=operation.as_strategy(mode))
        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: schemathesis.Case[Any]) -> None:
            self._call(case)

        check()

    def _call(self, case: schemathesis.Case[Any]) -> None:
        response = case.call(self._base_url, self._session, headers=self._headers)
        case.validate_response(response, excluded_checks=EXCLUDED, headers=self._headers)
        self.seen[case.operation.label][response.status_code] += 1


@schemathesis.serializer("application/x-ndjson")
def lines(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """A body of lines is generated as text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


async def call_all(claims: dict[str, Any] | None = None, **options: Any) -> Statuses:
    async with serving(deadline_s=DEADLINE_S, **options) as port:
        document = (await http(port, "/openapi.json")).ok()
        token = None if claims is None else jwt.encode(claims, HS_KEY, algorithm="HS256")
        return await trio.to_thread.run_sync(Caller(port, document, token).call_all)


def assert_served(seen: Statuses, *served: str) -> None:
    """That these operations, and no others, did what they were asked at least once."""
    assert {label for label, statuses in seen.items() if statuses[200]} == set(served)


HEALTH = ("GET /healthz", "GET /readyz")
FOR_ALL = (f"GET {API}/status", f"GET {API}/channels", f"GET {API}/channels/{{channel}}")
READING = (f"GET {API}/channels/{{channel}}/history", f"POST {API}/filters/explain")
PUBLISHING = (f"POST {API}/broadcast", f"POST {API}/events")
LOOKING = (f"GET {API}/ledger", f"GET {API}/connections")


async def test_everybody_in_development_mode() -> None:
    seen = await call_all()
    assert_served(seen, *HEALTH, *FOR_ALL, *READING, *PUBLISHING, *LOOKING)
    assert seen[f"POST {API}/tokens/revoke"][409]
    assert seen[f"POST {API}/tokens/revoke"][422]


async def test_an_administrator() -> None:
    seen = await call_all({"sub": "root", "role": "admin"}, rate_http=None, **WITH_KEY)
    assert_served(seen, *HEALTH, *FOR_ALL, *READING, *PUBLISHING, *LOOKING, f"POST {API}/tokens/revoke")
    assert seen[f"DELETE {API}/connections/{{client_id}}"][404]


async def test_a_viewer_is_refused_as_documented() -> None:
    seen = await call_all({"sub": "ada"}, rate_http=None, **WITH_KEY)
    assert_served(seen, *HEALTH, *FOR_ALL)
    assert all(set(seen[label]) == {403} for label in LOOKING)
    assert all(seen[label][403] for label in READING)


async def test_without_a_token_calls_are_refused_as_documented() -> None:
    seen = await call_all(allow_anonymous=False, rate_http=None, **WITH_KEY)
    assert_served(seen, *HEALTH)
    assert {status for label in seen if label not in HEALTH for status in seen[label]} == {401}


async def test_over_the_rate_calls_are_refused_as_documented() -> None:
    seen = await call_all(rate_http=Rate(burst=1, per_s=1e-6), **WITH_KEY)  # the document takes the one
    assert_served(seen, *HEALTH)
    assert {status for label in seen if label not in HEALTH for status in seen[label]} == {429}
