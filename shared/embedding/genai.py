"""Embeddings by Gemini: google-genai behind the port."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from google import genai
from google.genai import types

from shared.clock import Clock
from shared.embedding.gemini import Answered, GeminiAccess, GeminiCalls
from shared.embedding.gemini_errors import NoAnswer
from shared.errors import HeadraceError, InvalidRequest
from shared.model.space import EmbeddingSpace
from shared.ports.models import Embeddings, Purpose, Turns

_TASK_TYPES: dict[Purpose, str] = {"document": "RETRIEVAL_DOCUMENT", "query": "RETRIEVAL_QUERY"}

MAX_BATCH_SIZE = 100
"""What the API takes in one request."""

MAX_REQUEST_TOKENS = 20_000
"""What Vertex AI takes in one request, all texts together; as many as a hundred chunks of the usual size."""


class GeminiEmbedder:
    """`Embedder` on the Gemini API (with a key) or Vertex AI (with a project); use it as an async context manager.

    One call of `embed` is one request, tried `tries` times at most; more only if its texts have more than
    `MAX_REQUEST_TOKENS` together: one that fails then takes the vectors of those before it along, unless the caller
    cuts by `requests`. All waiting goes through the clock.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        project_id: str | None = None,
        region: str | None = None,
        credentials: Any = None,
        model: str = "gemini-embedding-001",
        dimensions: int = 768,
        batch_size: int = MAX_BATCH_SIZE,
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
        """Nothing is opened before the context is entered; what is not named here is as in `GeminiCalls`.

        Args:
            api_key: Key of the Gemini API; without it, `project_id` and `region` name Vertex AI.
            project_id: Google Cloud project.
            region: Region of Vertex AI.
            credentials: Of google-auth, for Vertex AI; those of the environment if None.
            model: Name of the embedding model.
            dimensions: Length of the vectors; they are normalised here, as the service does so only at full length.
            batch_size: Texts of one request at most.
            max_tokens: How much of a text the model reads.
            max_concurrency: Requests under way at the same time.
            tries: Requests made for one call at most.
            timeout_seconds: How long one request may take.
            longest_wait_seconds: If the service asks for a longer wait than this, the caller is told at once.
            base_url: Another address of the service.
            turns: Keeps the pace and the quota.
            clock: What waits between tries.
            jitter: Spreads the waits.
        """
        self._calls = GeminiCalls(
            GeminiAccess(
                api_key=api_key, project_id=project_id, region=region, credentials=credentials, base_url=base_url
            ),
            model=model,
            max_concurrency=max_concurrency,
            tries=tries,
            timeout_seconds=timeout_seconds,
            longest_wait_seconds=longest_wait_seconds,
            turns=turns,
            clock=clock,
            jitter=jitter,
        )
        self._dimensions, self._max_tokens = dimensions, max_tokens
        self._batch_size = min(batch_size, MAX_BATCH_SIZE)
        self._space = EmbeddingSpace(model=model, dimensions=dimensions)

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
        await self._calls.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._calls.__aexit__(kind, error, trace)

    def count_tokens(self, text: str) -> int:
        """Return an estimate on the high side: a token for every three ASCII characters and for each other one.

        A text has never more tokens than UTF-8 bytes, so what is 200 here is below 1,000 there.
        """
        plain = sum(character.isascii() for character in text)
        return math.ceil(plain / 3) + len(text) - plain

    def requests(self, texts: Sequence[str]) -> list[int]:
        """Return how many of these texts go into each request: no more than `MAX_REQUEST_TOKENS` in any."""
        return [len(part) for part, _ in self._requests(texts)]

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        """Return one unit vector per text; errors are those of `GeminiCalls.call`, and come before any vector is told.

        Raises:
            InvalidRequest: also for too many texts, or an empty one; no request is made.
        """
        if len(texts) > self._batch_size or any(not text for text in texts):
            raise InvalidRequest(f"Embed 1 to {self._batch_size} texts at a time, none of them empty.")
        vectors: list[list[float]] = []
        tokens = calls = lost_tokens = 0
        try:
            for part, estimate in self._requests(texts):
                (made, used), more, lost = await self._embed(part, estimate, purpose)
                vectors += made
                tokens += estimate if used is None else used
                calls, lost_tokens = calls + more, lost_tokens + lost
        except HeadraceError as error:
            error.calls = (error.calls or 0) + calls
            error.input_tokens += tokens + lost_tokens
            raise
        return Embeddings(vectors=vectors, tokens=tokens, calls=calls, lost_tokens=lost_tokens)

    def _requests(self, texts: Sequence[str]) -> Iterator[tuple[Sequence[str], int]]:
        """Cut the texts into requests, each with the tokens that it has at most."""
        start = size = 0
        for number, text in enumerate(texts):
            tokens = self.count_tokens(text)
            if number > start and size + tokens > MAX_REQUEST_TOKENS:
                yield texts[start:number], size
                start, size = number, 0
            size += tokens
        if texts:
            yield texts[start:], size

    async def _embed(
        self, texts: Sequence[str], estimate: int, purpose: Purpose
    ) -> Answered[tuple[list[list[float]], int | None]]:
        # Plain strings would be merged into one content, and one vector, by most models.
        contents: Any = [types.Content(parts=[types.Part(text=text)]) for text in texts]
        config = types.EmbedContentConfig(
            task_type=_TASK_TYPES[purpose],
            output_dimensionality=self._dimensions,
            # Rather refused than cut silently; the Gemini API cannot be asked for it.
            auto_truncate=False if self._calls.is_vertex else None,
        )

        async def request(client: genai.Client) -> tuple[list[list[float]], int | None]:
            answer = await client.aio.models.embed_content(model=self._calls.model, contents=contents, config=config)
            vectors = [list(embedding.values or ()) for embedding in answer.embeddings or ()]
            if len(vectors) != len(texts) or any(len(vector) != self._dimensions for vector in vectors):
                raise NoAnswer("Gemini answered with another number or size of vectors than asked for.")
            if any(embedding.statistics and embedding.statistics.truncated for embedding in answer.embeddings or ()):
                raise InvalidRequest("Gemini read only the beginning of a text, which is too long for the model.")
            return [_unit(vector) for vector in vectors], _used_tokens(answer)

        # Each text of a batch counts as a request of its own, as far as is known of the Gemini API's limits.
        return await self._calls.call(
            request, used_tokens=lambda answer: answer[1], requests=len(texts), tokens=estimate
        )


def _used_tokens(answer: types.EmbedContentResponse) -> int | None:
    usage = getattr(answer, "usage_metadata", None)
    if (count := getattr(usage, "prompt_token_count", None)) is not None:
        return int(count)
    known = [
        embedding.statistics.token_count
        for embedding in answer.embeddings or ()
        if embedding.statistics is not None and embedding.statistics.token_count is not None
    ]
    return int(sum(known)) if known and len(known) == len(answer.embeddings or ()) else None


def _unit(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0:
        raise NoAnswer("Gemini answered with a vector that has no direction.")
    return [value / length for value in vector]
