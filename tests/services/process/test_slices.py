"""Work in slices: a delivery that has an end checkpoints and hands on, and nothing is done or charged twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from services.process.document import IndexDocument
from services.process.handler import HANDED_ON, AnswerBell
from services.process.slices import GRACE_SECONDS, Slice, SliceOver
from shared.clock import SystemClock
from shared.model.job import Job, JobType, Lane
from shared.model.outcome import BUSY
from shared.ports.stores import Failure
from shared.worker.gate import Gate
from shared.worker.retry import RetryPolicy
from tests.fakes import LineExtractor
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road

LINES = 70
"""More than one batch of chunks (64)."""


def sliced(road: Road, *, seconds: float, hard_seconds: float = 60.0, work: Any = None) -> AnswerBell:
    """Return a worker whose deliveries have an end."""
    index = IndexDocument(
        queue=road.queue,
        storage=road.bucket,
        extractor=LineExtractor(),
        embedder=road.embedder,
        tracing=road.tracing,
        metrics=road.metrics,
        clock=SystemClock(),
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


async def upload(road: Road) -> None:
    """Put a file of many batches into the bucket, and have it decided."""
    road.bucket.put("long.txt", "\n".join(f"Valve {number} opens." for number in range(LINES)).encode())
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
