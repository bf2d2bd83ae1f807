"""What the index knows that helps to estimate an import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.model.estimate import PagesKnown
from shared.postgres import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.model.document import ObjectMetadata
    from shared.postgres.pool import Database

NEWEST_FILES = 5_000
ENOUGH_FILES = 5
"""Of so many files of a kind the ratio of tokens to bytes is worth more than a guess."""

ENOUGH_PAGES = 20
"""What so many pages cost, whatever file they were in, is worth more than a guess."""


class PostgresEstimates:
    """See `shared.worker.estimate.Known`."""

    def __init__(self, database: Database) -> None:
        """Take the pool."""
        self._db = database
        self._sql = queries.load("estimates")

    async def indexed(self, bucket: str, objects: Sequence[ObjectMetadata]) -> set[str]:
        """Return the names of those objects whose bytes are indexed as they are."""
        async with self._db.transaction() as connection:
            found = await self._sql.indexed_objects.all(
                connection, bucket=bucket, names=[each.ref.name for each in objects]
            )
        known = {row["name"]: (row["indexed_size_bytes"], row["indexed_crc32c"], row["indexed_md5"]) for row in found}
        return {
            each.ref.name for each in objects if known.get(each.ref.name) == (each.size_bytes, each.crc32c, each.md5)
        }

    async def tokens_per_byte(self) -> Mapping[str, float]:
        """Return the ratio of each kind of file that is indexed often enough."""
        async with self._db.transaction() as connection:
            found = await self._sql.tokens_per_byte.all(connection, newest=NEWEST_FILES, at_least=ENOUGH_FILES)
        return {row["kind"]: row["ratio"] for row in found}

    async def pages(self) -> PagesKnown:
        """Return how many pages models have read of files of each kind, and what a page cost where that is known."""
        async with self._db.transaction() as connection:
            found = await self._sql.pages_per_byte.all(connection, newest=NEWEST_FILES)
        pages, micros = sum(row["pages"] for row in found), sum(row["micros"] for row in found)
        return PagesKnown(
            per_byte={row["kind"]: row["ratio"] for row in found if row["files"] >= ENOUGH_FILES},
            micros_per_page=micros / pages if pages >= ENOUGH_PAGES and micros else None,
        )
