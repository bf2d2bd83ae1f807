"""What a model answers while it fills a space stays, whatever it says of other texts."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest

from services.process.spaces import FillSpace, SpaceWork
from shared.clock import SystemClock
from shared.errors import InvalidRequest, RateLimitError
from shared.model.job import Job, JobType, Status
from shared.model.space import EmbeddingSpace
from shared.ports.models import Embedder, Embeddings, Purpose
from shared.ports.stores import Scope
from shared.ports.tasks import NewTask
from shared.postgres.spaces import PostgresSpaceStore
from shared.postgres.tasks import PostgresTaskStore
from tests.fakes import HashEmbedder, LineExtractor
from tests.plugins.road import Road

OTHER = EmbeddingSpace(model="other", dimensions=8)
LINES = [f"line {number}" for number in range(10)]


class Narrow(HashEmbedder):
    """A model with a space of its own, of which a request takes no more than two texts."""

    @property
    def space(self) -> EmbeddingSpace:
        return OTHER

    def requests(self, texts: Sequence[str]) -> list[int]:
        return [len(texts[start : start + 2]) for start in range(0, len(texts), 2)]

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        assert len(texts) <= 2
        return await super().embed(texts, purpose=purpose)


class Models:
    """`Embedders` of the road's model and of another."""

    def __init__(self, road: Road, other: HashEmbedder) -> None:
        self.first, self.other = road.embedder, other

    @property
    def default(self) -> EmbeddingSpace:
        return self.first.space

    def refusal(self, space: EmbeddingSpace) -> str | None:
        return None

    async def of(self, space: EmbeddingSpace) -> Embedder:
        return self.other if space == OTHER else self.first


async def asked(road: Road, other: HashEmbedder, lines: Sequence[str] = LINES) -> UUID:
    """Index a file, make the other model's space, and ask for a task that fills it."""

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

    store, tasks = PostgresSpaceStore(road.database), PostgresTaskStore(road.database)
    fill = FillSpace(make, store, Models(road, other), queue=road.queue, tasks=tasks, clock=SystemClock())
    road.process = road.worker("w", others={JobType.EMBEDDING_GENERATION: fill})
    road.bucket.put("a.txt", "\n".join(lines).encode())
    await road.notify("a.txt")
    await road.work_off()
    await store.fill(OTHER)
    order = NewTask(
        job_type=JobType.EMBEDDING_GENERATION, organization_id="acme", entity_type="space", entity_id=OTHER.key
    )
    return (await tasks.add(order))[0]


async def seen(road: Road, job_id: UUID) -> Job:
    """Return the task as it is now."""
    job = await road.directory.get(job_id, Scope())
    assert job is not None
    return job


async def test_what_a_request_brought_stays_when_the_next_one_of_its_batch_fails(road: Road) -> None:
    """A batch of four is two requests: after a refusal of the second, the texts of the first are not sent again."""
    other = Narrow()
    job_id = await asked(road, other)
    embed = other.embed

    async def refuse_the_second(texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        if len(other.calls) == 1:
            other.embed = embed
            raise RateLimitError(retry_after_seconds=30)
        return await embed(texts, purpose=purpose)

    other.embed = refuse_the_second
    await road.work_off()
    assert (await seen(road, job_id)).deferred_reason == "RATE_LIMITED"
    assert await road.value("select count(*) from embeddings") == len(LINES) + 2
    await road.shift_clock(60)
    await road.work_off()
    assert (await seen(road, job_id)).status is Status.COMPLETED
    assert sorted(other.texts) == LINES


class Choosy(HashEmbedder):
    """A model with a space of its own, which refuses every request with one of these texts in it."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self.refused, self.asked = set(refused), 0

    @property
    def space(self) -> EmbeddingSpace:
        return OTHER

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        self.asked += 1
        if self.refused & set(texts):
            raise InvalidRequest("The model refused the request as wrong.")
        return await super().embed(texts, purpose=purpose)


async def test_one_refused_text_does_not_keep_an_organization_from_another_space(road: Road) -> None:
    """It is found by its beginning, and counted as one that is not read whole; no other text is sent twice."""
    other = Choosy("line 3")
    job_id = await asked(road, other)
    await road.work_off()
    job = await seen(road, job_id)
    assert (job.status, job.progress_done, job.progress_total) == (Status.COMPLETED, 10, 10)
    assert job.result == {
        "space": OTHER.key, "texts": 10, "sent": 10, "reused": 0, "longer_than_the_model_reads": 1,
    }  # fmt: skip
    assert sorted(other.texts) == sorted({*LINES, "lin"} - {"line 3"})
    await PostgresSpaceStore(road.database).switch(OTHER)


async def test_a_text_of_which_nothing_is_read_is_counted_and_named_by_the_switch(road: Road) -> None:
    """The fill goes on past it and ends; what is missing is said where it matters, and nothing is asked for ever."""
    other = Choosy("line 3", "lin", "l")
    job_id = await asked(road, other)
    await road.work_off()
    job = await seen(road, job_id)
    assert (job.status, job.progress_done, job.result["refused"]) == (Status.COMPLETED, 9, 1)
    assert sorted(other.texts) == [line for line in LINES if line != "line 3"]
    with pytest.raises(InvalidRequest, match="1 passages"):
        await PostgresSpaceStore(road.database).switch(OTHER)


@pytest.mark.parametrize("lines", [LINES, LINES[:2]], ids=["many", "few"])
async def test_a_model_that_refuses_all_fails_the_fill_soon(road: Road, lines: list[str]) -> None:
    """It is not the texts then: the job says so with the model's code, after a few of them."""
    other = Choosy(*lines, *(line[:end] for line in lines for end in range(1, 6)))
    job_id = await asked(road, other, lines)
    await road.work_off()
    job = await seen(road, job_id)
    assert (job.status, job.error_code, other.texts) == (Status.FAILED, "INVALID_REQUEST", [])
    assert other.asked < 20
