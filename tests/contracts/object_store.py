"""What every `ObjectStore` promises. A subclass gives `store`, and a `bucket` that exists and is empty."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from shared.errors import NotFound, Superseded, UnprocessableContent
from shared.model.document import ObjectMetadata, ObjectRef
from shared.ports.storage import ObjectStore

NAMES = ["a-b.txt", "a.txt", "a/1.txt", "a/2.txt", "z", "ß.txt", "文件/一.txt"]
"""In the order of their UTF-8 bytes."""


class ObjectStoreContract:
    """Behaviours of the port; not collected by itself."""

    async def put(self, store: ObjectStore, bucket: str, name: str, content: bytes = b"content") -> ObjectMetadata:
        """Upload something."""
        return await store.upload(ObjectRef(bucket, name), content, content_type="text/plain", metadata=None)

    async def test_upload_returns_what_stat_says(self, store: ObjectStore, bucket: str) -> None:
        """An object is described alike by the upload that made it and by a look at it."""
        uploaded = await store.upload(
            ObjectRef(bucket, "dir/ü.txt"), b"hello", content_type="text/plain", metadata={"organization-id": "acme"}
        )
        seen = await store.stat(uploaded.ref)
        assert seen == uploaded
        assert (seen.size_bytes, seen.content_type, seen.metadata) == (5, "text/plain", {"organization-id": "acme"})
        assert seen.crc32c == "mnG7TA=="
        assert seen.updated_at is not None
        assert seen.updated_at.tzinfo is not None

    async def test_upload_from_a_file(self, store: ObjectStore, bucket: str, tmp_path: Path) -> None:
        """A file is uploaded as it stands; an empty one too."""
        (tmp_path / "source").write_bytes(b"x" * 100_000)
        (tmp_path / "empty").touch()
        full = await store.upload(ObjectRef(bucket, "full"), tmp_path / "source", content_type=None, metadata=None)
        empty = await store.upload(ObjectRef(bucket, "empty"), tmp_path / "empty", content_type=None, metadata=None)
        assert (full.size_bytes, empty.size_bytes) == (100_000, 0)

    async def test_upload_again_makes_another_generation(self, store: ObjectStore, bucket: str) -> None:
        """Repeating an upload is allowed and never reuses a generation."""
        first = await self.put(store, bucket, "a.txt")
        second = await self.put(store, bucket, "a.txt")
        assert first.generation != second.generation
        assert first.has_content_of(size_bytes=second.size_bytes, crc32c=second.crc32c, md5=second.md5)

    async def test_stat_of_nothing_is_none(self, store: ObjectStore, bucket: str) -> None:
        """An object that is not there is None, not an error."""
        assert await store.stat(ObjectRef(bucket, "missing.txt")) is None

    async def test_stat_in_a_missing_bucket_is_an_error(self, store: ObjectStore, bucket: str) -> None:
        """A wrong bucket never looks like a deleted object: documents would be removed for it."""
        with pytest.raises(NotFound):
            await store.stat(ObjectRef(f"{bucket}-missing", "a.txt"))

    async def test_download_equals_the_generation(self, store: ObjectStore, bucket: str, tmp_path: Path) -> None:
        """The file holds the bytes, and its hash is of these bytes; a file that was there is replaced."""
        content = bytes(range(256)) * 5000
        uploaded = await self.put(store, bucket, "a.bin", content)
        target = tmp_path / "file"
        target.write_bytes(b"old")
        got = await store.download(uploaded.ref, uploaded.generation, target, limit_bytes=len(content))
        assert target.read_bytes() == content
        assert (got.path, got.size_bytes) == (target, len(content))
        assert got.sha256 == hashlib.sha256(content).hexdigest()
        assert list(tmp_path.iterdir()) == [target]

    async def test_download_of_an_empty_object(self, store: ObjectStore, bucket: str, tmp_path: Path) -> None:
        """Nothing is a content too."""
        uploaded = await self.put(store, bucket, "empty", b"")
        got = await store.download(uploaded.ref, uploaded.generation, tmp_path / "file", limit_bytes=1)
        assert (got.size_bytes, got.path.read_bytes()) == (0, b"")

    @pytest.mark.parametrize("then", ["overwritten", "deleted", "never"])
    async def test_download_of_another_generation_is_superseded(
        self, store: ObjectStore, bucket: str, tmp_path: Path, then: str
    ) -> None:
        """A generation that is gone ends in `Superseded` and leaves no file."""
        ref = ObjectRef(bucket, "a.txt")
        generation = 1
        if then != "never":
            generation = (await self.put(store, bucket, "a.txt")).generation
            await (self.put(store, bucket, "a.txt", b"new") if then == "overwritten" else store.delete(ref))
        with pytest.raises(Superseded):
            await store.download(ref, generation, tmp_path / "file", limit_bytes=100)
        assert list(tmp_path.iterdir()) == []

    async def test_too_large_is_refused_unfetched(self, store: ObjectStore, bucket: str, tmp_path: Path) -> None:
        """The limit is decided by the metadata: no file is even begun."""
        uploaded = await self.put(store, bucket, "a.txt", b"123456")
        with pytest.raises(UnprocessableContent) as caught:
            await store.download(uploaded.ref, uploaded.generation, tmp_path / "file", limit_bytes=5)
        assert caught.value.code == "TOO_LARGE"
        assert list(tmp_path.iterdir()) == []

    async def test_list_is_in_the_order_of_names(self, store: ObjectStore, bucket: str) -> None:
        """All live objects come once, by the bytes of their names, over several pages."""
        for name in reversed(NAMES):
            await self.put(store, bucket, name)
        assert [entry.ref.name async for entry in store.list(bucket)] == NAMES
        assert [entry.ref.name async for entry in store.list(bucket, "a/")] == ["a/1.txt", "a/2.txt"]
        assert [entry async for entry in store.list(bucket, "nothing")] == []

    async def test_list_entries_equal_stat(self, store: ObjectStore, bucket: str) -> None:
        """A listed object is described as well as one that is looked at."""
        uploaded = await store.upload(
            ObjectRef(bucket, "a.txt"), b"hello", content_type="text/plain", metadata={"user-id": "u"}
        )
        assert [entry async for entry in store.list(bucket)] == [uploaded]

    @pytest.mark.parametrize("after", ["", *NAMES, "a/1", "zz"])
    async def test_list_goes_on_after_a_name(self, store: ObjectStore, bucket: str, after: str) -> None:
        """`start_after` excludes the name itself, whether there is such an object or not."""
        for name in NAMES:
            await self.put(store, bucket, name)
        listed = [entry.ref.name async for entry in store.list(bucket, start_after=after)]
        assert listed == [name for name in NAMES if name.encode() > after.encode()]

    async def test_list_may_be_left_early(self, store: ObjectStore, bucket: str) -> None:
        """Whoever has seen enough stops asking."""
        for name in NAMES:
            await self.put(store, bucket, name)
        async for entry in store.list(bucket):
            assert entry.ref.name == NAMES[0]
            break

    async def test_delete_may_be_repeated(self, store: ObjectStore, bucket: str) -> None:
        """After a delete the object is gone, and deleting nothing is no error."""
        uploaded = await self.put(store, bucket, "a.txt")
        await store.delete(uploaded.ref)
        await store.delete(uploaded.ref)
        assert await store.stat(uploaded.ref) is None

    async def test_ping_tells_whether_the_bucket_can_be_read(self, store: ObjectStore, bucket: str) -> None:
        """A ping returns for the bucket, empty or not, and raises for one that is missing."""
        await store.ping(bucket)
        await self.put(store, bucket, "a.txt")
        await store.ping(bucket)
        with pytest.raises(NotFound):
            await store.ping(f"{bucket}-missing")

    async def test_many_tasks_share_it(self, store: ObjectStore, bucket: str) -> None:
        """More calls than threads wait for each other and all arrive."""
        names = [f"{number:02}" for number in range(30)]
        await asyncio.gather(*(self.put(store, bucket, name) for name in names))
        assert [entry.ref.name async for entry in store.list(bucket)] == names
