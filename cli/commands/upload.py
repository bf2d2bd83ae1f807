"""Files of this machine into the bucket, and then their way through the stages."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from cli import look
from cli.board import Board, Row
from cli.client import Api
from cli.follow import Upload, until_ended
from services.address import Address
from shared.clock import Clock, SystemClock
from shared.errors import InvalidRequest
from shared.model.document import ObjectRef
from shared.ports.storage import ObjectStore
from shared.storage.gcs import CloudStorage

AT_ONCE = 4
_NAME_LIMIT_BYTES = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Who:
    """Whose files they are; the stack's defaults where nothing is said."""

    organization: str | None = None
    user: str | None = None

    def metadata(self) -> dict[str, str]:
        """Return what is written on the objects."""
        named = {"organization-id": self.organization, "user-id": self.user}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Source:
    """A file and the name it gets in the bucket."""

    path: Path
    name: str
    size_bytes: int


async def run(console: Console, stack: Address, paths: Sequence[Path], *, prefix: str, who: Who, wait: bool) -> int:
    """Upload, and follow if asked to; return the exit code: 1 when a file did not become searchable."""
    sources = await asyncio.to_thread(collect, paths, prefix)
    clock = SystemClock()
    async with CloudStorage(project_id=stack.project, emulator_host=stack.storage) as store:
        uploads = await put(console, store, stack.bucket, sources, who, clock)
    if not wait:
        return 0
    async with Api(stack.api) as api:
        return await watch(console, api, uploads, clock)


async def watch(console: Console, api: Api, uploads: Sequence[Upload], clock: Clock) -> int:
    """Show uploads until they have ended; return 1 when one failed."""
    rows = [upload.row for upload in uploads]
    with Board(console, clock, rows) as board:
        await until_ended(api, uploads, clock, changed=board.update)
    for row in rows:
        if row.failed and row.job is not None and row.job.error is not None:
            line = Text.assemble(("✗ ", "bad"), f"{row.name}  {row.job.error.code}: {row.job.error.message or ''}")
            console.print(line, soft_wrap=True)
    return 1 if any(row.failed for row in rows) else 0


def collect(paths: Sequence[Path], prefix: str) -> list[Source]:
    """Return the files that are meant, by name; folders with everything below them but hidden files.

    Raises:
        InvalidRequest: there is none, or two would get the same name.
    """
    found: dict[str, Source] = {}
    for path in paths:
        root = path.parent if path.is_file() else path
        files = [path] if path.is_file() else sorted(below for below in path.rglob("*") if below.is_file())
        for file in files:
            inside = file.relative_to(root)
            if file != path and any(part.startswith(".") for part in inside.parts):
                continue
            name = prefix + inside.as_posix()
            if len(name.encode("utf-8", "surrogateescape")) > _NAME_LIMIT_BYTES:
                raise InvalidRequest(f"the name {name[:60]}… is too long for a bucket: 1024 bytes at most")
            if name in found:
                raise InvalidRequest(f"two files would become {name}; upload them one by one with --prefix")
            found[name] = Source(file, name, file.stat().st_size)
    if not found:
        raise InvalidRequest("there are no files there")
    return list(found.values())


async def put(
    console: Console, store: ObjectStore, bucket: str, sources: Sequence[Source], who: Who, clock: Clock
) -> list[Upload]:
    """Write the files, a few at once; the first failure ends it."""
    total_bytes = sum(source.size_bytes for source in sources)
    uploads: list[Upload] = []
    slots = asyncio.Semaphore(AT_ONCE)
    with Progress(
        TextColumn("uploading"),
        BarColumn(style="track", complete_style="processing", finished_style="completed"),
        MofNCompleteColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stderr=False,
    ) as progress:
        files = progress.add_task("files", total=len(sources))

        async def one(source: Source) -> None:
            async with slots:
                row = Row(source.name, source.size_bytes, clock.now())
                written = await store.upload(
                    ObjectRef(bucket, source.name),
                    source.path,
                    content_type=mimetypes.guess_type(source.path.name)[0],
                    metadata=who.metadata() or None,
                )
                uploads.append(Upload(source.name, written.generation, row))
                progress.advance(files)

        try:
            async with asyncio.TaskGroup() as group:
                for source in sources:
                    group.create_task(one(source))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    console.print(
        Text.assemble(
            ("✓ ", "good"), f"{look.count(len(sources), 'file')}, {look.size(total_bytes)}, into gs://{bucket}"
        ),
        soft_wrap=True,
    )
    order = {source.name: index for index, source in enumerate(sources)}
    return sorted(uploads, key=lambda upload: order[upload.name])
