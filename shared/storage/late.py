"""The bucket for services: its client is imported and opened by the first call, and not before the service answers.

Google's client, with the libraries below it (requests, grpc, cryptography), is the largest part of what a service
imports. An instance that is started for one request answers `/livez` without it; readiness and work wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from shared.model.document import ObjectMetadata, ObjectRef
from shared.ports.storage import Downloaded

if TYPE_CHECKING:
    from shared.storage.gcs import CloudStorage


class LateStorage:
    """Implements `shared.ports.storage.ObjectStore`. An async context manager: it works only within its block.

    What opening raises comes out of the call that wanted it, and the next one tries again.
    """

    def __init__(self, *, project_id: str, emulator_host: str | None = None) -> None:
        """Take what `shared.storage.gcs.CloudStorage` takes."""
        self._project_id, self._emulator_host = project_id, emulator_host
        self._store: CloudStorage | None = None
        self._one_at_a_time = asyncio.Lock()
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def stat(self, ref: ObjectRef) -> ObjectMetadata | None:  # noqa: D102
        return await (await self._opened()).stat(ref)

    async def download(self, ref: ObjectRef, generation: int, to: Path, *, limit_bytes: int) -> Downloaded:  # noqa: D102
        return await (await self._opened()).download(ref, generation, to, limit_bytes=limit_bytes)

    async def list(  # noqa: D102
        self, bucket: str, prefix: str = "", *, start_after: str = ""
    ) -> AsyncIterator[ObjectMetadata]:
        async for entry in (await self._opened()).list(bucket, prefix, start_after=start_after):
            yield entry

    async def upload(  # noqa: D102
        self,
        ref: ObjectRef,
        source: Path | bytes,
        *,
        content_type: str | None,
        metadata: dict[str, str] | None,
    ) -> ObjectMetadata:
        return await (await self._opened()).upload(ref, source, content_type=content_type, metadata=metadata)

    async def delete(self, ref: ObjectRef) -> None:  # noqa: D102
        await (await self._opened()).delete(ref)

    async def ping(self, bucket: str) -> None:  # noqa: D102
        await (await self._opened()).ping(bucket)

    async def _opened(self) -> CloudStorage:
        async with self._one_at_a_time:
            if self._store is None:
                # In a thread: it takes a good part of a second, in which health is asked for and pings are answered.
                gcs = await asyncio.to_thread(import_module, "shared.storage.gcs")
                client: CloudStorage = gcs.CloudStorage(project_id=self._project_id, emulator_host=self._emulator_host)
                self._store = await self._resources.enter_async_context(client)
        return self._store
