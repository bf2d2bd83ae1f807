"""The one adapter, on the real client and a real server; its errors, on a server that misbehaves."""

import asyncio
import base64
import gzip
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import google_crc32c
import pytest
from aiohttp import web

from shared.errors import (
    AuthenticationError,
    DependencyUnavailable,
    HeadraceError,
    InvalidRequest,
    NotFound,
    RateLimitError,
    Superseded,
    UnprocessableContent,
)
from shared.local.gcs import EmbeddedStorage
from shared.model.document import ObjectRef
from shared.storage.gcs import CloudStorage
from tests.contracts.object_store import ObjectStoreContract

REF = ObjectRef("bucket", "a.txt")


@asynccontextmanager
async def _server(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _store(url: str, **options: float) -> CloudStorage:
    return CloudStorage(project_id="proj", emulator_host=url, connect_timeout_seconds=1, **options)  # type: ignore[arg-type]


async def _unasked(_request: web.Request) -> web.StreamResponse:
    raise AssertionError("nobody asks this server")


class TestCloudStorage(ObjectStoreContract):
    """The contract, on fake-gcs-server."""

    @pytest.fixture
    def bucket(self) -> str:
        """The bucket the server makes."""
        return "headrace-uploads"

    @pytest.fixture
    async def store(self, tmp_path_factory: pytest.TempPathFactory, bucket: str) -> AsyncIterator[CloudStorage]:
        """An adapter with small pages and few threads, so that both run out."""
        root = tmp_path_factory.mktemp("gcs")
        async with (
            EmbeddedStorage(
                root, pubsub_address="127.0.0.1:9", project="proj", topic="uploads", buckets=[bucket]
            ) as server,
            CloudStorage(project_id="proj", emulator_host=server.url, page_size=2, concurrency=4) as store,
        ):
            yield store


def _answer(status: int, reason: str = "", headers: dict[str, str] | None = None) -> web.Response:
    error = {"code": status, "message": "no", "errors": [{"reason": reason, "message": "no"}]}
    return web.json_response({"error": error}, status=status, headers=headers)


CASES = [
    (400, "", InvalidRequest),
    (401, "", AuthenticationError),
    (403, "forbidden", AuthenticationError),
    (403, "userRateLimitExceeded", RateLimitError),
    (404, "", NotFound),
    (408, "", DependencyUnavailable),
    (429, "rateLimitExceeded", RateLimitError),
    (500, "", DependencyUnavailable),
    (502, "", DependencyUnavailable),
    (503, "", DependencyUnavailable),
]


@pytest.mark.parametrize(("status", "reason", "kind"), CASES)
async def test_answers_become_our_errors_after_one_call(status: int, reason: str, kind: type[HeadraceError]) -> None:
    """Each status has one meaning, and the library tries nothing behind our back."""
    calls = 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return _answer(status, reason)

    async with _server(handler) as url, _store(url) as store:
        for call in (
            lambda: store.ping("bucket"),
            lambda: store.upload(REF, b"x", content_type=None, metadata=None),
            lambda: anext(store.list("bucket")),
        ):
            calls = 0
            with pytest.raises(kind):
                await call()
            assert calls == 1


async def test_retry_after_is_passed_on() -> None:
    """What the service asks us to wait reaches who waits; a date in its place is ignored."""
    waits = iter(["17", "Wed, 21 Oct 2026 07:28:00 GMT"])

    async def handler(_request: web.Request) -> web.Response:
        return _answer(429, headers={"Retry-After": next(waits)})

    async with _server(handler) as url, _store(url) as store:
        with pytest.raises(RateLimitError) as caught:
            await store.ping("bucket")
        assert caught.value.retry_after_seconds == 17.0
        with pytest.raises(RateLimitError) as caught:
            await store.ping("bucket")
        assert caught.value.retry_after_seconds is None


async def test_nobody_listens() -> None:
    """A refused connection is a dependency that is away."""
    async with _server(_unasked) as url:
        pass
    async with _store(url) as store:
        with pytest.raises(DependencyUnavailable):
            await store.ping("bucket")


async def test_silence_is_bounded() -> None:
    """A server that accepts and says nothing costs the read time-out, not for ever."""
    release = asyncio.Event()

    async def handler(_request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with _server(handler) as url, _store(url, read_timeout_seconds=0.2) as store:
        with pytest.raises(DependencyUnavailable):
            await store.stat(REF)
        release.set()


async def test_nonsense_is_an_unavailable_dependency() -> None:
    """An answer that is no JSON (a proxy's page) does not come out as a vendor's error."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    async with _server(handler) as url, _store(url) as store:
        with pytest.raises(DependencyUnavailable):
            await store.ping("bucket")


def _page(name: str, next_page: str | None) -> web.Response:
    item = {"name": name, "generation": "7", "metageneration": "1", "size": "1"}
    return web.json_response({"items": [item]} | ({"nextPageToken": next_page} if next_page else {}))


BROKEN_PAGES = {
    "503": lambda: _answer(503),
    "404": lambda: _answer(404),
    "empty": lambda: web.Response(content_type="application/json"),
    "cut off": lambda: web.Response(text='{"items": [{"na', content_type="application/json"),
    "no object": lambda: web.json_response([]),
    "no items": lambda: web.json_response({"items": [{"kind": "storage#object"}]}),
    "null": lambda: web.json_response(None),
}


@pytest.mark.parametrize("broken", BROKEN_PAGES)
async def test_a_listing_that_breaks_off_is_not_at_its_end(broken: str) -> None:
    """Whatever comes in place of a further page is an error: who takes it for the end takes files for deleted ones."""

    async def handler(request: web.Request) -> web.Response:
        return BROKEN_PAGES[broken]() if request.query.get("pageToken") else _page("a", "more")

    async with _server(handler) as url, _store(url) as store:
        listing = store.list("bucket")
        assert (await anext(listing)).ref.name == "a"
        with pytest.raises(HeadraceError):
            await anext(listing)


Body = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _object(content: bytes, body: Body, *, encoding: str | None = None, **more: str) -> Body:
    """A server with one object, whose bytes are sent by `body`."""
    checksum = google_crc32c.Checksum(content)  # type: ignore[no-untyped-call]
    resource = {
        "name": REF.name,
        "bucket": REF.bucket,
        "generation": "7",
        "metageneration": "1",
        "size": str(len(content)),
        "crc32c": base64.b64encode(checksum.digest()).decode(),  # type: ignore[no-untyped-call]
        "contentEncoding": encoding,
    } | more

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.query.get("alt") == "media":
            return await body(request)
        return web.json_response(resource)

    return handler


def _open_files() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue
    return {name for name in found if ".part" in name}


async def test_truncated_body_is_never_a_file(tmp_path: Path) -> None:
    """A connection that ends in the middle of an object leaves an error and nothing else."""

    async def body(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 500)
        assert request.transport is not None
        request.transport.close()
        return response

    async with _server(_object(b"x" * 1000, body)) as url, _store(url) as store:
        with pytest.raises(DependencyUnavailable):
            await store.download(REF, 7, tmp_path / "file", limit_bytes=1000)
    assert list(tmp_path.iterdir()) == []
    assert not _open_files()


@pytest.mark.parametrize("wrong", [b"y" * 1000, b"x" * 999, b"x" * 1001], ids=["other", "shorter", "longer"])
async def test_damaged_body_is_never_a_file(tmp_path: Path, wrong: bytes) -> None:
    """Bytes that do not match size and checksum of the metadata are fetched again later."""

    async def body(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=wrong)

    async with _server(_object(b"x" * 1000, body)) as url, _store(url) as store:
        with pytest.raises(DependencyUnavailable) as caught:
            await store.download(REF, 7, tmp_path / "file", limit_bytes=1000)
    assert caught.value.code == "CHECKSUM_MISMATCH"
    assert list(tmp_path.iterdir()) == []


async def test_a_generation_that_is_no_longer_live_is_superseded(tmp_path: Path) -> None:
    """A bucket with versions gives what was deleted to who asks by number; the file is gone all the same."""

    async def body(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x")

    handler = _object(b"x", body, timeDeleted="2026-11-23T06:00:00.000Z")
    async with _server(handler) as url, _store(url) as store:
        with pytest.raises(Superseded):
            await store.download(REF, 7, tmp_path / "file", limit_bytes=1)
    assert list(tmp_path.iterdir()) == []


async def test_gzip_encoding_is_unpacked(tmp_path: Path) -> None:
    """What is stored packed is checked as stored and written as meant."""
    content = b"some text " * 1000
    packed = gzip.compress(content)

    async def body(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with _server(_object(packed, body, encoding="gzip")) as url, _store(url) as store:
        got = await store.download(REF, 7, tmp_path / "file", limit_bytes=20_000)
    assert got.path.read_bytes() == content
    assert got.sha256 == hashlib.sha256(content).hexdigest()


async def test_gzip_bomb_is_refused(tmp_path: Path) -> None:
    """A packed object may not grow beyond the limit on our disk."""
    packed = gzip.compress(b"\0" * 10_000_000)

    async def body(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with _server(_object(packed, body, encoding="gzip")) as url, _store(url) as store:
        with pytest.raises(UnprocessableContent) as caught:
            await store.download(REF, 7, tmp_path / "file", limit_bytes=1_000_000)
    assert caught.value.code == "TOO_LARGE"
    assert list(tmp_path.iterdir()) == []


async def test_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    """Whoever is cancelled leaves at once; no file, no name and no thread stays behind."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def body(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 100_000)
                begun.set()
        except ConnectionError:
            gone.set()
            raise

    size_bytes = 1 << 40

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.query.get("alt") == "media":
            return await body(request)
        return web.json_response({"name": "a.txt", "generation": "7", "metageneration": "1", "size": str(size_bytes)})

    async with _server(handler) as url, _store(url) as store:
        download = asyncio.create_task(store.download(REF, 7, tmp_path / "file", limit_bytes=size_bytes))
        await begun.wait()
        assert list(tmp_path.iterdir()) != []
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
        assert list(tmp_path.iterdir()) == []
        async with asyncio.timeout(10):
            await gone.wait()
            await store.stat(REF)  # the thread is of use again
    assert not _open_files()


async def test_cancelled_while_waiting_for_a_thread(tmp_path: Path) -> None:
    """A transfer that never got its thread closes its file itself."""
    release, busy = asyncio.Event(), asyncio.Event()

    async def body(_request: web.Request) -> web.StreamResponse:
        busy.set()
        await release.wait()
        return web.Response(body=b"x")

    async with _server(_object(b"x", body)) as url, _store(url, concurrency=1) as store:
        first = asyncio.create_task(store.download(REF, 7, tmp_path / "first", limit_bytes=1))
        await busy.wait()
        waiting = asyncio.create_task(store.upload(REF, b"x", content_type=None, metadata=None))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        release.set()
        assert (await first).size_bytes == 1
