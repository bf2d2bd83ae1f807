"""The models of all spaces that these settings can reach, each opened when it is first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from importlib import import_module
from types import TracebackType
from typing import Self

from shared.embedding.local import SPACE as LOCAL
from shared.embedding.shortened import ShortenedEmbedder
from shared.errors import ConfigurationError
from shared.model.space import EmbeddingSpace
from shared.ports.models import Embedder
from shared.settings import ModelSettings

OpenModel = Callable[[ModelSettings], AbstractAsyncContextManager[Embedder]]
"""Opens the model that settings name."""


def default_space(settings: ModelSettings) -> EmbeddingSpace:
    """Return the space that the settings name: the first one of a new database."""
    if settings.embedder == "local":
        return LOCAL
    return EmbeddingSpace(model=settings.gemini_embedding_model, dimensions=settings.gemini_embedding_dimensions)


class SpaceEmbedders:
    """`Embedders` over a first embedder that is open already, as an async context manager that closes the others."""

    def __init__(self, settings: ModelSettings, first: Embedder, open_model: OpenModel) -> None:
        """`first` is the model that the settings name; it may still be on its way. Others are opened when needed."""
        self._settings, self._first, self._open_model = settings, first, open_model
        self._default = default_space(settings)
        self._opened: dict[EmbeddingSpace, Embedder] = {}
        self._one_at_a_time = asyncio.Lock()
        self._resources = AsyncExitStack()

    @property
    def default(self) -> EmbeddingSpace:  # noqa: D102
        return self._default

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    def refusal(self, space: EmbeddingSpace) -> str | None:  # noqa: D102
        alike = LOCAL if space.model == LOCAL.model else self._default
        if (space.metric, space.task_type, space.normaliser_version) != (
            alike.metric,
            alike.task_type,
            alike.normaliser_version,
        ):
            return f"this version makes no vectors of {space.key}; metric, task type and normaliser are fixed."
        if space.model == LOCAL.model:
            return None if 32 <= space.dimensions <= LOCAL.dimensions else "its vectors have 32 to 384 dimensions."
        if self._settings.embedder != "gemini" and self._settings.gemini_api_key is None:
            return f"{space.model} needs GEMINI_API_KEY in the settings of all services."
        return None if 64 <= space.dimensions <= 3072 else "its vectors have 64 to 3,072 dimensions."

    async def of(self, space: EmbeddingSpace) -> Embedder:  # noqa: D102
        if space == self._default:
            return self._first
        async with self._one_at_a_time:
            if space not in self._opened:
                if (refusal := self.refusal(space)) is not None:
                    raise ConfigurationError(f"The space {space.key} cannot be used here: {refusal}")
                self._opened[space] = await self._open(space)
        return self._opened[space]

    async def _open(self, space: EmbeddingSpace) -> Embedder:
        if space.model == LOCAL.model:
            whole = self._first if self._default == LOCAL else self._opened.get(LOCAL)
            if whole is None:
                settings = self._settings.model_copy(update={"embedder": "local"})
                whole = self._opened[LOCAL] = await self._enter(settings)
            return whole if space == LOCAL else ShortenedEmbedder(whole, space.dimensions)
        named = {"gemini_embedding_model": space.model, "gemini_embedding_dimensions": space.dimensions}
        await asyncio.to_thread(import_module, "shared.embedding.genai")  # takes most of a second
        return await self._enter(self._settings.model_copy(update={"embedder": "gemini", **named}))

    async def _enter(self, settings: ModelSettings) -> Embedder:
        return await self._resources.enter_async_context(self._open_model(settings))
