"""Side B: the same work by a straight script: no queue, stages, ledger or retry; what it does not finish is lost.

It reads the same bucket and uses the same extractor, chunker and model, with as many files at once, on the same
servers, into one plain table with the same two search indexes (HNSW and full text).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from pgvector import HalfVector
from pgvector.asyncpg import register_vector
from side import AT_ONCE, Result, Source, cpu_seconds, cpu_since, main, say, sources, transactions, upload

from services.process.chunking import Chunker
from services.process.extract.extractor import ChildExtractor
from services.process.settings import ProcessSettings
from shared.clock import SystemClock
from shared.embedding.genai import GeminiEmbedder
from shared.embedding.local import LocalEmbedder
from shared.local.stack import LocalStack
from shared.model.document import Chunk, ObjectMetadata
from shared.ports.models import Embedder
from shared.settings import load
from shared.storage.gcs import CloudStorage

TABLES = """
create extension if not exists vector;
create table passages (
  name text not null, ordinal integer not null, organization text not null, text text not null, locator jsonb not null,
  embedding halfvec({dimensions}) not null,
  fts tsvector not null generated always as (to_tsvector('english', text)) stored,
  primary key (name, ordinal)
);
create index on passages using hnsw (embedding halfvec_cosine_ops);
create index on passages using gin (fts);
"""
INSERT = """
insert into passages (name, ordinal, organization, text, locator, embedding)
select $1, p.ordinal, $2, p.text, p.locator::jsonb, p.embedding
from unnest($3::int[], $4::text[], $5::text[], $6::halfvec[]) as p (ordinal, text, locator, embedding)
"""


@dataclass(kw_only=True)
class Script:
    """The whole script."""

    settings: ProcessSettings
    store: CloudStorage
    pool: asyncpg.Pool[asyncpg.Record]
    extractor: ChildExtractor
    embedder: Embedder
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    files: int = 0
    texts: int = 0
    tokens: int = 0
    calls: int = 0

    async def take(self, source: Source) -> None:
        """Put a file into the bucket and, as soon as there is room, index it."""
        async with self.uploads:
            live = await upload(self.store, self.settings.bucket, source)
        async with self.slots:
            await self._index(source, live)
        self.files += 1

    async def _index(self, source: Source, live: ObjectMetadata) -> None:
        chunks = await self._read(source, live)
        vectors: list[HalfVector] = []
        for start in range(0, len(chunks), self.embedder.batch_size):
            texts = [chunk.text for chunk in chunks[start : start + self.embedder.batch_size]]
            made = await self.embedder.embed(texts, purpose="document")
            vectors += [HalfVector(list(vector)) for vector in made.vectors]
            self.texts, self.tokens, self.calls = (
                self.texts + len(texts),
                self.tokens + made.tokens,
                self.calls + made.calls,
            )
        async with self.pool.acquire() as connection:
            await connection.execute(
                INSERT,
                source.name,
                source.organization,
                [chunk.ordinal for chunk in chunks],
                [chunk.text for chunk in chunks],
                [json.dumps(chunk.locator.to_json()) for chunk in chunks],
                vectors,
            )

    async def _read(self, source: Source, live: ObjectMetadata) -> list[Chunk]:
        chunker = Chunker(max_tokens=self.embedder.max_tokens, count_tokens=self.embedder.count_tokens)
        chunks: list[Chunk] = []
        with TemporaryDirectory() as folder:
            path = Path(folder, "object")
            await self.store.download(live.ref, live.generation, path, limit_bytes=self.settings.max_object_bytes)
            media_type = self.extractor.sniff(path, name=source.name)
            async for segment in self.extractor.extract(path, media_type=media_type):
                chunks += chunker.feed(segment)
        return chunks + chunker.finish()


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[Script]:
    """Start the servers and open what the script uses, all of it warm."""
    async with LocalStack(data_dir, durable=True) as servers:
        settings = load(ProcessSettings, servers.environment())
        async with (
            _embedder(settings) as embedder,
            ChildExtractor() as extractor,
            CloudStorage(
                project_id=settings.google_cloud_project_id, emulator_host=settings.storage_emulator_host
            ) as store,
        ):
            url = settings.database_url.get_secret_value()
            connection = await asyncpg.connect(url)
            await connection.execute(TABLES.format(dimensions=embedder.space.dimensions))
            await connection.close()
            async with asyncpg.create_pool(url, min_size=1, max_size=AT_ONCE, init=_types) as pool:
                yield Script(settings=settings, store=store, pool=pool, extractor=extractor, embedder=embedder)


async def index(data_dir: Path, copies: int) -> Result:
    """Do it, and count."""
    files = sources(copies)
    async with opened(data_dir) as script:
        dsn = script.settings.database_url.get_secret_value()
        clock, before, spent = SystemClock(), await transactions(dsn), cpu_seconds()
        started = clock.monotonic()
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(_tell(script, len(files)))
            async with asyncio.TaskGroup() as work:
                for source in files:
                    work.create_task(script.take(source))
            seconds = clock.monotonic() - started
            telling.cancel()
        used = cpu_since(spent)
        found = await script.pool.fetchrow("select count(*) as chunks, count(distinct name) as files from passages")
        assert found is not None
        return Result(
            files=found["files"],
            chunks=found["chunks"],
            texts=script.texts,
            tokens=script.tokens,
            calls=script.calls,
            seconds=seconds,
            cpu_seconds=used,
            transactions=await transactions(dsn) - before,
        )


def _embedder(settings: ProcessSettings) -> LocalEmbedder | GeminiEmbedder:
    if settings.embedder == "local":
        return LocalEmbedder()
    assert settings.gemini_api_key is not None
    return GeminiEmbedder(
        api_key=settings.gemini_api_key.get_secret_value(),
        model=settings.gemini_embedding_model,
        dimensions=settings.gemini_embedding_dimensions,
        base_url=settings.gemini_base_url,
    )


async def _tell(script: Script, total: int) -> None:
    while True:
        say(done=script.files, total=total)
        await asyncio.sleep(1)


async def _types(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await register_vector(connection)


if __name__ == "__main__":
    main(index)
