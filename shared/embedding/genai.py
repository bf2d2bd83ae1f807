"""Embeddings by Gemini: google-genai behind the port, with our own bounded tries and one translation of errors."""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
import structlog
from google import genai
from google.auth import exceptions as auth_errors
from google.genai import errors, types

from shared.clock import Clock, SystemClock
from shared.embedding.turns import ProcessTurns
from shared.errors import (
    AuthenticationError,
    ConfigurationError,
    DependencyUnavailable,
    HeadraceError,
    InvalidRequest,
    RateLimitError,
    RetryableError,
)
from shared.model.space import EmbeddingSpace
from shared.ports.models import Embeddings, Purpose, Turns

_log = structlog.get_logger(__name__)

_WAITS_SECONDS = (1.0, 2.0, 4.0)
_TASK_TYPES: dict[Purpose, str] = {"document": "RETRIEVAL_DOCUMENT", "query": "RETRIEVAL_QUERY"}
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_BAD_KEY_REASONS = {"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


class GeminiEmbedder:
    """`Embedder` on the Gemini API (with a key) or Vertex AI (with a project); use it as an async context manager.

    One call of `embed` is one request, tried `tries` times at most. All waiting goes through the clock.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        project_id: str | None = None,
        region: str | None = None,
        model: str = "gemini-embedding-001",
        dimensions: int = 768,
        batch_size: int = 32,
        max_tokens: int = 2048,
        max_concurrency: int = 8,
        tries: int = 3,
        timeout_seconds: float = 30.0,
        longest_wait_seconds: float = 10.0,
        base_url: str | None = None,
        turns: Turns | None = None,
        clock: Clock | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        """Nothing is opened before the context is entered.

        Args:
            api_key: Key of the Gemini API; without it, `project_id` and `region` name Vertex AI.
            project_id: Google Cloud project, used with the default credentials.
            region: Region of Vertex AI.
            model: Name of the embedding model.
            dimensions: Length of the vectors; they are normalised here, as the service does so only at full length.
            batch_size: Texts of one request at most.
            max_tokens: How much of a text the model reads.
            max_concurrency: Requests under way at the same time.
            tries: Requests made for one call at most, the first included.
            timeout_seconds: How long one request may take.
            longest_wait_seconds: If the service asks for a longer wait than this, the caller is told at once.
            base_url: Another address of the service, for tests.
            turns: Keeps the pace once the service has refused a call, with whoever shares it; alone if None.
            clock: What waits between tries.
            jitter: Spreads the waits, so that workers do not come back together.
        """
        if not api_key and not project_id:
            raise ConfigurationError("Gemini needs GEMINI_API_KEY, or a project for Vertex AI.")
        self._api_key, self._project_id, self._region = api_key, project_id, region
        self._model, self._dimensions, self._batch_size = model, dimensions, batch_size
        self._max_tokens, self._tries = max_tokens, max(1, min(tries, len(_WAITS_SECONDS) + 1))
        self._timeout_seconds, self._longest_wait_seconds = timeout_seconds, longest_wait_seconds
        self._base_url = base_url
        self._clock = clock or SystemClock()
        self._jitter = jitter or random.Random()  # noqa: S311  # spreads waits, protects nothing
        self._turns = turns or ProcessTurns(self._clock)
        self._next = asyncio.Lock()
        self._slots = asyncio.Semaphore(max_concurrency)
        self._space = EmbeddingSpace(model=model, dimensions=dimensions)
        self._client: genai.Client | None = None

    @property
    def space(self) -> EmbeddingSpace:
        """The space of all vectors; queries are embedded with their own task type into the same space."""
        return self._space

    @property
    def batch_size(self) -> int:
        """How many texts one call takes at most."""
        return self._batch_size

    @property
    def max_tokens(self) -> int:
        """How many tokens of a text the model reads."""
        return self._max_tokens

    async def __aenter__(self) -> Self:
        """Open the client; no request is made."""
        options = types.HttpOptions(
            base_url=self._base_url,
            timeout=int(self._timeout_seconds * 1000),
            # Without this, the SDK sleeps and repeats by itself when a connection drops.
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        if self._api_key:
            self._client = genai.Client(vertexai=False, api_key=self._api_key, http_options=options)
        else:
            self._client = genai.Client(
                vertexai=True, project=self._project_id, location=self._region, http_options=options
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aio.aclose()
            client.close()

    def count_tokens(self, text: str) -> int:
        """Return an estimate on the high side: a token for every three ASCII characters and for each other one.

        A text has never more tokens than UTF-8 bytes, so what is 200 here is below 1,000 there.
        """
        plain = sum(character.isascii() for character in text)
        return math.ceil(plain / 3) + len(text) - plain

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        """Return one unit vector per text.

        Raises:
            RateLimitError: 429, after the tries, or at once when the service asks for a long wait; also without any
                request, as long as an earlier one was answered so.
            AuthenticationError: 401, 403, or a key that is refused; exactly one request was made.
            DependencyUnavailable: no connection, no answer in time, 5xx, or an answer that makes no sense.
            InvalidRequest: the request is wrong, here or in the eyes of the service; at most one request was made.
        """
        if len(texts) > self._batch_size or any(not text for text in texts):
            raise InvalidRequest(f"Embed 1 to {self._batch_size} texts at a time, none of them empty.")
        if not texts:
            return Embeddings(vectors=[], tokens=0, calls=0)
        calls = 0
        try:
            async with self._slots:
                while True:
                    await self._take_turn()
                    calls += 1
                    try:
                        vectors, tokens = await self._request(texts, purpose)
                    except RateLimitError as error:
                        await self._hold_everybody_back(error, calls)
                    except RetryableError as error:
                        await self._wait_or_raise(error, calls)
                    else:
                        counted = sum(map(self.count_tokens, texts)) if tokens is None else tokens
                        return Embeddings(vectors=vectors, tokens=counted, calls=calls)
        except HeadraceError as error:
            error.calls = calls
            raise

    async def _take_turn(self) -> None:
        """Return when a request may be made. One of this process asks at a time; the others stand behind it."""
        async with self._next:
            while wait_seconds := await self._turns.take(self._model):
                if wait_seconds > self._longest_wait_seconds:
                    raise RateLimitError(retry_after_seconds=wait_seconds)
                await self._clock.sleep(wait_seconds)

    async def _hold_everybody_back(self, error: RateLimitError, calls: int) -> None:
        """Tell all who share the limit to wait; return if this call may stand in line again."""
        asked = error.retry_after_seconds
        wait_seconds = self._backoff_seconds(calls) if asked is None else asked
        await self._turns.refused(self._model, wait_seconds=wait_seconds)
        _log.info("embedding_refused", calls=calls, wait_seconds=round(wait_seconds, 2))
        if calls >= self._tries or wait_seconds > self._longest_wait_seconds:
            raise error

    def _backoff_seconds(self, calls: int) -> float:
        return _WAITS_SECONDS[min(calls, len(_WAITS_SECONDS)) - 1] * self._jitter.uniform(0.75, 1.25)

    async def _wait_or_raise(self, error: RetryableError, calls: int) -> None:
        asked = error.retry_after_seconds
        if calls >= self._tries or (asked is not None and asked > self._longest_wait_seconds):
            raise error
        wait_seconds = self._backoff_seconds(calls) if asked is None else asked
        _log.info("embedding_retried", code=error.code, calls=calls, wait_seconds=round(wait_seconds, 2))
        await self._clock.sleep(wait_seconds)

    async def _request(self, texts: Sequence[str], purpose: Purpose) -> tuple[list[list[float]], int | None]:
        if self._client is None:
            raise RuntimeError("GeminiEmbedder is used outside its context")
        # Plain strings would be merged into one content, and one vector, by most models.
        contents: Any = [types.Content(parts=[types.Part(text=text)]) for text in texts]
        config = types.EmbedContentConfig(task_type=_TASK_TYPES[purpose], output_dimensionality=self._dimensions)
        try:
            answer = await self._client.aio.models.embed_content(model=self._model, contents=contents, config=config)
            vectors = [list(embedding.values or ()) for embedding in answer.embeddings or ()]
        except Exception as error:
            translated = _translated(error)
            if translated is None:
                raise
            raise translated from error
        if len(vectors) != len(texts) or any(len(vector) != self._dimensions for vector in vectors):
            raise DependencyUnavailable("Gemini answered with another number or size of vectors than was asked for.")
        usage = getattr(answer, "usage_metadata", None)
        return [_unit(vector) for vector in vectors], getattr(usage, "prompt_token_count", None)


def _translated(error: Exception) -> HeadraceError | None:
    """Turn what the SDK and its transport raise into our own errors: the one place that knows theirs."""
    if isinstance(error, errors.APIError):
        return _translated_answer(error)
    if isinstance(error, (TimeoutError, aiohttp.ClientError, ConnectionError)):
        return DependencyUnavailable("Gemini does not answer; it will be tried again.")
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return DependencyUnavailable("Gemini's answer cannot be read; it will be tried again.")
    if isinstance(error, auth_errors.TransportError):
        return DependencyUnavailable("Google's sign-in does not answer; it will be tried again.")
    if isinstance(error, auth_errors.GoogleAuthError):
        return AuthenticationError("Google's credentials are missing or refused; check the service account.")
    if isinstance(error, (ValueError, TypeError, LookupError, AttributeError)):
        # What the SDK trips over when an answer has another shape; pydantic's errors are ValueErrors.
        return DependencyUnavailable("Gemini's answer has an unknown shape; it will be tried again.")
    return None


def _translated_answer(error: errors.APIError) -> HeadraceError:
    details = _details_of(error)
    reasons = {str(detail.get("reason")) for detail in details}
    if error.code in {401, 403} or reasons & _BAD_KEY_REASONS:
        return AuthenticationError("Gemini refused the credentials; check the key or the service account.")
    wait_seconds = _asked_wait_seconds(error, details)
    if error.code == 429:
        return RateLimitError(retry_after_seconds=wait_seconds)
    if error.code == 408 or error.code >= 500:
        return DependencyUnavailable(
            f"Gemini answered {error.code}; it will be tried again.", retry_after_seconds=wait_seconds
        )
    return InvalidRequest(f"Gemini refused the request as wrong ({error.code} {error.status or ''}".rstrip() + ").")


def _details_of(error: errors.APIError) -> list[dict[str, Any]]:
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error", body)
    details = inner.get("details") if isinstance(inner, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _asked_wait_seconds(error: errors.APIError, details: list[dict[str, Any]]) -> float | None:
    for detail in details:
        match = _DURATION.fullmatch(str(detail.get("retryDelay")))
        if detail.get("@type") == _RETRY_INFO and match:
            return float(match[1])
    headers = getattr(error.response, "headers", None) or {}
    value = str(headers.get("Retry-After", ""))
    return float(value) if value.isdecimal() else None


def _unit(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0:
        raise DependencyUnavailable("Gemini answered with a vector that has no direction.")
    return [value / length for value in vector]
