# mypy: disable-error-code="no-untyped-call"
"""Cloud Storage through google-cloud-storage, whose calls block and so run in a bounded pool of threads.

The library's own retries are off: a call is tried once within its time-outs and ends in one of our errors; who calls
decides what comes next. A caller that is cancelled leaves at once. Its thread ends at the next block or time-out, and
holds nothing by then but an open file without a name.
"""

from __future__ import annotations

import asyncio
import io
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import google.auth
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from requests.adapters import HTTPAdapter

from shared.errors import DependencyUnavailable, NotFound, Superseded, UnprocessableContent
from shared.model.document import ObjectMetadata, ObjectRef
from shared.ports.storage import Downloaded
from shared.storage.errors import translated
from shared.storage.transfer import Sink, Source

T = TypeVar("T")

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_FIELDS = "nextPageToken,items(name,generation,metageneration,size,crc32c,md5Hash,contentType,updated,metadata)"


class CloudStorage:
    """Implements `shared.ports.storage.ObjectStore`. An async context manager: it works only within its block."""

    def __init__(
        self,
        *,
        project_id: str,
        emulator_host: str | None = None,
        concurrency: int = 8,
        connect_timeout_seconds: float = 5.0,
        read_timeout_seconds: float = 30.0,
        page_size: int = 500,
    ) -> None:
        """Take `emulator_host` (a URL) to talk to a stand-in without credentials; else Google's default ones are used.

        `read_timeout_seconds` bounds each wait for bytes, not a whole transfer. `concurrency` is how many calls are on
        their way at once; further ones wait.
        """
        self._project_id = project_id
        self._emulator_host = emulator_host
        self._concurrency = concurrency
        self._timeout = (connect_timeout_seconds, read_timeout_seconds)
        self._page_size = page_size
        self._stop = threading.Event()

    async def __aenter__(self) -> Self:
        """Open the client.

        Raises:
            AuthenticationError: there are no credentials.
        """
        self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="storage")
        try:
            with translated("the bucket"):
                self._client = await self._call(self._open)
        except BaseException:
            self._threads.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        # Threads that wait for the network end with their time-out; a shutdown has no time to wait for that.
        self._stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def stat(self, ref: ObjectRef) -> ObjectMetadata | None:
        """Return the live generation, or None. That the bucket itself is missing is `NotFound`, never None."""
        with translated(ref.uri):
            bucket = self._client.bucket(ref.bucket)
            blob = await self._call(partial(bucket.get_blob, ref.name, timeout=self._timeout, retry=None))
            if blob is None:
                await self.ping(ref.bucket)
        return None if blob is None else _metadata(ref.bucket, blob)

    async def download(self, ref: ObjectRef, generation: int, to: Path, *, limit_bytes: int) -> Downloaded:  # noqa: D102
        blob = self._client.bucket(ref.bucket).blob(ref.name, generation=generation)
        try:
            with translated(f"{ref.uri}#{generation}"):
                await self._call(partial(blob.reload, timeout=self._timeout, retry=None))
        except NotFound:
            await self.ping(ref.bucket)
            raise Superseded(f"{ref.uri} no longer has generation {generation}.") from None
        if blob.time_deleted is not None:
            # A bucket with versions keeps what was deleted or overwritten, and gives it to who asks by number.
            raise Superseded(f"Generation {generation} of {ref.uri} is no longer the live one.")
        size_bytes = int(blob.size or 0)
        if size_bytes > limit_bytes:
            raise UnprocessableContent(
                f"The file has {size_bytes} bytes; at most {limit_bytes} are processed.", code="TOO_LARGE"
            )
        part = to.with_name(f".{to.name}.{secrets.token_hex(4)}.part")
        file = part.open("xb")
        stop = threading.Event()
        sink = Sink(
            file,
            size_bytes=size_bytes,
            crc32c=blob.crc32c,
            gzipped=blob.content_encoding == "gzip",
            limit_bytes=limit_bytes,
            stop=stop,
        )
        try:
            with translated(f"{ref.uri}#{generation}"):
                await self._transfer(
                    partial(
                        blob.download_to_file,
                        sink,
                        raw_download=True,
                        checksum=None,
                        timeout=self._timeout,
                        retry=None,
                    ),
                    file,
                    stop,
                )
            sink.finish()
            part.replace(to)
        except NotFound:
            raise Superseded(f"{ref.uri} no longer has generation {generation}.") from None
        finally:
            part.unlink(missing_ok=True)
        return Downloaded(path=to, size_bytes=sink.size_bytes, sha256=sink.sha256)

    async def list(  # noqa: D102
        self, bucket: str, prefix: str = "", *, start_after: str = ""
    ) -> AsyncIterator[ObjectMetadata]:
        pages = self._client.list_blobs(
            bucket,
            prefix=prefix or None,
            start_offset=start_after or None,
            page_size=self._page_size,
            fields=_FIELDS,
            timeout=self._timeout,
            retry=None,
        ).pages
        where = f"gs://{bucket}/{prefix}"
        while True:
            try:
                with translated(where):
                    page = await self._call(lambda: next(pages, None))
                entries = None if page is None else [_metadata(bucket, blob) for blob in page]
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                # The library takes the answer apart as if nothing else could come; the error is all that we see of it.
                raise DependencyUnavailable(f"Cloud Storage answered for {where} with what is no listing.") from error
            if entries is None:
                return
            for entry in entries:
                if entry.ref.name != start_after:  # the service's `startOffset` includes the name itself
                    yield entry

    async def upload(  # noqa: D102
        self,
        ref: ObjectRef,
        source: Path | bytes,
        *,
        content_type: str | None,
        metadata: dict[str, str] | None,
    ) -> ObjectMetadata:
        blob = self._client.bucket(ref.bucket).blob(ref.name)
        blob.metadata = metadata
        file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        stop = threading.Event()
        size_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size  # noqa: ASYNC240
        with translated(ref.uri):
            await self._transfer(
                partial(
                    blob.upload_from_file,
                    Source(file, stop=stop),
                    size=size_bytes,
                    content_type=content_type or "application/octet-stream",
                    timeout=self._timeout,
                    checksum="crc32c",
                    retry=None,
                ),
                file,
                stop,
            )
        return _metadata(ref.bucket, blob)

    async def delete(self, ref: ObjectRef) -> None:  # noqa: D102
        blob = self._client.bucket(ref.bucket).blob(ref.name)
        try:
            with translated(ref.uri):
                await self._call(partial(blob.delete, timeout=self._timeout, retry=None))
        except NotFound:
            return

    async def ping(self, bucket: str) -> None:
        """Return if the bucket can be listed; reading its own metadata would need one more permission."""
        with translated(f"gs://{bucket}"):
            listing = self._client.list_blobs(
                bucket, max_results=1, fields="items(name)", timeout=self._timeout, retry=None
            )
            await self._call(lambda: next(iter(listing), None))

    def _open(self) -> storage.Client:
        credentials: Credentials
        if self._emulator_host:
            credentials, options = AnonymousCredentials(), ClientOptions(api_endpoint=self._emulator_host)
        else:
            (credentials, _), options = google.auth.default(scopes=_SCOPES), ClientOptions()
        session = AuthorizedSession(credentials)
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=self._concurrency, max_retries=0)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        client = storage.Client(
            project=self._project_id, credentials=credentials, _http=session, client_options=options
        )
        # Without this the library asks for the bucket's own metadata behind our back, in a thread of its own that
        # retries for two minutes, with a permission we do not need; only for labels of its spans, which we do not use.
        client._bucket_metadata_cache = None  # type: ignore[assignment]  # noqa: SLF001 - no public switch
        return client

    async def _call(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._threads.submit(call))

    async def _transfer(self, call: Callable[[], Any], file: BinaryIO, stop: threading.Event) -> None:
        """Run a transfer that owns `file` from now on: the thread closes it, or nobody started and we do."""

        def run() -> None:
            with file:
                if not self._stop.is_set():
                    call()

        try:
            future = self._threads.submit(run)
        except RuntimeError:
            file.close()
            raise
        try:
            await asyncio.wrap_future(future)
        finally:
            stop.set()
            if future.cancelled():
                file.close()


def _metadata(bucket: str, blob: storage.Blob) -> ObjectMetadata:
    return ObjectMetadata(
        ref=ObjectRef(bucket, blob.name),
        generation=int(blob.generation),
        metageneration=int(blob.metageneration or 1),
        size_bytes=int(blob.size or 0),
        crc32c=blob.crc32c,
        md5=blob.md5_hash,
        content_type=blob.content_type,
        updated_at=blob.updated,
        metadata=dict(blob.metadata or {}),
    )
