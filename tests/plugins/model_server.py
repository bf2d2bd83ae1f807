"""A stand-in for the Gemini API that counts its calls and can misbehave; asked through the real SDK.

    async with model_server() as model:
        settings = model.environment()        # EMBEDDER, GEMINI_BASE_URL and a key, for a service
        model.answer = api_key_invalid        # or one of the others, or a function of the call's number

Asked to read an image, it says what `read` makes of it. Limits are windows of a second: what comes beyond the
allowance is answered 429 with the time until the next window.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from shared.clock import SystemClock

TEXTS_PER_CALL = 32
"""Few, so that files of a test need several calls."""

DIMENSIONS = 64
IMAGE_TOKENS, READING_TOKENS = 1_000, 100
_KNOWN = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 429: "RESOURCE_EXHAUSTED"}


@dataclass
class Call:
    """One request: when it came, which texts or which image it brought, and how it was answered (0: not)."""

    at: float
    texts: list[str]
    status: int = 0
    image: bytes | None = None


Answer = Callable[["ModelServer", Call], Awaitable[web.StreamResponse]]


@dataclass
class ModelServer:
    """What tests steer and look at."""

    url: str = ""
    allowance_per_second: float | None = None
    """None: as many as come. Less than one is one call in so many seconds."""
    calls: list[Call] = field(default_factory=list)
    paid: Counter[str] = field(default_factory=Counter)
    """How often each text was answered with its vector, whole."""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends calls that hang."""
    clock: SystemClock = field(default_factory=SystemClock)
    read: Callable[[bytes], str] = lambda _image: "What is written in an image."
    """What is written in an image."""
    images: list[str] = field(default_factory=list)
    """What was said of images, each time."""

    def __post_init__(self) -> None:
        self.answer: Answer = good
        self._windows: Counter[int] = Counter()
        self._first_at: float | None = None

    def environment(self) -> dict[str, object]:
        """Return what makes a service use this model."""
        return {
            "EMBEDDER": "gemini",
            "GEMINI_API_KEY": "secret-key-of-a-test",
            "GEMINI_BASE_URL": self.url,
            "GEMINI_EMBEDDING_DIMENSIONS": DIMENSIONS,
            "GEMINI_EMBEDDING_BATCH_SIZE": TEXTS_PER_CALL,
        }

    def statuses(self) -> Counter[int]:
        """Count the calls by what they were answered."""
        return Counter(call.status for call in self.calls)

    @property
    def repeated(self) -> dict[str, int]:
        """Texts that were answered more than once, with how often too many."""
        return {text: count - 1 for text, count in self.paid.items() if count > 1}

    def allowed(self, since: float, until: float) -> float:
        """Return how many calls the allowance had room for between two moments of `clock`."""
        assert self.allowance_per_second is not None
        return self.allowance_per_second * (until - since)

    def use_up(self) -> None:
        """Leave nothing of the present window, as if somebody else had used it."""
        assert self.allowance_per_second is not None
        length = max(1.0, 1 / self.allowance_per_second)
        self._windows[int(self._since_first(self.clock.monotonic()) // length)] += max(
            1, int(self.allowance_per_second)
        )

    def _since_first(self, at: float) -> float:
        """Windows start with the first call, so that none ends by chance in the middle of a test."""
        self._first_at = at if self._first_at is None else self._first_at
        return at - self._first_at

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        body = await request.json()
        call = Call(
            self.clock.monotonic(),
            [item["content"]["parts"][0]["text"] for item in body.get("requests", ())],
            image=_image(body),
        )
        self.calls.append(call)
        wait_seconds = self._beyond_allowance(call.at)
        answer = await (rate_limited(wait_seconds) if wait_seconds else self.answer)(self, call)
        call.status = answer.status
        return answer

    def _beyond_allowance(self, at: float) -> float:
        if self.allowance_per_second is None:
            return 0.0
        length = max(1.0, 1 / self.allowance_per_second)
        elapsed = self._since_first(at)
        window = int(elapsed // length)
        self._windows[window] += 1
        within = self._windows[window] <= max(1, int(self.allowance_per_second))
        return 0.0 if within else (window + 1) * length - elapsed


async def good(server: ModelServer, call: Call) -> web.StreamResponse:
    """Answer with vectors that follow from the texts, or with what is written in the image."""
    if call.image is not None:
        text = server.read(call.image)
        server.images.append(text)
        return reading(json.dumps({"transcription": text, "description": ""}))
    server.paid.update(call.texts)
    return web.json_response({"embeddings": [{"values": vector_of(text)} for text in call.texts]})


def reading(text: str, reason: str = "STOP") -> web.Response:
    """Return an answer about an image: what the model says, and why it stopped."""
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": reason}
    usage = {"promptTokenCount": IMAGE_TOKENS, "candidatesTokenCount": READING_TOKENS}
    return web.json_response({"candidates": [candidate], "usageMetadata": usage})


def _image(body: dict[str, Any]) -> bytes | None:
    for content in body.get("contents", ()):
        for part in content["parts"]:
            if "inlineData" in part:
                # Of the two alphabets of base64, the SDK writes the one for addresses.
                return base64.urlsafe_b64decode(part["inlineData"]["data"])
    return None


async def server_error(_server: ModelServer, _call: Call) -> web.StreamResponse:
    """Answer 500, as Google's services do."""
    return refusal(500)


async def hang(server: ModelServer, _call: Call) -> web.StreamResponse:
    """Take the request and say nothing until the test lets go."""
    await server.released.wait()
    return refusal(503)


async def truncated(_server: ModelServer, call: Call) -> web.StreamResponse:
    """Begin a good answer and break off."""
    text = json.dumps({"embeddings": [{"values": vector_of(text)} for text in call.texts]})
    return web.Response(text=text[: len(text) // 2], content_type="application/json")


async def api_key_invalid(_server: ModelServer, _call: Call) -> web.StreamResponse:
    """Refuse the key in the way that looks like a wrong request."""
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
    }
    return refusal(400, detail)


def refused(status: int) -> Answer:
    """Answer every call with this status."""

    async def answer(_server: ModelServer, _call: Call) -> web.StreamResponse:
        return refusal(status)

    return answer


def rate_limited(wait_seconds: float) -> Answer:
    """Answer 429 and say when to come back."""

    async def answer(_server: ModelServer, _call: Call) -> web.StreamResponse:
        delay = f"{math.ceil(wait_seconds * 1000) / 1000:.3f}s"
        return refusal(429, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})

    return answer


def refusal(status: int, *details: dict[str, str]) -> web.Response:
    """Return an error in Google's form; its text must reach nobody."""
    error = {"code": status, "message": "secret words of the service", "status": _KNOWN.get(status, "INTERNAL")}
    return web.json_response({"error": error | {"details": list(details)}}, status=status)


def vector_of(text: str) -> list[float]:
    """Return some vector, always the same for the same text, not of unit length."""
    return [byte / 64 - 2 for byte in hashlib.shake_256(text.encode()).digest(DIMENSIONS)]


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """Serve on a free port for the length of the block."""
    server = ModelServer()
    application = web.Application(client_max_size=16 * 1024 * 1024)
    application.router.add_post("/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        server.released.set()
        await runner.cleanup()


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    """Give a model that answers everything."""
    async with model_server() as server:
        yield server
