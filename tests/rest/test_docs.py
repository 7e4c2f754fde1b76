"""The OpenAPI document, and the page that shows it."""

import re
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

from trio.testing import MockClock

import router
from router.rest.operations import SECTIONS
from tests.rest.calls import API, Api, api

OPERATIONS = {
    ("get", f"{API}/status"),
    ("get", f"{API}/channels"),
    ("get", f"{API}/channels/{{channel}}"),
    ("get", f"{API}/channels/{{channel}}/history"),
    ("post", f"{API}/filters/explain"),
    ("post", f"{API}/broadcast"),
    ("post", f"{API}/events"),
    ("get", f"{API}/ledger"),
    ("get", f"{API}/connections"),
    ("get", f"{API}/connections/{{client_id}}"),
    ("delete", f"{API}/connections/{{client_id}}"),
    ("post", f"{API}/tokens/revoke"),
    ("get", "/healthz"),
    ("get", "/readyz"),
}


async def document(rest: Api) -> dict[str, Any]:
    found: dict[str, Any] = (await rest.call("/openapi.json")).ok()
    return found


def references(node: object) -> set[str]:
    """All `$ref` under a node."""
    if isinstance(node, dict):
        here = {node["$ref"]} if "$ref" in node else set()
        return here.union(*(references(each) for each in node.values()))
    return set().union(*(references(each) for each in node)) if isinstance(node, list) else set()


async def test_the_document_has_every_operation(autojump_clock: MockClock) -> None:
    async with api() as rest:
        found = await document(rest)
        assert found["openapi"].startswith("3.1")
        assert found["info"]["version"] == router.__version__
        operations = {(method, path): each for path, paths in found["paths"].items() for method, each in paths.items()}
        assert set(operations) == OPERATIONS
        for (method, _), operation in operations.items():
            assert operation["summary"]
            assert operation["description"]
            assert operation["tags"][0] in SECTIONS
            assert ("requestBody" in operation) == (method == "post")
        assert len({each["operationId"] for each in operations.values()}) == len(OPERATIONS)
        assert [each["name"] for each in found["tags"]] == list(SECTIONS)


async def test_every_reference_leads_somewhere(autojump_clock: MockClock) -> None:
    async with api() as rest:
        found = await document(rest)
        named = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}
        assert references(found) == named


async def test_problems_are_documented_as_such(autojump_clock: MockClock) -> None:
    async with api() as rest:
        for paths in (await document(rest))["paths"].values():
            for operation in paths.values():
                assert set(operation["responses"]) >= {"200", "403"}
                for status, response in operation["responses"].items():
                    (content_type,) = response["content"]
                    assert content_type == ("application/json" if status == "200" else "application/problem+json")
                    assert response["description"]


async def test_problems_that_say_more_are_described_by_their_own_words(autojump_clock: MockClock) -> None:
    async with api() as rest:
        paths = (await document(rest))["paths"]
        unknown = paths[f"{API}/channels/{{channel}}/history"]["get"]["responses"]["409"]
        assert unknown["description"].startswith("Nothing is known of the position asked for")
        assert unknown["content"]["application/problem+json"]["schema"]["$ref"].endswith("/HistoryProblem")
        no_key = paths[f"{API}/tokens/revoke"]["post"]["responses"]["409"]
        assert no_key["description"].startswith("No key is configured")


async def test_all_that_can_become_of_a_body_is_documented(autojump_clock: MockClock) -> None:
    async with api() as rest:
        for paths in (await document(rest))["paths"].values():
            for operation in paths.values():
                if "requestBody" in operation:
                    assert set(operation["responses"]) >= {"400", "408", "413", "415", "422"}
                    changes_something = operation["tags"] != ["Filters"]
                    assert ("503" in operation["responses"]) == changes_something


async def test_who_needs_no_token_is_not_told_of_one(autojump_clock: MockClock) -> None:
    async with api() as rest:
        found = await document(rest)
        assert found["components"]["securitySchemes"]["bearer"] == {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
        }
        for path, paths in found["paths"].items():
            for operation in paths.values():
                assert ("401" in operation["responses"]) == path.startswith(API)
                assert ("429" in operation["responses"]) == path.startswith(API)
                assert operation.get("security") == ([{"bearer": []}, {}] if path.startswith(API) else None)


async def test_many_events_may_come_as_lines(autojump_clock: MockClock) -> None:
    async with api() as rest:
        operation = (await document(rest))["paths"][f"{API}/events"]["post"]
        content = operation["requestBody"]["content"]
        assert list(content) == ["application/json", "application/x-ndjson"]
        lines = content["application/x-ndjson"]["example"]
        body = lines.encode()
        done = await rest.call(f"{API}/events", "POST", body=body, Content_Type="application/x-ndjson")
        assert done.ok()["accepted"] == len(content["application/json"]["example"]) == lines.count("\n")


async def test_examples_are_good(autojump_clock: MockClock) -> None:
    async with api() as rest:
        found = await document(rest)
        for name in ("broadcast", "events", "filters/explain"):
            operation = found["paths"][f"{API}/{name}"]["post"]
            example = operation["requestBody"]["content"]["application/json"]["example"]
            (await rest.post(name, example)).ok()


# The page


class Page(HTMLParser):
    """Where a page's parts come from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.scripts_inside = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs), "the policy forbids it"
        assert tag != "style"
        self.scripts_inside += tag == "script" and not any(name == "src" for name, _ in attrs)


async def test_the_page_is_whole_and_asks_nobody_else(autojump_clock: MockClock) -> None:
    async with api() as rest:
        answer = await rest.call("/docs")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        page = Page(answer.body.decode())
        assert page.scripts_inside == 0
        local = [source for source in page.sources if not source.startswith("data:")]
        assert set(local) == {"docs/docs.css", "docs/docs.js", "openapi.json"}
        for source in local:
            part = await rest.call(f"/{source}")
            assert part.status == 200
            assert part.body
            assert not re.search(rb"https?://|@import|\burl\(", part.body)


async def test_what_the_page_may_do_is_limited(autojump_clock: MockClock) -> None:
    async with api() as rest:
        for path, content_type in (
            ("/docs", "text/html; charset=utf-8"),
            ("/docs/docs.css", "text/css; charset=utf-8"),
            ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ):
            answer = await rest.call(path)
            assert answer.headers["content-type"] == content_type
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; ")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_belongs_to_the_package() -> None:
    names = {each.name for each in (files("router.rest") / "pages").iterdir()}
    assert names == {"docs.html", "docs.css", "docs.js"}
