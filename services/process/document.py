"""The work on one document: download, extract, chunk, embed, swap. Each batch is committed under the lease.

What a killed worker had committed stays: its successor goes on after the last stored segment, and text that has a
vector in the space, or is being sent by another job, is not sent to the model again. At most the batch in hand is
repeated: of pages that a model reads, that is one.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from services.process.chunking import Chunker
from services.process.pictures import REFUSED, PageReading, refusals
from services.process.purse import Purse
from services.process.slices import Slice, got_on
from shared.clock import Clock
from shared.errors import HeadraceError, RetryableError, Superseded, UnprocessableContent
from shared.model import media
from shared.model.document import Chunk, ObjectRef
from shared.model.job import Job, Stage
from shared.model.price import FREE, Prices
from shared.ports.budgets import Spending
from shared.ports.files_read import FilesRead
from shared.ports.models import Embedder, Embeddings, Extractor, PagesRead
from shared.ports.storage import ObjectStore
from shared.ports.stores import Saved, WorkQueue
from shared.telemetry.instruments import MODEL_COST, MODEL_TOKENS, STAGE_SECONDS
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from shared.worker.gate import may_pass

_log = structlog.get_logger(__name__)

CHUNKS_PER_BATCH = 64

SECONDS_PER_BATCH = 60.0
"""After so long what was read is committed, however little it is: pages may take long, and a delivery ends."""

_WITH_PAGES = media.IMAGES | {media.PDF, media.EML, media.MSG}
_SPANS = {
    Stage.DOWNLOADING: "download",
    Stage.PROCESSING: "extract",
    Stage.EMBEDDING: "embed",
    Stage.STORING: "store",
}

TEXTS_PER_LOOK = 1024
"""How many texts without a vector are fetched at once; they are embedded and committed in the model's batches."""

LOOK_SECONDS = 0.2
"""How often is looked whether another job has the vector by now that this one waits for."""

PATIENCE_SECONDS = 60.0
"""How long nothing may come of waiting for others; then their texts are sent too, since paying twice is better than
standing still."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """What was sent to the model: as we count its tokens, and as the model does."""

    texts: int = 0
    counted_tokens: int = 0
    tokens: int = 0

    def __add__(self, other: Bill) -> Bill:
        """Return both together."""
        return Bill(
            texts=self.texts + other.texts,
            counted_tokens=self.counted_tokens + other.counted_tokens,
            tokens=self.tokens + other.tokens,
        )


class IndexDocument:
    """Turn one generation of an object into visible chunks."""

    def __init__(
        self,
        *,
        queue: WorkQueue,
        storage: ObjectStore,
        extractor: Extractor,
        embedder: Embedder,
        tracing: Tracing,
        metrics: Metrics,
        clock: Clock,
        max_object_bytes: int,
        temp_dir: str | None = None,
        slice_seconds: float | None = None,
        prices: Prices = FREE,
        spending: Spending | None = None,
        pages: PageReading | None = None,
        files_read: FilesRead | None = None,
    ) -> None:
        """Take the ports, the bound on a file's size, and how long one call may go on where calls are bounded.

        With `spending`, what costs something is reserved before it is asked for. `pages` reads the pictures that the
        extractor hands out, if it hands out any; with `files_read`, those of the same file are read once.
        """
        self._prices, self._purse, self._pages = prices, Purse(spending, metrics), pages
        self._files_read = files_read
        self._queue, self._storage, self._extractor, self._embedder = queue, storage, extractor, embedder
        self._tracing, self._metrics, self._clock = tracing, metrics, clock
        self._max_object_bytes, self._temp_dir = max_object_bytes, temp_dir
        self._slice_seconds = slice_seconds

    async def __call__(self, job: Job) -> None:
        """Return when the job is completed; raises what ended the attempt otherwise. Leaves no file behind.

        Raises:
            SliceOver: the time of this call is over; what is done is committed, and at least one batch of it is new.
        """
        time = Slice(self._clock, self._slice_seconds)
        checkpoint = job.checkpoint or {}
        if checkpoint.get("extracted"):
            await self._enter(job, Stage.EMBEDDING)
        else:
            # The folder goes when the attempt ends, however it ends.
            with tempfile.TemporaryDirectory(prefix="headrace-", dir=self._temp_dir) as folder:
                checkpoint = await self._read(job, Path(folder) / "object", checkpoint, time)
        bill = await self._embed(job, time)
        saved = self._saved(job, bill, int(checkpoint.get("tokens", 0)))
        # Less what it had paid for pages itself before it took those of another job over.
        pages_micros = max(0, int(checkpoint.get("page_micros_saved", 0)) - job.page_cost_micros)
        saved = replace(saved, micros=saved.micros + pages_micros)
        result = {"embedded_texts": bill.texts} | {key: checkpoint[key] for key in (REFUSED,) if key in checkpoint}
        await self._enter(job, Stage.STORING)
        with self._timed(Stage.STORING):
            await self._queue.complete(job.lease, self._embedder.space, result=result, saved=saved)
        self._metrics.add(MODEL_TOKENS, saved.tokens, model=self._embedder.space.model, kind="saved")
        self._metrics.add(MODEL_COST, saved.micros, model=self._embedder.space.model, kind="saved")

    async def _read(self, job: Job, path: Path, checkpoint: dict[str, Any], time: Slice) -> dict[str, Any]:
        """Download and extract; every chunk is stored when this returns the last checkpoint."""
        assert job.bucket is not None
        assert job.name is not None
        assert job.generation is not None
        ref = ObjectRef(job.bucket, job.name)
        with self._timed(Stage.DOWNLOADING):
            try:
                downloaded = await self._storage.download(ref, job.generation, path, limit_bytes=self._max_object_bytes)
            except Superseded:
                await self._check_that_it_is_gone(ref, job.generation)
                raise
            media_type = self._extractor.sniff(path, name=job.name)
            await self._queue.describe(job.lease, media_type=media_type, content_sha256=downloaded.sha256)
        if self._pages is not None and self._files_read is not None and media_type in _WITH_PAGES:
            # Passages are cut for one model's limit.
            reader = f"{self._pages.reader}/{self._embedder.max_tokens}"
            before = await self._files_read.claim_file(job.lease, content_sha256=downloaded.sha256, reader=reader)
            if before is not None:
                time.check()
                return before.to_checkpoint()
        with self._timed(Stage.PROCESSING, {"headrace.media_type": media_type}):
            return await self._extract(job, path, media_type, checkpoint, time)

    async def _check_that_it_is_gone(self, ref: ObjectRef, generation: int) -> None:
        live = await self._storage.stat(ref)
        if live is not None and live.generation == generation:
            raise RetryableError("Storage lost sight of the file for a moment.", code="STORAGE_INCONSISTENT")

    async def _extract(
        self, job: Job, path: Path, media_type: str, checkpoint: dict[str, Any], time: Slice
    ) -> dict[str, Any]:
        done = {"segments": 0, "chunks": 0, "tokens": 0} | checkpoint
        refused: dict[str, list[int]] = done.get(REFUSED, {})
        none_read = None if self._pages is None else PagesRead()
        chunker = Chunker(
            max_tokens=self._embedder.max_tokens,
            count_tokens=self._embedder.count_tokens,
            first_ordinal=done["chunks"],
        )
        batch: list[Chunk] = []
        stored_at = self._clock.monotonic()

        async def store(read: PagesRead | None, **ends: bool) -> None:
            nonlocal batch, stored_at
            done["chunks"] += len(batch)
            done["tokens"] += await self._count(batch)
            await self._queue.add_chunks(job.lease, batch, checkpoint=done | ends, read=read)
            batch, stored_at = [], self._clock.monotonic()
            time.check()

        # Closed at once when the loop is left early: an abandoned generator would keep its child process.
        async with aclosing(self._extractor.extract(path, media_type=media_type, start=done["segments"])) as found:
            async for segment in found:
                page = None
                if self._pages is not None and segment.picture is not None:
                    page = await self._pages.read(job, segment, segment.picture)
                    if page.refusal is not None:
                        refused.setdefault(page.refusal, []).append(segment.locator.page or segment.index + 1)
                        done[REFUSED] = refused
                # In a thread: tokenizing a long segment would hold the loop, and with it the heartbeats.
                batch += await asyncio.to_thread(chunker.feed, segment if page is None else page.segment)
                done["segments"] = segment.index + 1
                is_due = self._clock.monotonic() - stored_at >= SECONDS_PER_BATCH or time.is_over
                if page is not None or len(batch) >= CHUNKS_PER_BATCH or is_due:
                    await store(none_read if page is None else page.read)  # what was paid for is kept at once
        batch += chunker.finish()
        if not done["chunks"] + len(batch):
            if refused:
                raise refusals(refused)
            raise UnprocessableContent("No text was found in the file.", code="NO_TEXT")
        await store(none_read, extracted=True)
        return done

    async def _count(self, chunks: Sequence[Chunk]) -> int:
        return await asyncio.to_thread(lambda: sum(self._embedder.count_tokens(chunk.text) for chunk in chunks))

    async def _embed(self, job: Job, time: Slice) -> Bill:
        """Give every text of this job a vector; return what was sent to the model for it."""
        space, size = self._embedder.space, self._embedder.batch_size
        sent = Bill()
        with self._timed(Stage.EMBEDDING, {"headrace.space": space.key}):
            looked_at = self._clock.monotonic()
            while True:
                missing = await self._queue.unembedded(job.lease, space, limit=TEXTS_PER_LOOK)
                patient = self._clock.monotonic() - looked_at < PATIENCE_SECONDS
                elsewhere = 0
                for start in range(0, len(missing), size):
                    batch = missing[start : start + size]
                    ours = await self._claimed(job, batch) if patient else batch
                    elsewhere += len(batch) - len(ours)
                    if ours:
                        sent += await self._embed_batch(job, ours)
                        looked_at = self._clock.monotonic()
                    time.check(committed=False)  # `_store` has told, unless all was left to others
                if elsewhere:
                    await self._clock.sleep(LOOK_SECONDS)
                elif len(missing) < TEXTS_PER_LOOK:
                    return sent

    async def _claimed(self, job: Job, batch: Sequence[tuple[bytes, str]]) -> list[tuple[bytes, str]]:
        """Return the texts of a batch that no other job is sending at this moment."""
        claimed = await self._queue.claim_texts(job.lease, self._embedder.space, [text_hash for text_hash, _ in batch])
        return [(text_hash, text) for text_hash, text in batch if text_hash in claimed]

    async def _embed_batch(self, job: Job, batch: Sequence[tuple[bytes, str]]) -> Bill:
        texts = [text for _, text in batch]
        counted = await asyncio.to_thread(lambda: sum(map(self._embedder.count_tokens, texts)))
        try:
            made = await self._paid(job, texts, counted)
        except HeadraceError as error:
            if error.calls:
                await self._store(job, [], tokens=error.input_tokens, calls=error.calls)
            raise
        vectors = [(text_hash, vector) for (text_hash, _), vector in zip(batch, made.vectors, strict=True)]
        await self._store(job, vectors, tokens=made.paid_tokens, calls=made.calls)
        return Bill(texts=len(batch), counted_tokens=counted, tokens=made.tokens)

    async def _store(
        self, job: Job, vectors: Sequence[tuple[bytes, Sequence[float]]], *, tokens: int, calls: int
    ) -> None:
        """Store vectors (none, where calls failed) and what they took, together."""
        space = self._embedder.space
        await self._queue.add_embeddings(
            job.lease,
            space,
            vectors,
            tokens=tokens,
            calls=calls,
            cost_micros=self._prices.micros(space.model, tokens),
        )
        if vectors:
            got_on()

    async def _paid(self, job: Job, texts: Sequence[str], counted_tokens: int) -> Embeddings:
        """Embed within the organization's budget, if that costs anything.

        Raises:
            BudgetExhausted: nothing was asked for.
        """
        model = self._embedder.space.model
        return await self._purse.pay(
            job.organization_id,
            self._prices.micros(model, counted_tokens),
            lambda: self._embedder.embed(texts, purpose="document"),
            cost=lambda made: self._prices.micros(model, made.paid_tokens),
            lost=lambda error: self._prices.micros(model, error.input_tokens),
        )

    def _saved(self, job: Job, bill: Bill, tokens_found: int) -> Saved:
        """Return what all texts of the job would have cost more, had none had a vector.

        Some models bill other numbers than are counted here; then what they billed for the others is the measure.
        """
        found = tokens_found * bill.tokens / bill.counted_tokens if bill.counted_tokens else tokens_found
        tokens = max(0, round(found) - (job.tokens_used - job.page_tokens) - bill.tokens)
        return Saved(tokens=tokens, micros=self._prices.micros(self._embedder.space.model, tokens))

    @contextmanager
    def _timed(self, stage: Stage, attributes: Mapping[str, str] | None = None) -> Iterator[None]:
        """Show the work of a stage as a span, and how long it took as a metric."""
        started = self._clock.monotonic()
        with (
            structlog.contextvars.bound_contextvars(stage=stage.value),
            self._tracing.span(_SPANS[stage], attributes=attributes),
        ):
            yield
        self._metrics.record(STAGE_SECONDS, self._clock.monotonic() - started, stage=stage.value)

    async def _enter(self, job: Job, stage: Stage) -> None:
        """Report a stage; best effort, since the next commit moves it too. A report that fails is said, not raised."""
        try:
            await self._queue.enter(job.lease, stage)
        except HeadraceError as error:
            if not may_pass(error):
                raise
            _log.warning("job.stage_not_reported", stage=stage.value, error_code=error.code)
