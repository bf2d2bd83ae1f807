"""Which files are meant, and how they get into the bucket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import pytest

from cli import look
from cli.commands.upload import Source, Who, collect, put
from shared.errors import DependencyUnavailable, InvalidRequest
from shared.model.document import ObjectMetadata, ObjectRef
from shared.ports.storage import Downloaded
from tests.plugins.clock import ManualClock


def tree(root: Path, *names: str) -> Path:
    """Make files with these names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def test_a_folder_is_everything_below_it(tmp_path: Path) -> None:
    """Names are relative to the folder, with the prefix in front; hidden files and folders stay out."""
    tree(tmp_path, "a.txt", "deep/er/b.txt", ".hidden", ".git/config", "deep/.secret/c.txt")
    assert [source.name for source in collect([tmp_path], "acme/")] == ["acme/a.txt", "acme/deep/er/b.txt"]


def test_a_file_that_is_named_is_meant(tmp_path: Path) -> None:
    """A hidden file that somebody names is uploaded, under its own name."""
    tree(tmp_path, "sub/.hidden")
    assert [source.name for source in collect([tmp_path / "sub/.hidden"], "")] == [".hidden"]


def test_nothing_and_collisions_are_refused(tmp_path: Path) -> None:
    """Without a file, or with two of one name, nothing is uploaded at all."""
    tree(tmp_path, "one/a.txt", "two/a.txt", "empty/.only-hidden")
    with pytest.raises(InvalidRequest, match="no files"):
        collect([tmp_path / "empty"], "")
    with pytest.raises(InvalidRequest, match=r"two files would become a\.txt"):
        collect([tmp_path / "one", tmp_path / "two"], "")


class Bucket:
    """Takes uploads; holds how many were on their way at once, and fails for one name."""

    def __init__(self, failing: str = "") -> None:
        self.written: dict[str, dict[str, str] | None] = {}
        self.types: list[str | None] = []
        self.most = self._now = 0
        self._failing = failing

    async def upload(
        self, ref: ObjectRef, source: Path | bytes, *, content_type: str | None, metadata: dict[str, str] | None
    ) -> ObjectMetadata:
        """Take a file."""
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        if ref.name == self._failing:
            raise DependencyUnavailable("The bucket is away.")
        self.written[ref.name] = metadata
        self.types.append(content_type)
        return ObjectMetadata(
            ref=ref, generation=len(self.written), metageneration=1, size_bytes=1, crc32c=None, md5=None,
            content_type=content_type, updated_at=None,
        )  # fmt: skip

    async def stat(self, ref: ObjectRef) -> ObjectMetadata | None:
        """Not asked."""
        raise NotImplementedError

    async def download(self, ref: ObjectRef, generation: int, to: Path, *, limit_bytes: int) -> Downloaded:
        """Not asked."""
        raise NotImplementedError

    def list(self, bucket: str, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectMetadata]:
        """Not asked."""
        raise NotImplementedError

    async def delete(self, ref: ObjectRef) -> None:
        """Not asked."""
        raise NotImplementedError

    async def ping(self, bucket: str) -> None:
        """Not asked."""
        raise NotImplementedError


async def test_files_are_written_a_few_at_once_with_their_owner() -> None:
    """Order is kept, the owner stands on every object, and no more than four are on their way."""
    bucket, console = Bucket(), look.console(StringIO())
    sources = [Source(Path(f"{number}.pdf"), f"{number}.pdf", 1000) for number in range(12)]
    uploads = await put(console, bucket, "b", sources, Who(organization="acme", user="ann"), ManualClock())
    assert [upload.name for upload in uploads] == [source.name for source in sources]
    assert set(map(str, bucket.written.values())) == {"{'organization-id': 'acme', 'user-id': 'ann'}"}
    assert bucket.types == ["application/pdf"] * 12
    assert 1 < bucket.most <= 4


async def test_the_first_failure_ends_an_upload() -> None:
    """A bucket that is away is told as the error it is, not as a group of them."""
    sources = [Source(Path(name), name, 1) for name in ("a", "b")]
    with pytest.raises(DependencyUnavailable, match="The bucket is away"):
        await put(look.console(StringIO()), Bucket(failing="b"), "b", sources, Who(), ManualClock())
