"""The bucket's client that opens with the first call."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import AuthenticationError, DependencyUnavailable, NotFound
from shared.local.gcs import EmbeddedStorage
from shared.model.document import ObjectRef
from shared.storage.late import LateStorage

BUCKET = "headrace-uploads"
REF = ObjectRef(BUCKET, "a.txt")


async def test_each_call_reaches_the_bucket(tmp_path: Path) -> None:
    """What the port promises is handed on, from the first call to the last."""
    async with (
        EmbeddedStorage(
            tmp_path / "gcs", pubsub_address="127.0.0.1:9", project="proj", topic="uploads", buckets=[BUCKET]
        ) as server,
        LateStorage(project_id="proj", emulator_host=server.url) as store,
    ):
        await store.ping(BUCKET)
        with pytest.raises(NotFound):
            await store.ping("headrace-missing")
        uploaded = await store.upload(REF, b"hello", content_type="text/plain", metadata={"user-id": "ada"})
        assert await store.stat(REF) == uploaded
        assert [entry async for entry in store.list(BUCKET, "a")] == [uploaded]
        got = await store.download(REF, uploaded.generation, tmp_path / "a.txt", limit_bytes=10)
        assert got.path.read_bytes() == b"hello"
        await store.delete(REF)
        assert await store.stat(REF) is None


async def test_entering_asks_nobody() -> None:
    """A bucket that is away is noticed by the call that needs it, so by readiness, and not by the start."""
    async with LateStorage(project_id="proj", emulator_host="http://127.0.0.1:9") as store:
        with pytest.raises(DependencyUnavailable):
            await store.ping(BUCKET)


async def test_opening_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that are missing come out of each call, until they are there."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    async with LateStorage(project_id="proj") as store:
        for _ in range(2):
            with pytest.raises(AuthenticationError):
                await store.ping(BUCKET)
