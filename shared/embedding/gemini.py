"""Calls to Gemini, whatever the model does: google-genai opened one way, in turn, with our own bounded tries.

The SDK's own retries are off: without an explicit "one attempt", it sleeps and sends a second time when a connection
drops, and it never looks at what the service asks to wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

import structlog
from google import genai
from google.genai import types

from shared.clock import Clock, SystemClock
from shared.embedding.gemini_errors import NoAnswer, translated
from shared.embedding.turns import ProcessTurns
from shared.errors import ConfigurationError, HeadraceError, RateLimitError, RetryableError
from shared.ids import uuid7
from shared.ports.models import Turn, Turns

_log = structlog.get_logger(__name__)
T = TypeVar("T")

_WAITS_SECONDS = (1.0, 2.0, 4.0)
_PLACE_SECONDS = 30.0
"""So much longer than the call itself is its turn kept, for what comes before and after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeminiAccess:
    """Where Gemini is and who asks: a key of the Gemini API, or else a project and region of Vertex AI."""

    api_key: str | None = None
    project_id: str | None = None
    region: str | None = None
    credentials: Any = None
    """Of google-auth, for Vertex AI; None: those of the environment."""
    base_url: str | None = None
    """Another address of the service, for tests."""

    def __post_init__(self) -> None:
        """Name the setting that is missing before anything is opened."""
        if not self.api_key and not self.project_id:
            raise ConfigurationError("Gemini needs GEMINI_API_KEY, or a project for Vertex AI.")

    @property
    def is_vertex(self) -> bool:
        """Whether calls go to Vertex AI."""
        return not self.api_key


class Answered(NamedTuple, Generic[T]):
    """What became of a call."""

    answer: T
    calls: int
    """Requests made, those that failed included."""
    lost_tokens: int
    """What those took, as estimated, of which no answer came: they may have been paid for."""


class GeminiCalls:
    """Makes calls of one model; use it as an async context manager. All waiting goes through the clock."""

    def __init__(
        self,
        access: GeminiAccess,
        *,
        model: str,
        max_concurrency: int = 8,
        tries: int = 3,
        timeout_seconds: float = 30.0,
        longest_wait_seconds: float = 10.0,
        turns: Turns | None = None,
        clock: Clock | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        """Nothing is opened before the context is entered.

        Args:
            access: Where the service is, and who asks.
            model: The model's name.
            max_concurrency: Requests of this process under way at the same time.
            tries: Requests made for one call at most, the first included.
            timeout_seconds: How long one request may take, to the last byte of its answer.
            longest_wait_seconds: If the service asks for a longer wait than this, the caller is told at once.
            turns: Keeps the pace and the quota with whoever shares them; alone if None.
            clock: What waits between tries.
            jitter: Spreads the waits, so that workers do not come back together.
        """
        self.model = model
        self._access = access
        self._tries = max(1, min(tries, len(_WAITS_SECONDS) + 1))
        self._timeout_seconds, self._longest_wait_seconds = timeout_seconds, longest_wait_seconds
        self._clock = clock or SystemClock()
        self._jitter = jitter or random.Random()  # noqa: S311  # spreads waits, protects nothing
        self._turns = turns or ProcessTurns(self._clock)
        self._next = asyncio.Lock()
        self._slots = asyncio.Semaphore(max_concurrency)
        self._client: genai.Client | None = None

    @property
    def is_vertex(self) -> bool:
        """Whether calls go to Vertex AI."""
        return self._access.is_vertex

    async def __aenter__(self) -> Self:
        """Open the client; no request is made."""
        access = self._access
        options = types.HttpOptions(
            base_url=access.base_url,
            timeout=int(self._timeout_seconds * 1000),
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        if access.is_vertex:
            self._client = genai.Client(
                vertexai=True,
                project=access.project_id,
                location=access.region,
                credentials=access.credentials,
                http_options=options,
            )
        else:
            self._client = genai.Client(vertexai=False, api_key=access.api_key, http_options=options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aio.aclose()
            client.close()

    async def call(
        self,
        request: Callable[[genai.Client], Awaitable[T]],
        *,
        used_tokens: Callable[[T], int | None],
        requests: int = 1,
        tokens: int = 0,
    ) -> Answered[T]:
        """Return what `request` makes of an answer, and what that took.

        `requests` and `tokens` (an estimate) are what one try takes of the quota; `used_tokens` corrects it. What
        `request` raises about an answer without sense counts as a failure of the service. Errors carry `calls`, and as
        `input_tokens` what tries took of which no answer came.

        Raises:
            RateLimitError: 429, after the tries, or at once when the service asks for a long wait; also without any
                request, as long as an earlier one was answered so, or the quota is spent for longer.
            AuthenticationError: 401, 403, or a key that is refused; exactly one request was made.
            DependencyUnavailable: no connection, no answer in time, 408, 409, 5xx, or an answer that makes no sense.
            NotFound: no such model.
            InvalidRequest: the request is wrong in the eyes of the service.
        """
        calls = lost_tokens = 0
        try:
            async with self._slots:
                while True:
                    turn = Turn(
                        id=uuid7(),
                        requests=requests,
                        tokens=tokens,
                        longest_seconds=self._timeout_seconds + _PLACE_SECONDS,
                    )
                    await self._take(turn)
                    calls += 1
                    used: int | None = None
                    try:
                        answer = await self._answer(request)
                        used = used_tokens(answer)
                    except RetryableError as error:
                        failure = error
                        lost_tokens += tokens if isinstance(error, NoAnswer) else 0
                    else:
                        return Answered(answer, calls, lost_tokens)
                    finally:
                        await self._turns.give_back(self.model, turn, used_tokens=used)
                    await self._wait_or_raise(failure, calls)
        except HeadraceError as error:
            error.calls, error.input_tokens = calls, lost_tokens
            raise

    async def _answer(self, request: Callable[[genai.Client], Awaitable[T]]) -> T:
        if self._client is None:
            raise RuntimeError("Gemini is called outside its context")
        try:
            # The transport's own limit is on silence in some places; this one is on all of it.
            async with asyncio.timeout(self._timeout_seconds):
                return await request(self._client)
        except HeadraceError:
            raise
        except Exception as error:
            ours = translated(error, now=self._clock.now())
            if ours is None:
                raise
            raise ours from error

    async def _take(self, turn: Turn) -> None:
        """Return when a request may be made. One of this process asks at a time; the others stand behind it."""
        async with self._next:
            while wait_seconds := await self._turns.take(self.model, turn):
                if wait_seconds > self._longest_wait_seconds:
                    raise RateLimitError(retry_after_seconds=wait_seconds)
                await self._clock.sleep(wait_seconds)

    async def _wait_or_raise(self, error: RetryableError, calls: int) -> None:
        """Wait until this call may stand in line again, and after a 429 have all who share the limit wait too."""
        asked = error.retry_after_seconds
        wait_seconds = self._backoff_seconds(calls) if asked is None else asked
        is_last = calls >= self._tries or wait_seconds > self._longest_wait_seconds
        if isinstance(error, RateLimitError):
            await self._turns.refused(self.model, wait_seconds=wait_seconds)
        _log.info(
            "model.call_repeated" if not is_last else "model.call_given_up",
            model=self.model,
            error_code=error.code,
            calls=calls,
            wait_seconds=round(wait_seconds, 2),
        )
        if is_last:
            raise error
        if not isinstance(error, RateLimitError):  # there, the turn is what waits
            await self._clock.sleep(wait_seconds)

    def _backoff_seconds(self, calls: int) -> float:
        return _WAITS_SECONDS[min(calls, len(_WAITS_SECONDS)) - 1] * self._jitter.uniform(0.75, 1.25)
