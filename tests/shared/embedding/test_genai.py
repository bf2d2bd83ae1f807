"""The Gemini embedder against a local HTTP server, through the real SDK: contract, tries, and every failure."""

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from shared.clock import SystemClock
from shared.embedding.genai import GeminiEmbedder
from shared.errors import (
    AuthenticationError,
    ConfigurationError,
    DependencyUnavailable,
    InvalidRequest,
    RateLimitError,
)
from tests.contracts.embedder import EmbedderContract

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

DIMENSIONS = 8
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def vector_of(text: str) -> list[float]:
    """Return some vector, always the same for the same text, not of unit length."""
    return [byte / 64 - 2 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSIONS]]


class GeminiServer:
    """Answers embedding requests, or with what a test has put in `answers`, and keeps every request."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        self.hold = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        body = await request.json()
        self.requests.append(body)
        if self.answers:
            return await self.answers.pop(0)(request)
        texts = [item["content"]["parts"][0]["text"] for item in body["requests"]]
        return web.json_response({"embeddings": [{"values": vector_of(text)} for text in texts]})


@pytest.fixture
async def server() -> AsyncIterator[GeminiServer]:
    """Run the server on a free port."""
    gemini = GeminiServer()
    app = web.Application()
    app.router.add_post("/{path:.*}", gemini.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gemini.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield gemini
    gemini.hold.set()
    await runner.cleanup()


class RecordingClock(SystemClock):
    """A clock whose sleeps are over at once and remembered."""

    def __init__(self) -> None:
        self.slept_seconds: list[float] = []

    def now(self) -> datetime:
        """Return a moment that moves by what is slept, and by nothing else."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=sum(self.slept_seconds))

    async def sleep(self, seconds: float) -> None:
        """Remember the wait."""
        self.slept_seconds.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> RecordingClock:
    """Hand out a clock that does not wait."""
    return RecordingClock()


@pytest.fixture
async def embedder(server: GeminiServer, clock: RecordingClock) -> AsyncIterator[GeminiEmbedder]:
    """Hand out an embedder of eight dimensions with short timeouts."""
    async with GeminiEmbedder(
        api_key="k",
        dimensions=DIMENSIONS,
        timeout_seconds=2.0,
        base_url=server.url,
        clock=clock,
        jitter=random.Random(7),
    ) as gemini:
        yield gemini


class TestGeminiEmbedder(EmbedderContract):
    """The contract, on the local server; the fixture above is the embedder."""


def status(code: int, body: object = None, headers: dict[str, str] | None = None) -> Answer:
    """Answer with a status and Google's form of an error, or with the given body."""
    known = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED"}

    async def answer(_: web.Request) -> web.Response:
        default = {"error": {"code": code, "message": "secret payload", "status": known.get(code, "ERROR")}}
        return web.json_response(default if body is None else body, status=code, headers=headers)

    return answer


def with_details(code: int, **detail: object) -> Answer:
    """Answer with an error that carries one detail."""
    return status(code, {"error": {"code": code, "message": "m", "status": "S", "details": [detail]}})


def text(code: int, body: str) -> Answer:
    """Answer with something that is not JSON."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code, text=body, content_type="application/json")

    return answer


async def drop(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize(("purpose", "task_type"), [("document", "RETRIEVAL_DOCUMENT"), ("query", "RETRIEVAL_QUERY")])
async def test_says_what_the_vectors_are_for(
    server: GeminiServer, embedder: GeminiEmbedder, purpose: Any, task_type: str
) -> None:
    """Each text is a content of its own, with task type and dimensions; one call is one request."""
    result = await embedder.embed(["a", "b"], purpose=purpose)
    (request,) = server.requests
    assert [item["content"]["parts"] for item in request["requests"]] == [[{"text": "a"}], [{"text": "b"}]]
    assert "RETRIEVAL" in json.dumps(request)
    assert task_type in json.dumps(request)
    assert f'"outputDimensionality": {DIMENSIONS}' in json.dumps(request)
    assert (result.calls, result.tokens) == (1, 2)


@pytest.mark.parametrize(
    "answer",
    [
        status(401),
        status(403),
        with_details(400, **{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}),
    ],
    ids=["401", "403", "bad key"],
)
async def test_refused_credentials_cost_exactly_one_call(
    server: GeminiServer, embedder: GeminiEmbedder, clock: RecordingClock, answer: Answer
) -> None:
    """A key that is refused is not tried again, and nothing of the answer is in the message."""
    server.answers = [answer]
    with pytest.raises(AuthenticationError) as caught:
        await embedder.embed(["a"], purpose="document")
    assert len(server.requests) == 1
    assert clock.slept_seconds == []
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_a_wrong_request_is_not_repeated(server: GeminiServer, embedder: GeminiEmbedder, code: int) -> None:
    """Other 4xx answers end at once as an invalid request."""
    server.answers = [status(code)]
    with pytest.raises(InvalidRequest, match=str(code)):
        await embedder.embed(["a"], purpose="document")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        status(408),
        status(499),
        status(500),
        status(502, "<html>"),
        status(503),
        status(504),
        text(500, "{broken"),
        text(200, "{broken"),
        text(200, '{"embeddings": 7}'),
        text(200, '{"embeddings": [{"values": [1, 2]}]}'),
        text(200, '{"embeddings": []}'),
        text(200, '{"embeddings": [{"values": [0, 0, 0, 0, 0, 0, 0, 0]}]}'),
        drop,
    ],
    ids=[
        "408",
        "499",
        "500",
        "502",
        "503",
        "504",
        "500-broken",
        "200-broken",
        "shape",
        "size",
        "none",
        "zero",
        "dropped",
    ],
)
async def test_what_may_pass_is_tried_three_times(
    server: GeminiServer, embedder: GeminiEmbedder, clock: RecordingClock, answer: Answer
) -> None:
    """Failures of the service are tried three times, after about one and two seconds, and then told."""
    server.answers = [answer] * 3
    with pytest.raises(DependencyUnavailable):
        await embedder.embed(["a"], purpose="document")
    assert len(server.requests) == 3
    assert clock.slept_seconds == [pytest.approx(1, rel=0.25), pytest.approx(2, rel=0.25)]


@pytest.mark.parametrize(
    ("answer", "is_counted"),
    [
        (status(500), False),
        (status(503), False),
        (status(499), True),
        (text(200, "{broken"), True),
        (text(200, '{"embeddings": []}'), True),
        (drop, True),
    ],
    ids=["500", "503", "499", "200-broken", "none", "dropped"],
)
async def test_what_may_have_been_paid_is_told(
    server: GeminiServer, embedder: GeminiEmbedder, answer: Answer, is_counted: bool
) -> None:
    """Of a try without an answer the tokens count, whether the call succeeds or fails; a refusal costs nothing."""
    each = embedder.count_tokens("a") if is_counted else 0
    server.answers = [answer] * 3
    with pytest.raises(DependencyUnavailable) as caught:
        await embedder.embed(["a"], purpose="document")
    assert (caught.value.calls, caught.value.input_tokens) == (3, 3 * each)
    server.answers = [answer]
    made = await embedder.embed(["a"], purpose="document")
    assert (made.calls, made.lost_tokens, made.paid_tokens) == (2, each, made.tokens + each)


async def test_a_text_that_was_cut_is_an_error(server: GeminiServer, embedder: GeminiEmbedder) -> None:
    """Never silently: a vector of the beginning would stand for the whole."""
    cut = {"values": vector_of("a"), "statistics": {"truncated": True, "tokenCount": 1}}
    server.answers = [status(200, {"embeddings": [cut]})]
    with pytest.raises(InvalidRequest, match="too long"):
        await embedder.embed(["a"], purpose="document")
    assert len(server.requests) == 1


async def test_a_second_try_may_succeed(server: GeminiServer, embedder: GeminiEmbedder) -> None:
    """One failure in between costs a call and no result."""
    server.answers = [status(503)]
    result = await embedder.embed(["a"], purpose="document")
    assert result.calls == 2
    assert len(result.vectors) == 1


@pytest.mark.parametrize(
    "answer",
    [
        with_details(429, **{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s"}),
        status(429, headers={"Retry-After": "3"}),
    ],
    ids=["RetryInfo", "Retry-After"],
)
async def test_a_short_wait_that_is_asked_for_is_kept(
    server: GeminiServer, embedder: GeminiEmbedder, clock: RecordingClock, answer: Answer
) -> None:
    """A rate limit is waited out as long as the service says, and told with it after the third."""
    server.answers = [answer] * 3
    with pytest.raises(RateLimitError) as caught:
        await embedder.embed(["a"], purpose="document")
    assert caught.value.retry_after_seconds in {3.0, 3.5}
    assert clock.slept_seconds == [caught.value.retry_after_seconds] * 2


async def test_a_long_wait_is_left_to_the_caller(
    server: GeminiServer, embedder: GeminiEmbedder, clock: RecordingClock
) -> None:
    """When the service asks for a minute, the job is deferred instead of a worker being held."""
    server.answers = [status(429, headers={"Retry-After": "60"})]
    with pytest.raises(RateLimitError) as caught:
        await embedder.embed(["a"], purpose="document")
    assert caught.value.retry_after_seconds == 60
    assert (len(server.requests), clock.slept_seconds) == (1, [])


async def test_a_service_that_hangs_is_given_up(server: GeminiServer, clock: RecordingClock) -> None:
    """A request without an answer ends after its timeout, three times."""

    async def hang(_: web.Request) -> web.Response:
        await server.hold.wait()
        return web.Response()

    server.answers = [hang] * 3
    async with GeminiEmbedder(
        api_key="k", dimensions=DIMENSIONS, timeout_seconds=0.1, base_url=server.url, clock=clock
    ) as embedder:
        with pytest.raises(DependencyUnavailable):
            await embedder.embed(["a"], purpose="document")
    assert len(server.requests) == 3


async def test_a_service_that_is_not_there_is_unavailable(clock: RecordingClock) -> None:
    """A refused connection is a failure that may pass, without any hidden wait of the SDK."""
    async with GeminiEmbedder(
        api_key="k", dimensions=DIMENSIONS, base_url="http://127.0.0.1:9", clock=clock
    ) as embedder:
        with pytest.raises(DependencyUnavailable):
            await embedder.embed(["a"], purpose="document")
    assert len(clock.slept_seconds) == 2


async def test_no_more_requests_than_allowed_are_under_way(server: GeminiServer) -> None:
    """With a limit of two, a third call waits until one is done."""
    arrived = asyncio.Queue[None]()

    async def wait(_: web.Request) -> web.Response:
        arrived.put_nowait(None)
        await server.hold.wait()
        return web.json_response({"embeddings": [{"values": vector_of("a")}]})

    server.answers = [wait] * 3
    async with (
        GeminiEmbedder(api_key="k", dimensions=DIMENSIONS, max_concurrency=2, base_url=server.url) as embedder,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(3):
            group.create_task(embedder.embed(["a"], purpose="document"))
        await arrived.get()
        await arrived.get()
        assert len(server.requests) == 2
        server.hold.set()
    assert len(server.requests) == 3


def test_without_key_or_project_it_says_so() -> None:
    """The setting that is missing is named before anything is opened."""
    with pytest.raises(ConfigurationError, match="GEMINI_API_KEY"):
        GeminiEmbedder()


async def test_a_refusal_holds_back_calls_that_were_not_made_yet(
    server: GeminiServer, embedder: GeminiEmbedder, clock: RecordingClock
) -> None:
    """After a refusal with a long wait, other texts are refused here, without a request, until the wait is over."""
    server.answers = [status(429, headers={"Retry-After": "60"})]
    with pytest.raises(RateLimitError):
        await embedder.embed(["a"], purpose="document")
    with pytest.raises(RateLimitError) as caught:
        await embedder.embed(["b"], purpose="query")
    assert (len(server.requests), caught.value.retry_after_seconds) == (1, 60.0)
    await clock.sleep(60)
    assert (await embedder.embed(["c"], purpose="document")).calls == 1


async def test_those_that_were_held_back_come_one_at_a_time(
    server: GeminiServer, embedder: GeminiEmbedder, clock: RecordingClock
) -> None:
    """Eight calls behind one refusal are not eight requests at the moment the wait is over."""
    server.answers = [status(429, headers={"Retry-After": "5"})]
    await embedder.embed(["first"], purpose="document")
    await asyncio.gather(*(embedder.embed([f"text {number}"], purpose="document") for number in range(8)))
    assert clock.slept_seconds[0] == 5.0
    assert len(clock.slept_seconds) == 9
    assert all(seconds > 0.4 for seconds in clock.slept_seconds[1:])
