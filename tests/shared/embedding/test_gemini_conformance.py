"""Whatever Gemini answers, through the real SDK: how often it is called, and which error with which code comes of it.

One table for what both adapters share, one for what only vectors or only readings can get wrong. No wait is real but
the short timeouts of services that hang.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from google.auth.credentials import AnonymousCredentials

from shared.clock import SystemClock
from shared.embedding.gemini import GeminiAccess
from shared.embedding.genai import GeminiEmbedder
from shared.embedding.vision import MAX_TRANSCRIPTION_CHARACTERS, GeminiReader
from shared.errors import (
    AuthenticationError,
    DependencyUnavailable,
    HeadraceError,
    InvalidRequest,
    NonRetryableError,
    NotFound,
    RateLimitError,
    UnprocessableContent,
)

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

DIMENSIONS = 4
IMAGE = b"\x89PNG\r\n\x1a\n, as far as anybody looks"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Answer = Callable[["Gemini", web.Request], Awaitable[web.StreamResponse]]


class Gemini:
    """Answers with what `answers` holds, then well; keeps every request."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.hold = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        body = await request.json()
        self.requests.append((request.path, body))
        if self.answers:
            return await self.answers.pop(0)(self, request)
        if "generateContent" in request.path:
            return web.json_response(reading())
        count = len(body.get("requests") or body.get("instances") or [0])
        return web.json_response({"embeddings": [{"values": [3.0, 4.0, 0.0, 0.0]}] * count})


@pytest.fixture
async def server() -> AsyncIterator[Gemini]:
    """Run the server on a free port."""
    gemini = Gemini()
    app = web.Application(client_max_size=32 * 1024 * 1024)
    app.router.add_post("/{path:.*}", gemini.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gemini.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield gemini
    gemini.hold.set()
    await runner.cleanup()


class QuickClock(SystemClock):
    """A clock whose sleeps are over at once and remembered; its time moves by them alone."""

    def __init__(self) -> None:
        self.slept_seconds: list[float] = []

    def now(self) -> datetime:
        """Return the moment that so much sleep leads to."""
        return NOW + timedelta(seconds=sum(self.slept_seconds))

    def monotonic(self) -> float:
        """Return how much that was."""
        return sum(self.slept_seconds)

    async def sleep(self, seconds: float) -> None:
        """Remember the wait."""
        self.slept_seconds.append(seconds)
        await asyncio.sleep(0)


def status(code: int, *details: dict[str, str], **headers: str) -> Answer:
    """Answer with a status, in Google's form; its words must reach nobody."""

    async def answer(_server: Gemini, _request: web.Request) -> web.StreamResponse:
        error = {"code": code, "message": "secret words", "status": "SOME", "details": list(details)}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"error": error}, status=code, headers=named)

    return answer


def raw(code: int, text: str, kind: str = "application/json") -> Answer:
    """Answer with these bytes."""

    async def answer(_server: Gemini, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=text, content_type=kind)

    return answer


def says(body: object) -> Answer:
    """Answer 200 with this."""
    return raw(200, json.dumps(body))


def retry_info(delay: str) -> dict[str, str]:
    """Return what Google says about when to come back."""
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


async def hangs(server: Gemini, _request: web.Request) -> web.StreamResponse:
    """Say nothing."""
    await server.hold.wait()
    return web.Response()


async def drips(server: Gemini, request: web.Request) -> web.StreamResponse:
    """Never be silent for long, and never come to an end."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    with suppress(ConnectionError):
        while not server.hold.is_set():
            await response.write(b" ")
            with suppress(TimeoutError):
                await asyncio.wait_for(server.hold.wait(), 0.02)
    return response


async def drops_before(_server: Gemini, request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def drops_during(_server: Gemini, request: web.Request) -> web.StreamResponse:
    """Promise a thousand bytes, send some, and close."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"embeddings": [{"val')
    assert request.transport is not None
    request.transport.close()
    return response


@dataclass(frozen=True)
class Case:
    """What is answered to every call, and what is to become of it."""

    answer: Answer
    kind: type[HeadraceError]
    code: str
    calls: int
    asked_seconds: float | None = None
    timeout_seconds: float = 20.0


def passing(answer: Answer, **said: Any) -> Case:
    """Return what is tried three times."""
    return Case(answer, DependencyUnavailable, "DEPENDENCY_UNAVAILABLE", 3, **said)


def limited(answer: Answer, calls: int, asked_seconds: float | None) -> Case:
    """Return what is a matter of waiting."""
    return Case(answer, RateLimitError, "RATE_LIMITED", calls, asked_seconds)


def refused(answer: Answer) -> Case:
    """Return what no other try would change."""
    return Case(answer, AuthenticationError, "AUTHENTICATION_FAILED", 1)


BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
SHARED = {
    "400": Case(status(400), InvalidRequest, "INVALID_REQUEST", 1),
    "400 bad key": refused(status(400, BAD_KEY)),
    "400 expired key": refused(status(400, BAD_KEY | {"reason": "API_KEY_EXPIRED"})),
    "401": refused(status(401)),
    "403": refused(status(403)),
    "403 html": refused(raw(403, "<html>no</html>", "text/html")),
    "404": Case(status(404), NotFound, "NOT_FOUND", 1),
    "408": passing(status(408)),
    "409": passing(status(409)),
    "413": Case(status(413), InvalidRequest, "INVALID_REQUEST", 1),
    "429": limited(status(429), 3, None),
    "429 RetryInfo": limited(status(429, retry_info("3.5s")), 3, 3.5),
    "429 RetryInfo, long": limited(status(429, retry_info("61s")), 1, 61),
    "429 RetryInfo, nonsense": limited(status(429, retry_info("soon")), 3, None),
    "429 Retry-After": limited(status(429, Retry_After="3"), 3, 3),
    "429 Retry-After, long": limited(status(429, Retry_After="3600"), 1, 3600),
    "429 Retry-After, date": limited(status(429, Retry_After="Thu, 01 Jan 2026 00:05:00 GMT"), 1, 300),
    "499": passing(status(499)),
    "500": passing(status(500)),
    "500 broken JSON": passing(raw(500, "{broken")),
    "502 html": passing(raw(502, "<html><h1>Bad gateway</h1></html>", "text/html")),
    "503": passing(status(503)),
    "503 Retry-After": passing(status(503, Retry_After="2"), asked_seconds=2),
    "504": passing(status(504)),
    "hangs": passing(hangs, timeout_seconds=0.3),
    "drips": passing(drips, timeout_seconds=0.3),
    "drops before": passing(drops_before),
    "drops during": passing(drops_during),
    "broken JSON": passing(raw(200, '{"broken')),
}


def vectors(*values: list[Any]) -> Answer:
    """Answer with these vectors."""
    return raw(200, json.dumps({"embeddings": [{"values": one} for one in values]}))


GOOD = [1.0, 2.0, 3.0, 4.0]
VECTORS = {
    "fewer": passing(vectors(GOOD)),
    "more": passing(vectors(GOOD, GOOD, GOOD)),
    "none": passing(vectors()),
    "empty": passing(says({})),
    "too short": passing(vectors(GOOD, GOOD[:3])),
    "too long": passing(vectors(GOOD, [*GOOD, 1.0])),
    "zero": passing(vectors(GOOD, [0, 0, 0, 0])),
    "NaN": passing(vectors(GOOD, [float("nan"), 1, 1, 1])),
    "infinite": passing(vectors(GOOD, [float("inf"), 1, 1, 1])),
    "no object": passing(says([])),
    "of another kind": passing(says({"embeddings": [{"values": "abc"}, 7]})),
}


def reading(text: str | None = None, *, reason: str = "STOP", **more: Any) -> dict[str, Any]:
    """Return an answer of the model in the service's form."""
    said = json.dumps({"transcription": "Gate 3", "description": "A sign."}) if text is None else text
    return {
        "candidates": [{"content": {"role": "model", "parts": [{"text": said}]}, "finishReason": reason}],
        "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 20, "thoughtsTokenCount": 5},
        **more,
    }


def blocked(body: dict[str, Any]) -> Case:
    """Return what the model refuses."""
    return Case(says(body), UnprocessableContent, "CONTENT_BLOCKED", 1)


def invalid(body: dict[str, Any]) -> Case:
    """Return what is asked for once more."""
    return Case(says(body), NonRetryableError, "ANSWER_INVALID", 2)


def too_long(body: dict[str, Any]) -> Case:
    """Return what no answer has room for."""
    return Case(says(body), UnprocessableContent, "ANSWER_TOO_LONG", 1)


def page(**values: Any) -> str:
    """Return an answer's text."""
    return json.dumps({"transcription": "", "description": ""} | values)


READINGS = {
    # Perhaps the image is wrong; then a blank page is not.
    "400": Case(status(400), InvalidRequest, "INVALID_REQUEST", 2),
    "413": Case(status(413), InvalidRequest, "INVALID_REQUEST", 2),
    "prompt blocked": blocked({"promptFeedback": {"blockReason": "SAFETY"}}),
    "prompt prohibited": blocked({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "candidates": []}),
    **{
        reason: blocked(reading("", reason=reason))
        for reason in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST")
    },
    "SAFETY without content": blocked({"candidates": [{"finishReason": "SAFETY"}]}),
    "MAX_TOKENS": too_long(reading('{"transcription": "and so', reason="MAX_TOKENS")),
    "repeats itself": too_long(reading(page(transcription="x" * (MAX_TRANSCRIPTION_CHARACTERS + 1)))),
    "no candidates": invalid({"candidates": []}),
    "nothing": invalid({}),
    "no object": Case(says([]), NonRetryableError, "ANSWER_INVALID", 2),
    "no content": invalid({"candidates": [{"finishReason": "STOP"}]}),
    "no parts": invalid({"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}),
    "OTHER": invalid(reading("", reason="OTHER")),
    "prose": invalid(reading("It is a sign.")),
    "cut off": invalid(reading('{"transcription": "Gat')),
    "a field missing": invalid(reading('{"transcription": "Gate 3"}')),
    "another type": invalid(reading(page(transcription=["Gate", 3]))),
    "null": invalid(reading(page(description=None))),
    "thoughts only": invalid({"candidates": [{"content": {"parts": [{"text": page(), "thought": True}]}}]}),
}


@pytest.fixture
def clock() -> QuickClock:
    """Hand out a clock that does not wait."""
    return QuickClock()


async def check(case: Case, server: Gemini, clock: QuickClock, call: Callable[[], Awaitable[object]]) -> None:
    """Make the call and compare everything that came of it."""
    server.answers = [case.answer] * 9
    with pytest.raises(case.kind) as caught:
        await call()
    error = caught.value
    assert isinstance(error, case.kind)
    assert (error.code, len(server.requests), error.calls) == (case.code, case.calls, case.calls)
    assert getattr(error, "retry_after_seconds", None) == case.asked_seconds
    assert "secret" not in str(error)
    waits = [1.0, 2.0] if case.asked_seconds is None else [case.asked_seconds] * 2
    retried = issubclass(case.kind, (DependencyUnavailable, RateLimitError)) and case.calls > 1
    assert clock.slept_seconds == ([pytest.approx(wait, rel=0.26) for wait in waits] if retried else [])


@pytest.mark.parametrize("name", [*SHARED, *VECTORS])
async def test_vectors(server: Gemini, clock: QuickClock, name: str) -> None:
    """Each answer to a request for vectors ends as the table says, after exactly so many calls."""
    case = (SHARED | VECTORS)[name]
    async with GeminiEmbedder(
        api_key="k",
        dimensions=DIMENSIONS,
        timeout_seconds=case.timeout_seconds,
        base_url=server.url,
        clock=clock,
        jitter=random.Random(7),
    ) as embedder:
        await check(case, server, clock, lambda: embedder.embed(["a", "b"], purpose="document"))


def reader(server: Gemini, clock: QuickClock, timeout_seconds: float = 20.0, **said: Any) -> GeminiReader:
    """Return a reader of images that asks the server."""
    access = GeminiAccess(**{"api_key": "k", "base_url": server.url} | said)
    return GeminiReader(
        access, model="gemini-2.5-flash", timeout_seconds=timeout_seconds, clock=clock, jitter=random.Random(7)
    )


@pytest.mark.parametrize("name", [*(SHARED | READINGS)])
async def test_readings(server: Gemini, clock: QuickClock, name: str) -> None:
    """Each answer to a request to read an image ends as the table says, after exactly so many calls."""
    case = (SHARED | READINGS)[name]
    async with reader(server, clock, case.timeout_seconds) as opened:
        await check(case, server, clock, lambda: opened.read(IMAGE, media_type="image/png"))


async def test_a_service_that_is_not_there(server: Gemini, clock: QuickClock) -> None:
    """A refused connection is tried three times without any hidden wait of the SDK, by both adapters."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with (
        reader(server, clock) as opened,
        GeminiEmbedder(api_key="k", base_url=server.url, clock=clock) as embedder,
    ):
        for call in (opened.read(IMAGE, media_type="image/png"), embedder.embed(["a"], purpose="query")):
            with pytest.raises(DependencyUnavailable) as caught:
                await call
            assert caught.value.calls == 3
    assert len(clock.slept_seconds) == 4


async def test_an_image_is_described_and_transcribed(server: Gemini, clock: QuickClock) -> None:
    """The request carries the image, the instruction and the schema; the answer is text, description and its price."""
    async with reader(server, clock) as opened:
        result = await opened.read(IMAGE, media_type="image/png")
    assert (result.text, result.description) == ("Gate 3", "A sign.")
    assert (result.input_tokens, result.output_tokens, result.calls) == (1000, 25, 1)
    ((path, body),) = server.requests
    assert path.endswith("/models/gemini-2.5-flash:generateContent")
    config = body["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert sorted(config["responseSchema"]["properties"]) == ["description", "transcription"]
    assert config["maxOutputTokens"] > 0
    assert "no instruction" in json.dumps(body["systemInstruction"])
    assert "inlineData" in json.dumps(body["contents"])


async def test_a_malformed_answer_is_asked_for_once_more(server: Gemini, clock: QuickClock) -> None:
    """The second answer counts, and both are paid."""
    server.answers = [says(reading("prose"))]
    async with reader(server, clock) as opened:
        result = await opened.read(IMAGE, media_type="image/png")
    assert (result.text, result.calls, result.input_tokens, result.output_tokens) == ("Gate 3", 2, 2000, 50)


async def test_what_useless_answers_cost_is_known(server: Gemini, clock: QuickClock) -> None:
    """An error says how many tokens were paid for it."""
    server.answers = [says(reading("prose")), says(reading("", reason="SAFETY"))]
    async with reader(server, clock) as opened:
        with pytest.raises(UnprocessableContent) as caught:
            await opened.read(IMAGE, media_type="image/png")
    assert (caught.value.calls, caught.value.input_tokens, caught.value.output_tokens) == (2, 2000, 50)


async def test_an_image_that_is_refused_is_told_from_a_request_that_is_wrong(server: Gemini, clock: QuickClock) -> None:
    """A blank page is asked about once: its answer speaks for the next half minute."""
    async with reader(server, clock) as opened:
        for calls, tokens in ((2, 1000), (1, 0)):
            server.answers = [status(400)]
            with pytest.raises(UnprocessableContent) as caught:
                await opened.read(IMAGE, media_type="image/png")
            error = caught.value
            assert (error.code, error.calls, error.input_tokens) == ("IMAGE_REFUSED", calls, tokens)
        await clock.sleep(601)
        server.answers = [status(400)] * 2
        with pytest.raises(InvalidRequest) as wrong:
            await opened.read(IMAGE, media_type="image/png")
    assert (wrong.value.calls, len(server.requests)) == (2, 5)


@pytest.mark.parametrize(
    ("image", "media_type"), [(b"", "image/png"), (IMAGE, "image/tiff"), (b"x" * 2**24, "image/png")]
)
async def test_what_no_model_takes_is_not_sent(
    server: Gemini, clock: QuickClock, image: bytes, media_type: str
) -> None:
    """No image, another format, or one too large for a request is refused here."""
    async with reader(server, clock) as opened:
        with pytest.raises(InvalidRequest):
            await opened.read(image, media_type=media_type)
    assert server.requests == []


async def test_a_batch_stays_below_the_tokens_of_a_request(server: Gemini, clock: QuickClock) -> None:
    """A hundred small texts are one request; a hundred large ones are as many as their tokens need, in order."""
    async with GeminiEmbedder(api_key="k", dimensions=DIMENSIONS, base_url=server.url, clock=clock) as embedder:
        assert embedder.batch_size == 100
        small = await embedder.embed(["word " * 100] * 100, purpose="document")
        large = await embedder.embed(["word " * 1000] * 100, purpose="document")
        assert embedder.requests(["word " * 100] * 100) == [100]
        parts = embedder.requests(["word " * 1000] * 100)
        assert (len(parts), sum(parts)) == (large.calls, 100)
    assert (small.calls, len(small.vectors)) == (1, 100)
    assert (large.calls, len(large.vectors)) == (10, 100)
    sizes = [len(body["requests"]) for _, body in server.requests]
    assert sizes == [100, *[11] * 9, 1]


async def test_vertex_ai_is_asked_with_credentials_and_never_cuts(server: Gemini, clock: QuickClock) -> None:
    """Without a key, requests go to the project and region, one content per text, and a long text is no silent cut."""
    where = {"project_id": "some-project", "region": "europe-west4", "credentials": _Token()}
    async with (
        GeminiEmbedder(dimensions=DIMENSIONS, base_url=server.url, clock=clock, **where) as embedder,
        reader(server, clock, api_key=None, **where) as opened,
    ):
        assert len((await embedder.embed(["a", "b", "c"], purpose="document")).vectors) == 3
        assert (await opened.read(IMAGE, media_type="image/png")).text == "Gate 3"
    (embedding, body), (generation, _) = server.requests
    assert all("projects/some-project/locations/europe-west4" in path for path in (embedding, generation))
    assert "RETRIEVAL_DOCUMENT" in json.dumps(body)
    assert '"autoTruncate": false' in json.dumps(body)


class _Token(AnonymousCredentials):  # type: ignore[misc]  # has no types
    """Credentials that are always good."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "token-of-a-test"
        self.expiry = None
