"""The bucket."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.model.document import ObjectMetadata, ObjectRef


@dataclass(frozen=True, kw_only=True, slots=True)
class Downloaded:
    """A file on disk that equals one generation of an object."""

    path: Path
    size_bytes: int
    sha256: str


class ObjectStore(Protocol):
    """Cloud Storage, or a server that speaks its API. Safe to use from many tasks.

    Every method may raise `RetryableError` (refused, timed out, 429, 5xx; the call may have had its effect) and
    `AuthenticationError` (401, 403). Each call is bounded by a time-out of its own.
    """

    async def stat(self, ref: ObjectRef) -> ObjectMetadata | None:
        """Return the live generation of an object as it is now, or None when there is none."""
        ...

    async def download(self, ref: ObjectRef, generation: int, to: Path, *, limit_bytes: int) -> Downloaded:
        """Write exactly this generation to the file `to`, replacing it; checksums are verified.

        Raises:
            Superseded: that generation is no longer the live one, also where the bucket keeps it as a version.
            UnprocessableContent: `TOO_LARGE`, decided before any byte is fetched.
        """
        ...

    def list(self, bucket: str, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectMetadata]:
        """Yield the live objects in the order of their names (by UTF-8 bytes), page by page, never all in memory."""
        ...

    async def upload(
        self,
        ref: ObjectRef,
        source: Path | bytes,
        *,
        content_type: str | None,
        metadata: dict[str, str] | None,
    ) -> ObjectMetadata:
        """Write a new generation and return it; may be repeated, each time with a new generation."""
        ...

    async def delete(self, ref: ObjectRef) -> None:
        """Remove the live generation; nothing happens if there is none."""
        ...

    async def ping(self, bucket: str) -> None:
        """Return if the bucket can be read."""
        ...
