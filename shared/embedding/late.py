"""An embedder that opens while its service answers already.

Importing the Gemini client costs more than everything else that the api imports (0.7 s of processor time), and only
searches need it. Readiness tells when it is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self

import structlog

from shared.errors import code_of
from shared.model.space import EmbeddingSpace
from shared.ports.models import Embedder, Embeddings, Purpose

_log = structlog.get_logger(__name__)


class LateEmbedder:
    """`Embedder`, as an async context manager that does not wait for the model; `embed` and `ready` do.

    Opening that fails is tried again by whoever asks next. What the model says of itself (`space`, sizes, tokens) is
    known once `embed` or `ready` has returned; asking before is a programming error.
    """

    def __init__(self, open_model: Callable[[], AbstractAsyncContextManager[Embedder]], *, load: Callable[[], object]):
        """Take what opens the model, and what imports it: that blocks, is called first, and in a thread."""
        self._open_model, self._load = open_model, load
        self._model: Embedder | None = None
        self._one_at_a_time = asyncio.Lock()
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._opening = asyncio.create_task(self._open_early(), name="open the model")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self._opening.cancel()
        await asyncio.wait([self._opening])
        await self._resources.aclose()

    async def ready(self) -> None:
        """Return when the model is open; raises what opening it raises."""
        await self._opened()

    @property
    def space(self) -> EmbeddingSpace:  # noqa: D102
        return self._known().space

    @property
    def batch_size(self) -> int:  # noqa: D102
        return self._known().batch_size

    @property
    def max_tokens(self) -> int:  # noqa: D102
        return self._known().max_tokens

    def count_tokens(self, text: str) -> int:  # noqa: D102
        return self._known().count_tokens(text)

    def requests(self, texts: Sequence[str]) -> Sequence[int]:  # noqa: D102
        return self._known().requests(texts)

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:  # noqa: D102
        return await (await self._opened()).embed(texts, purpose=purpose)

    async def _open_early(self) -> None:
        try:
            await self._opened()
        except Exception as error:  # noqa: BLE001 - nobody has asked yet; whoever does is told, by another try
            _log.warning("model.not_opened", error_code=code_of(error), error_type=type(error).__name__)

    async def _opened(self) -> Embedder:
        async with self._one_at_a_time:
            if self._model is None:
                await asyncio.to_thread(self._load)
                self._model = await self._resources.enter_async_context(self._open_model())
        return self._model

    def _known(self) -> Embedder:
        if self._model is None:
            raise RuntimeError("the model is not open yet; `embed` or `ready` comes first")
        return self._model
