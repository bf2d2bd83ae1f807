"""The first numbers of another model's vectors, brought back to unit length: less memory, at the price of recall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from shared.model.space import EmbeddingSpace
from shared.ports.models import Embedder, Embeddings, Purpose


class ShortenedEmbedder:
    """`Embedder` into a space of fewer dimensions; everything else is the wrapped one's."""

    def __init__(self, embedder: Embedder, dimensions: int) -> None:
        """Wrap an embedder that is open."""
        self._embedder, self._dimensions = embedder, dimensions

    @property
    def space(self) -> EmbeddingSpace:  # noqa: D102
        return replace(self._embedder.space, dimensions=self._dimensions)

    @property
    def batch_size(self) -> int:  # noqa: D102
        return self._embedder.batch_size

    @property
    def max_tokens(self) -> int:  # noqa: D102
        return self._embedder.max_tokens

    def count_tokens(self, text: str) -> int:  # noqa: D102
        return self._embedder.count_tokens(text)

    def requests(self, texts: Sequence[str]) -> Sequence[int]:  # noqa: D102
        return self._embedder.requests(texts)

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:  # noqa: D102
        made = await self._embedder.embed(texts, purpose=purpose)
        return replace(made, vectors=[_unit(vector[: self._dimensions]) for vector in made.vectors])


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.hypot(*vector) or 1.0
    return [number / length for number in vector]
