"""Work in slices: a delivery that has an end checkpoints and hands on, and nothing is done or charged twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.process.document import SECONDS_PER_BATCH
from services.process.handler import HANDED_ON, AnswerBell
from services.process.slices import GRACE_SECONDS, Slice, SliceOver, watched
from services.process.spaces import SpaceWork
from shared.clock import Clock, SystemClock
from shared.model.document import Segment
from shared.model.job import Job, JobType, Lane
from shared.model.outcome import BUSY
from shared.ports.models import Embeddings, Extractor, Purpose
from shared.ports.stores import Failure
from shared.worker.gate import Gate
from shared.worker.retry import RetryPolicy
from tests.fakes import HashEmbedder, LineExtractor
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road

LINES = 70
"""More than one batch of chunks (64)."""

HARD_SECONDS = 15.0
"""When a delivery is stopped; less than a heartbeat."""

STATE = "select status, attempts, error_code from document_processing_jobs"


@pytest.fixture
async def too_long(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give what moves the loop's clock behind the end of every delivery that has begun."""
    loop = asyncio.get_running_loop()
    really, passed = loop.time, 0.0

    def move() -> None:
        nonlocal passed
        passed += HARD_SECONDS

    monkeypatch.setattr(loop, "time", lambda: really() + passed)
    return move


class UnevenEmbedder(HashEmbedder):
    """One request of each delivery goes through, of two texts; the next takes longer than the delivery may."""

    def __init__(self, too_long: Callable[[], None], batch_size: int) -> None:
        super().__init__(batch_size=batch_size)
        self._too_long, self.through = too_long, 0

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        if self.through:
            self.through = 0
            self._too_long()
            await asyncio.Event().wait()
        self.through += 1
        return await super().embed(texts, purpose=purpose)

    def requests(self, texts: Sequence[str]) -> list[int]:
        return [len(texts[start : start + 2]) for start in range(0, len(texts), 2)]


class StuckEmbedder(HashEmbedder):
    """All goes through but one text, which takes longer than any delivery may."""

    def __init__(self, too_long: Callable[[], None], text: str) -> None:
        super().__init__()
        self._too_long, self._text = too_long, text

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        if self._text in texts:
            self._too_long()
            await asyncio.Event().wait()
        return await super().embed(texts, purpose=purpose)


class SlowExtractor(LineExtractor):
    """Each line takes `seconds`, and the third of a reading longer than the delivery may."""

    def __init__(self, too_long: Callable[[], None], clock: ManualClock, seconds: float) -> None:
        self._too_long, self._clock, self._seconds = too_long, clock, seconds
        self.starts: list[int] = []

    async def extract(self, path: Path, *, media_type: str, start: int = 0) -> AsyncIterator[Segment]:
        self.starts.append(start)
        async for segment in super().extract(path, media_type=media_type, start=start):
            if segment.index == start + 2:
                self._too_long()
                await asyncio.Event().wait()
            self._clock.advance(self._seconds)
            yield segment


def sliced(
    road: Road,
    *,
    seconds: float,
    hard_seconds: float = 60.0,
    work: Any = None,
    extractor: Extractor | None = None,
    clock: Clock | None = None,
) -> AnswerBell:
    """Return a worker whose deliveries have an end."""
    index = SpaceWork(
        queue=road.queue,
        storage=road.bucket,
        extractor=extractor or LineExtractor(),
        embedder=road.embedder,
        tracing=road.tracing,
        metrics=road.metrics,
        clock=clock or SystemClock(),
        max_object_bytes=1 << 20,
        slice_seconds=seconds,
    )
    return AnswerBell(
        worker="worker",
        handlers={JobType.DOCUMENT_PROCESSING: work or index},
        queue=road.queue,
        dead_letters=road.dead_letters,
        synchroniser=road.synchroniser,
        relay=road.relay,
        retries=RetryPolicy(),
        tracing=road.tracing,
        metrics=road.metrics,
        clock=SystemClock(),
        lease_seconds=60,
        heartbeat_seconds=20,
        gate=Gate(road.database.ping, clock=SystemClock()),
        slice_seconds=hard_seconds - GRACE_SECONDS,
    )


async def upload(road: Road, lines: int = LINES) -> None:
    """Put a file of many batches into the bucket, and have it decided."""
    road.bucket.put("long.txt", "\n".join(f"Valve {number} opens." for number in range(lines)).encode())
    await road.notify("long.txt")


async def test_a_document_of_many_batches_is_completed_slice_by_slice(road: Road) -> None:
    """Each of the tiniest slices gets a batch further and rings the next bell; no text and no attempt is paid twice."""
    await upload(road)
    road.process = sliced(road, seconds=0.0)
    rung = len(road.publisher.of("work"))
    outcomes = Counter[str]()
    while (outcome := await road.ring()).name != "done":
        assert outcome == HANDED_ON
        outcomes[outcome.name] += 1
        state = await road.fetch("select status, attempts from document_processing_jobs")
        assert [(row["status"], row["attempts"]) for row in state] == [("pending", 0)]
        assert len(road.publisher.of("work")) == rung + outcomes.total()  # the bell goes out before this one is acked
    assert outcomes.total() > LINES / road.embedder.batch_size
    assert set(Counter(road.embedder.texts).values()) == {1}
    assert len(road.embedder.texts) == LINES
    assert await road.in_step()
    jobs = await road.fetch("select status, attempts, retry_count, rescue_count from document_processing_jobs")
    assert [tuple(job) for job in jobs] == [("completed", 1, 0, 0)]
    seqs = [row["seq"] for row in await road.fetch("select seq from job_events order by seq")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert (await road.ring()).name == "nothing_due"


async def test_with_time_enough_nothing_is_handed_on(road: Road) -> None:
    """A slice that is longer than the work changes nothing."""
    await upload(road)
    road.process = sliced(road, seconds=60.0)
    assert (await road.ring()).name == "done"
    assert await road.in_step()


async def test_a_step_that_takes_longer_than_a_delivery_is_a_failure_that_counts(road: Road) -> None:
    """What cannot be cut is stopped and tried again within its attempts, rather than handed on for ever."""
    await upload(road)

    async def endless(_job: Job) -> None:
        await asyncio.Event().wait()

    road.process = sliced(road, seconds=0.0, hard_seconds=0.05, work=endless)
    assert (await road.ring()).name == "retrying"
    jobs = await road.fetch("select status, attempts, error_code from document_processing_jobs")
    assert [tuple(job) for job in jobs] == [("pending", 1, "SLICE_TOO_SHORT")]


@pytest.mark.parametrize("batch_size", [2, 64])
async def test_a_file_that_gets_on_in_every_delivery_is_completed(
    road: Road, too_long: Callable[[], None], batch_size: int
) -> None:
    """A delivery that is stopped within a step but has stored a vector before is handed on, and costs no attempt."""
    road.embedder = UnevenEmbedder(too_long, batch_size)
    requests = 6  # more than a job has attempts
    await upload(road, 2 * requests)
    road.process = sliced(road, seconds=HARD_SECONDS * 100, hard_seconds=HARD_SECONDS)
    for number in range(1, requests):
        assert await road.ring() == HANDED_ON
        assert [tuple(job) for job in await road.fetch(STATE)] == [("pending", 0, None)]
        assert await road.value("select count(*) from embeddings") == 2 * number
    assert (await road.ring()).name == "done"
    assert [tuple(job) for job in await road.fetch(STATE)] == [("completed", 1, None)]
    assert await road.in_step()


async def test_a_step_that_never_ends_within_a_delivery_uses_up_the_attempts(
    road: Road, too_long: Callable[[], None]
) -> None:
    """What was stored before it excuses the delivery that stored it, and none of the later ones."""
    road.embedder = StuckEmbedder(too_long, "Valve 5 opens.")
    await upload(road, 8)
    road.process = sliced(road, seconds=HARD_SECONDS * 100, hard_seconds=HARD_SECONDS)
    assert await road.ring() == HANDED_ON
    outcomes = []
    for days in range(1, 10):
        outcomes.append((await road.ring()).name)
        if outcomes[-1] != "retrying":
            break
        await road.shift_clock(days * 86_400)
    assert outcomes == ["retrying"] * 3 + ["failure_recorded"]
    assert [tuple(job) for job in await road.fetch(STATE)] == [("failed", 4, "SLICE_TOO_SHORT")]


async def test_slow_reading_is_committed_by_time(road: Road, too_long: Callable[[], None]) -> None:
    """What was read in a minute is kept, however little it is, so each delivery begins where pages were left."""
    clock = ManualClock()
    extractor = SlowExtractor(too_long, clock, SECONDS_PER_BATCH / 2)
    await upload(road, 5)
    road.process = sliced(road, seconds=1e9, hard_seconds=HARD_SECONDS, extractor=extractor, clock=clock)
    assert [(await road.ring()).name for _ in range(3)] == ["handed_on", "handed_on", "done"]
    assert extractor.starts == [0, 2, 4]
    assert [tuple(job) for job in await road.fetch(STATE)] == [("completed", 1, None)]
    assert await road.in_step()


async def test_a_job_that_was_lost_meanwhile_is_not_handed_on(road: Road) -> None:
    """Cancelled while its slice ended: nothing is written any more, and the bell is settled."""
    await upload(road)

    async def cancelled(job: Job) -> None:
        await road.queue.supersede(job.lease, Failure(code="CANCELLED", message="by the test."))
        raise SliceOver

    road.process = sliced(road, seconds=0.0, work=cancelled)
    assert (await road.ring()).name == "lease_lost"
    assert await road.value("select status from document_processing_jobs") == "cancelled"


async def test_who_cannot_enter_in_time_is_told_to_come_again(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a rescued job has to be alone, a push does not wait longer than it may."""
    road.process = sliced(road, seconds=0.0)
    monkeypatch.setattr("services.process.handler.ROOM_SECONDS", 0.05)
    async with road.process._quarantine.alone():
        assert await road.ring(Lane.INTERACTIVE) == BUSY
        assert await road.ring(Lane.INTERACTIVE, quarantined=True) == BUSY
    assert (await road.ring()).name == "nothing_due"


def test_a_slice_is_over_when_its_time_is() -> None:
    """Until then there is nothing to say; without a bound there never is."""
    clock = ManualClock()
    bounded, unbounded = Slice(clock, 10.0), Slice(clock, None)
    bounded.check()
    clock.advance(10.0)
    with pytest.raises(SliceOver):
        bounded.check()
    clock.advance(1e9)
    unbounded.check()


def test_who_watches_hears_of_what_was_committed() -> None:
    """Of a look at the time that follows no commit nothing is said."""
    time = Slice(ManualClock(), None)
    time.check()
    with watched() as progress:
        time.check(committed=False)
        assert not progress.is_made
        time.check()
    assert progress.is_made
