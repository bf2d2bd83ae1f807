"""Filling a space from stored text: each text once, and no longer alone in its worker than it has to be."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.process.spaces import FillSpace, SpaceWork
from shared.clock import SystemClock
from shared.events.catalogue import WorkBell
from shared.events.envelope import read
from shared.ids import text_hash
from shared.model.job import Job, JobType, Lane, Status
from shared.model.space import EmbeddingSpace
from shared.ports.models import Embedder
from shared.ports.stores import Scope
from shared.ports.tasks import NewTask
from shared.postgres import spaces
from shared.postgres.spaces import PostgresSpaceStore
from shared.postgres.tasks import PostgresTaskStore
from tests.fakes import HashEmbedder, LineExtractor
from tests.plugins.road import Road

OTHER = EmbeddingSpace(model="other", dimensions=8)
LINES = [f"line {number}" for number in range(10)]


class OtherEmbedder(HashEmbedder):
    """A model with a space of its own."""

    @property
    def space(self) -> EmbeddingSpace:
        return OTHER


class TwoModels:
    """`Embedders` of both."""

    def __init__(self, road: Road) -> None:
        self.first, self.other = road.embedder, OtherEmbedder()

    @property
    def default(self) -> EmbeddingSpace:
        return self.first.space

    def refusal(self, space: EmbeddingSpace) -> str | None:
        return None

    async def of(self, space: EmbeddingSpace) -> Embedder:
        return self.other if space == OTHER else self.first


@pytest.fixture
def models(road: Road) -> TwoModels:
    """Give both models, and let the road's worker fill spaces."""
    models = TwoModels(road)

    def make(embedder: Embedder) -> SpaceWork:
        return SpaceWork(
            queue=road.queue,
            storage=road.bucket,
            extractor=LineExtractor(),
            embedder=embedder,
            tracing=road.tracing,
            metrics=road.metrics,
            clock=SystemClock(),
            max_object_bytes=1 << 20,
        )

    fill = FillSpace(
        make,
        PostgresSpaceStore(road.database),
        models,
        queue=road.queue,
        tasks=PostgresTaskStore(road.database),
        clock=SystemClock(),
    )
    road.process = road.worker("w", others={JobType.EMBEDDING_GENERATION: fill})
    return models


async def asked(road: Road) -> UUID:
    """Index a file, make the other space and ask for a task that fills it."""
    road.bucket.put("a.txt", "\n".join(LINES).encode())
    await road.notify("a.txt")
    await road.work_off()
    await PostgresSpaceStore(road.database).fill(OTHER)
    task = NewTask(
        job_type=JobType.EMBEDDING_GENERATION, organization_id="acme", entity_type="space", entity_id=OTHER.key
    )
    job_id, _ = await PostgresTaskStore(road.database).add(task)
    return job_id


async def seen(road: Road, job_id: UUID) -> Job:
    """Return the task as it is now."""
    job = await road.directory.get(job_id, Scope())
    assert job is not None
    return job


async def test_every_text_is_sent_once(road: Road, models: TwoModels) -> None:
    """The result says how many there were; the first space's model is not asked again."""
    job_id = await asked(road)
    await road.work_off()
    job = await seen(road, job_id)
    assert (job.status, job.progress_done, job.progress_total) == (Status.COMPLETED, 10, 10)
    assert job.result == {
        "space": OTHER.key, "texts": 10, "sent": 10, "reused": 0, "longer_than_the_model_reads": 0,
    }  # fmt: skip
    assert sorted(models.other.texts) == sorted(models.first.texts) == LINES


async def test_what_is_missing_is_counted_and_found_in_stretches(
    road: Road, models: TwoModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many texts there are in a row that need nothing: those of old versions, in many files, with vectors."""
    monkeypatch.setattr(spaces, "TEXTS_PER_PAGE", 3)
    await asked(road)
    await road.work_off()
    road.bucket.put("b.txt", "\n".join([*LINES[:5], "new", "newer"]).encode())
    road.bucket.put("c.txt", b"of another organization", organization_id="other")
    for name in ("b.txt", "c.txt"):
        await road.notify(name)
    await road.work_off()
    await road.fetch("delete from embeddings where text_hash = $1", text_hash("line 3"))
    store = PostgresSpaceStore(road.database)
    assert await store.count("acme", OTHER) == (12, 3)
    assert await store.count("nobody", OTHER) == (0, 0)
    for limit in (1, 2, 3, 100):
        after, found = b"", []
        while missing := await store.missing("acme", OTHER, after=after, limit=limit):
            assert len(missing) <= limit
            found += missing
            after = missing[-1][0]
        assert sorted(found) == found
        assert {text for _, text in found} == {"line 3", "new", "newer"}
    road.bucket.remove("b.txt")
    await road.notify("b.txt", "OBJECT_DELETE")
    assert await store.count("acme", OTHER) == (10, 1)


async def test_a_rescued_fill_is_alone_for_one_batch_only(road: Road, models: TwoModels) -> None:
    """Its first batch proves that it kills no worker: the rest is done beside other jobs, and nothing is sent twice."""
    job_id = await asked(road)
    assert await road.queue.claim(Lane.BULK, worker="dead") is not None
    await road.shift_clock(120)
    await road.recover()
    assert (await seen(road, job_id)).quarantined
    await road.ring(Lane.BULK, quarantined=True)
    job = await seen(road, job_id)
    assert (job.status, job.quarantined, job.progress_done) == (Status.PENDING, False, models.other.batch_size)
    assert len(models.other.calls) == 1
    bell = road.publisher.of("work")[-1]
    assert not read(WorkBell, bell.data, bell.attributes).quarantined
    await road.ring(Lane.BULK)
    assert (await seen(road, job_id)).status is Status.COMPLETED
    assert sorted(models.other.texts) == LINES
