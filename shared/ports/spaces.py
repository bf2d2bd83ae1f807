"""Embedding spaces as the database knows them: which is searched, which are written, and what is missing in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.model.space import EmbeddingSpace, SpaceState


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The spaces that new text is embedded into. The active one is what search needs; the others catch up with it."""

    active: EmbeddingSpace
    filling: Sequence[EmbeddingSpace] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FillFigures:
    """The tasks that fill a space: how many, by status, and how many of their texts are done."""

    by_status: dict[str, int] = field(default_factory=dict)
    texts_done: int = 0
    texts_total: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownSpace:
    """A space with its row. `vectors` is what the database's statistics say, all organizations together."""

    id: int
    space: EmbeddingSpace
    state: SpaceState
    vectors: int
    created_at: datetime
    activated_at: datetime | None
    fill: FillFigures = field(default_factory=FillFigures)


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """How much two spaces agree: of the nearest passages in one, how many are among the nearest in the other.

    `mean` and `worst` are shares from 0 to 1 over `compared` probes; `mean` is None when nothing could be compared.
    """

    nearest: int
    compared: int
    mean: float | None
    worst: float | None


class SpaceStore(Protocol):
    """Every method is one transaction, or several where it says so; raises what `shared.ports.stores` raises."""

    async def wanted(self, default: EmbeddingSpace) -> Wanted:
        """Return where new text goes. In a database without a space, `default` is made and becomes the active one."""
        ...

    async def active(self) -> EmbeddingSpace | None:
        """Return the space that is searched, or None before the first file."""
        ...

    async def known(self) -> list[KnownSpace]:
        """Return all spaces, oldest first."""
        ...

    async def find(self, space: EmbeddingSpace) -> SpaceState | None:
        """Return what a space is for, or None if there is no such space."""
        ...

    async def fill(self, space: EmbeddingSpace) -> None:
        """Make a space if it is new, and have new text embedded into it from now on, if it is not so already.

        Raises:
            Conflict: it is new, and something reads or writes vectors for so long that it was not made; ask again.
        """
        ...

    async def organizations(self) -> list[str]:
        """Return whose passages can be found at present."""
        ...

    async def count(self, organization_id: str, space: EmbeddingSpace) -> tuple[int, int]:
        """Return how many different texts of an organization can be found, and how many lack a vector in the space.

        Counted in several transactions, each of a bounded stretch.
        """
        ...

    async def missing(
        self, organization_id: str, space: EmbeddingSpace, *, after: bytes, limit: int
    ) -> list[tuple[bytes, str]]:
        """Return (text hash, text) of findable texts without a vector in the space, by hash, from `after` on.

        Of a stretch of `limit` texts, the first in which one is missing; nothing at the end. Stretches in which none is
        are passed, each in a transaction of its own.
        """
        ...

    async def overlap(self, one: EmbeddingSpace, other: EmbeddingSpace, *, nearest: int, sample: int) -> Overlap:
        """Compare two spaces by the neighbours of a sample of stored texts; no model is called."""
        ...

    async def switch(self, space: EmbeddingSpace) -> None:
        """Make a space the one that is searched, in one transaction, once every findable text has a vector in it.

        The former one is retired: it stays as it is, and nothing new is written to it.

        Raises:
            NotFound: `UNKNOWN_SPACE`.
            InvalidRequest: `SPACE_INCOMPLETE`, with how many texts lack a vector.
        """
        ...

    async def drop(self, space: EmbeddingSpace) -> None:
        """Remove a space with all its vectors, and cancel what fills it.

        Raises:
            NotFound: `UNKNOWN_SPACE`.
            InvalidRequest: `SPACE_IN_USE`: it is the one that is searched.
            Conflict: searches hold it; ask again.
        """
        ...
