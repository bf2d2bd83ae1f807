"""Questions and their passages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import AuthenticationError, RateLimitError
from tests.services.api.conftest import ApiUnderTest
from tests.services.api.fakes import SPACE, a_hit

SEARCH = "/api/v1/search"


async def ask(api: ApiUnderTest, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    """Post a body and return status and answer."""
    async with api.session.post(api.url(SEARCH), json=body, headers=api.member | headers) as answer:
        return answer.status, await answer.json()


async def test_passages_come_with_file_place_and_scores(api: ApiUnderTest) -> None:
    """A hit says where it is from, in words and as data."""
    api.index.hits = [a_hit()]
    status, body = await ask(api, {"query": "when does the gate open?"})
    assert status == 200
    hit = body["hits"][0]
    assert (hit["uri"], hit["name"], hit["label"]) == ("gs://uploads/acme/handbook.pdf", "acme/handbook.pdf", "page 3")
    assert hit["locator"] == {"kind": "page", "page": 3}
    assert (hit["generation"], hit["score"], hit["vector_score"], hit["text_score"]) == ("7", 0.9, 0.8, None)
    assert body["space"] == SPACE.key


async def test_the_question_is_embedded_as_a_question_and_bound_to_the_tenant(api: ApiUnderTest) -> None:
    """The index is asked within the caller's organization, also for an administrator, with all filters."""
    body = {"query": "gate", "limit": 3, "prefix": "acme/", "media_types": ["application/pdf"]}
    await ask(api, body, **{"X-Headrace-Role": "admin"})
    asked = api.index.asked[0]
    assert api.embedder.purposes == ["query"]
    assert (asked.organization_id, asked.limit, asked.name_prefix) == ("acme", 3, "acme/")
    assert (list(asked.media_types), asked.space) == (["application/pdf"], SPACE)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"query": ""}, {"query": " \n"}, {"query": "x" * 2001}, {"query": 3}, {"query": None}, {"query": ["x"]},
        {"query": "x", "limit": 0}, {"query": "x", "limit": 51}, {"query": "x", "organization_id": "other"},
        {"query": "a\x00b"}, {"query": "x", "prefix": "p" * 1025}, {"query": "x", "media_types": ["a/b"] * 21},
        {"query": "x", "media_types": ["' or 1=1"]}, [], "query", 7,
    ],
)  # fmt: skip
async def test_wrong_bodies_are_refused(api: ApiUnderTest, body: Any) -> None:
    """Each is a bad request, and neither the model nor the index is asked."""
    status, problem = await ask(api, body)
    assert (status, problem["code"]) == (400, "INVALID_REQUEST")
    assert not api.embedder.purposes


@pytest.mark.parametrize("raw", [b"", b"{", b'{"query": "\\ud800"}', b"\xff\xfe", b'{"query": NaN}', b"[" * 30_000])
async def test_what_is_not_json_is_refused(api: ApiUnderTest, raw: bytes) -> None:
    """Broken, endlessly nested or wrongly encoded bodies are bad requests."""
    headers = {"Content-Type": "application/json"}
    async with api.session.post(api.url(SEARCH), data=raw, headers=headers) as answer:
        assert answer.status == 400


async def test_a_body_beyond_the_limit_is_refused(api: ApiUnderTest) -> None:
    """More than 64 KiB are not read."""
    status, problem = await ask(api, {"query": "x", "prefix": "y" * 70_000})
    assert status == 413
    assert problem["status"] == 413


async def test_only_json_is_taken(api: ApiUnderTest) -> None:
    """A form, which any page could send, is refused by its type."""
    async with api.session.post(api.url(SEARCH), data={"query": "x"}) as answer:
        assert answer.status == 415


async def test_injected_syntax_is_only_text(api: ApiUnderTest) -> None:
    """Quotes, operators and other scripts go through as they are."""
    text = "'; drop table chunks; -- & | ! <-> :* \\ % _ نص 🚰"
    status, _ = await ask(api, {"query": text})
    assert status == 200
    assert api.index.asked[0].text == text


async def test_a_search_that_hangs_ends(api: ApiUnderTest) -> None:
    """Past its bound the answer is 503, not silence."""
    api.embedder.hangs = True
    status, problem = await ask(api, {"query": "x"})
    assert (status, problem["code"]) == (503, "SEARCH_TIMED_OUT")


async def test_our_own_refused_credentials_are_not_the_callers(api: ApiUnderTest) -> None:
    """When the model refuses *our* key, the caller is not told to log in."""
    api.embedder.failure = AuthenticationError("The key is invalid.")
    status, problem = await ask(api, {"query": "x"})
    assert (status, problem["code"]) == (503, "AUTHENTICATION_FAILED")


async def test_a_model_that_limits_calls_is_passed_on(api: ApiUnderTest) -> None:
    """A rate limit of the model is told as 429 with the time to wait."""
    api.embedder.failure = RateLimitError(retry_after_seconds=7)
    async with api.session.post(
        api.url(SEARCH), data=json.dumps({"query": "x"}), headers={"Content-Type": "application/json"}
    ) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
