"""The identity of a vector: two vectors may be compared only if all of this is equal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingSpace:
    """Model, dimensions, metric, task type and the version of the text normaliser in front of the model."""

    model: str
    dimensions: int
    metric: str = "cosine"
    task_type: str = "RETRIEVAL_DOCUMENT"
    normaliser_version: int = 1

    @property
    def key(self) -> str:
        """A stable text for rows, logs and settings."""
        return f"{self.model}/{self.dimensions}/{self.metric}/{self.task_type}/n{self.normaliser_version}"
