"""The identity of a vector: two vectors may be compared only if all of this is equal."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

_KEY = re.compile(r"(?P<model>\S+)/(?P<dimensions>\d{1,4})/(?P<metric>\w+)/(?P<task_type>\w+)/n(?P<version>\d{1,4})")


class SpaceState(enum.StrEnum):
    """What a space is for at present. One at most is active."""

    FILLING = "filling"
    ACTIVE = "active"
    RETIRED = "retired"


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

    @classmethod
    def parse(cls, key: str) -> EmbeddingSpace:
        """Return the space that a key names.

        Raises:
            ValueError: it is no key.
        """
        found = _KEY.fullmatch(key)
        if found is None:
            raise ValueError(f"{key!r} names no space; keys look like MODEL/768/cosine/RETRIEVAL_DOCUMENT/n1")
        return cls(
            model=found["model"],
            dimensions=int(found["dimensions"]),
            metric=found["metric"],
            task_type=found["task_type"],
            normaliser_version=int(found["version"]),
        )
