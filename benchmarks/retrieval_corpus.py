"""The corpus and the questions of `retrieval.py`, and how the product indexes the one for the others."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import tarfile
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.client import Api
from services.laptop import everything
from services.process import document
from services.process.chunking import TARGET_TOKENS, Chunker
from shared.clock import SystemClock
from shared.local.stack import running_environment
from shared.model.document import ObjectRef
from shared.storage.gcs import CloudStorage

FOLDER = Path(__file__).with_name("retrieval")
CORPUS = FOLDER / "corpus.tar.xz"
CORPUS_SHA256 = "7f9a13a722a88425c448f4b16f24cf92c092b5eee4ccaf3b387526a3d0b0a831"
ORGANIZATION = "default"
_LICENCES = {"postgresql/legalnotice.html", "python/license.txt", "python/copyright.txt"}
_LETTERS = re.compile(r"[^\W_]+")
_STALLED_SECONDS = 300.0
_POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A passage that answers: the file, and words that stand in it once (see `letters_of`)."""

    file: str
    quote: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question as somebody types it; any of its answers is right."""

    id: str
    kind: str
    ask: str
    answers: tuple[Answer, ...]


def questions() -> list[Question]:
    """Return all questions, in the order of their file."""
    with (FOLDER / "questions.toml").open("rb") as file:
        listed = tomllib.load(file)["question"]
    return [
        Question(id=one["id"], kind=one["kind"], ask=one["ask"], answers=tuple(Answer(**it) for it in one["answers"]))
        for one in listed
    ]


def documents() -> dict[str, bytes]:
    """Return the corpus by file name, licence texts left out: nobody asks for those.

    Raises:
        SystemExit: the archive is not the one that the questions were written for.
    """
    if hashlib.sha256(CORPUS.read_bytes()).hexdigest() != CORPUS_SHA256:
        raise SystemExit(f"{CORPUS.name} is not the corpus that the questions are about")
    found = {}
    with tarfile.open(CORPUS) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            if member.name not in _LICENCES:
                found[member.name] = file.read()
    return found


def letters_of(text: str) -> str:
    """Return a text's letters and digits, all else as single spaces: as quotes are compared, whatever marks it up."""
    return " ".join(_LETTERS.findall(text.casefold()))


@asynccontextmanager
async def indexed(
    data_dir: Path, *, target_tokens: int = TARGET_TOKENS, say: Callable[[str], None] = print
) -> AsyncIterator[str]:
    """Run the product on `data_dir` with the corpus in its bucket, until all is indexed; yield the database's address.

    What a former run has indexed there is used again, so the size of chunks must be the same.
    """
    # The size is no setting: whoever changes it embeds everything anew. So it is changed here where it is used.
    document.Chunker = functools.partial(Chunker, target_tokens=target_tokens)  # type: ignore[assignment,misc]
    async with (
        everything(data_dir, durable=False) as stack,
        Api(stack.api) as api,
        CloudStorage(project_id=stack.project, emulator_host=stack.storage) as store,
    ):
        files = documents()
        if (await api.stats()).by_status.get("completed", 0) < len(files):
            await _upload(store, stack.bucket, files, data_dir / "upload")
            await _until_completed(api, len(files), say)
        environment = running_environment(data_dir)
        assert environment is not None
        yield environment["DATABASE_URL"]


async def _upload(store: CloudStorage, bucket: str, files: dict[str, bytes], path: Path) -> None:
    for name, content in files.items():
        path.write_bytes(content)  # noqa: ASYNC240  # small, and nothing else waits
        await store.upload(ObjectRef(bucket, name), path, content_type=None, metadata={"organization-id": ORGANIZATION})


async def _until_completed(api: Api, total: int, say: Callable[[str], None]) -> None:
    clock = SystemClock()
    seen, since = -1, clock.monotonic()
    while True:
        stats = await api.stats()
        if lost := stats.by_status.get("failed", 0) + stats.by_status.get("cancelled", 0):
            raise SystemExit(f"{lost} files were not indexed: {stats.by_error_code}")
        done = stats.by_status.get("completed", 0)
        if done >= total:
            return
        if done != seen:
            seen, since = done, clock.monotonic()
            say(f"indexed {done} of {total} files")
        elif clock.monotonic() - since > _STALLED_SECONDS:
            raise SystemExit(f"nothing was completed for {_STALLED_SECONDS:.0f} s; {done} of {total} files are done")
        await asyncio.sleep(_POLL_SECONDS)
