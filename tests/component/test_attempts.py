"""How an attempt ends: what is recorded, what is charged, and that nothing goes on when it is over."""

import asyncio

import pytest

from shared.errors import AuthenticationError, DependencyUnavailable, RateLimitError, UnprocessableContent
from shared.model.job import Lane
from shared.ports.stores import Scope
from tests.fakes import LineExtractor
from tests.plugins.road import Road


async def one_job(road: Road, content: bytes = b"one\ntwo\nthree\nfour\nfive\nsix") -> None:
    """Put one file on the road."""
    road.bucket.put("a.txt", content)
    await road.notify("a.txt")


async def test_context_generation_failed_does_not_go_on_after_the_job_has_ended(road: Road) -> None:
    """Old fault: background work ("Context generation failed") went on after its job had ended. Nothing is left."""
    await one_job(road)
    road.embedder.errors = [AuthenticationError("the key was refused.")]
    before = asyncio.all_tasks()
    assert (await road.ring()).name == "failure_recorded"
    assert asyncio.all_tasks() == before
    assert road.embedder.calls == []
    job = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (job["status"], job["processing_stage"], job["error_code"]) == ("failed", "failed", "AUTHENTICATION_FAILED")
    events = await road.value("select count(*) from job_events")
    assert (await road.ring()).name == "nothing_due"
    assert await road.value("select count(*) from job_events") == events


async def test_an_invalid_key_fails_the_job_after_one_call(road: Road) -> None:
    """Old fault: an invalid key was retried like a time-out. Here the first refusal ends the job, uncharged further."""
    await one_job(road)
    road.embedder.errors = [AuthenticationError("the key was refused."), RuntimeError("a second call was made")]
    await road.ring()
    await road.shift_clock(24 * 3600)
    assert await road.work_off() == 0
    assert len(road.embedder.errors) == 1
    job = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (job["status"], job["attempts"], job["error_message"]) == ("failed", 1, "the key was refused.")


async def test_a_rate_limit_waits_as_long_as_it_is_told_and_costs_nothing(road: Road) -> None:
    """429 is a deferral: pending with a reason and a time; the attempt is given back."""
    await one_job(road)
    road.embedder.errors = [RateLimitError(retry_after_seconds=42)]
    assert (await road.ring()).name == "deferred"
    row = (await road.fetch("select *, next_attempt_at - updated_at as delay from document_processing_jobs"))[0]
    assert (row["status"], row["attempts"], row["deferred_reason"]) == ("pending", 0, "RATE_LIMITED")
    assert row["delay"].total_seconds() == 42
    await road.shift_clock(43)
    await road.work_off()
    assert await road.in_step()


async def test_a_temporary_failure_is_tried_again_and_repeats_no_paid_batch(road: Road) -> None:
    """The second attempt goes on after the committed batches: every text is paid for once."""
    await one_job(road)
    embed = road.embedder.embed

    async def fail_second(*arguments: object, **named: object) -> object:
        if len(road.embedder.calls) == 1 and not road.embedder.errors:
            road.embedder.embed = embed
            raise DependencyUnavailable
        return await embed(*arguments, **named)

    road.embedder.embed = fail_second
    assert (await road.ring()).name == "retrying"
    await road.shift_clock(61)
    await road.work_off()
    assert sorted(road.embedder.texts) == ["five", "four", "one", "six", "three", "two"]
    assert len(road.bucket.downloads) == 1  # what was extracted is not extracted again
    assert await road.in_step()
    job = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (job["status"], job["attempts"], job["retry_count"], job["error_code"]) == ("completed", 2, 1, None)


async def test_a_cancelled_job_stops_at_the_next_batch(road: Road) -> None:
    """A person cancels while it runs: no further batch is sent, nothing becomes visible, and it stays cancelled."""
    await one_job(road)
    embed = road.embedder.embed

    async def cancel_then_embed(*arguments: object, **named: object) -> object:
        job_id = await road.value("select id from document_processing_jobs")
        await road.directory.cancel(job_id, Scope())
        await road.directory.cancel(job_id, Scope())
        return await embed(*arguments, **named)

    road.embedder.embed = cancel_then_embed
    assert (await road.ring()).name == "lease_lost"
    assert len(road.embedder.calls) == 1
    assert await road.visible("a.txt") == []
    job = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (job["status"], job["processing_stage"], job["error_code"]) == ("cancelled", "embedding", "CANCELLED")


async def test_a_cancelled_job_that_is_retried_starts_from_the_beginning(road: Road) -> None:
    """Cancelling drops the partial chunks, so the checkpoint goes too: the retried job ends with all of its text."""
    await one_job(road)
    road.embedder.errors = [DependencyUnavailable()]
    await road.ring()
    job_id = await road.value("select id from document_processing_jobs where checkpoint is not null")
    await road.directory.cancel(job_id, Scope())
    await road.directory.retry(job_id, Scope())
    await road.work_off()
    assert await road.in_step()


async def test_an_unknown_error_is_retried_and_tells_people_nothing_it_should_not(road: Road) -> None:
    """A bug's own text stays in the log; people get a code and a sentence."""
    await one_job(road)
    road.embedder.errors = [RuntimeError("secret-token-123")]
    assert (await road.ring()).name == "retrying"
    job = (await road.fetch("select * from document_processing_jobs"))[0]
    assert job["error_code"] == "INTERNAL"
    assert "secret" not in job["error_message"]


async def test_a_shutdown_in_the_middle_hands_the_job_back(road: Road) -> None:
    """A cancelled handler releases its job uncharged and re-rung; another worker goes on where it stopped."""
    await one_job(road)
    reached = asyncio.Event()
    embed = road.embedder.embed

    async def hang(*arguments: object, **named: object) -> object:
        if len(road.embedder.calls) == 1:
            reached.set()
            await asyncio.Event().wait()
        return await embed(*arguments, **named)

    road.embedder.embed = hang
    running = asyncio.ensure_future(road.ring())
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    row = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (row["status"], row["attempts"], row["lease_owner"]) == ("pending", 0, None)
    assert len(road.publisher.of("work")) == 2
    road.embedder.embed = embed
    await road.work_off()
    assert sorted(road.embedder.texts) == ["five", "four", "one", "six", "three", "two"]
    assert await road.in_step()


async def test_a_job_that_was_rescued_runs_alone(road: Road) -> None:
    """A quarantined job waits until its worker is empty, and nothing starts beside it."""
    road.bucket.put("suspect.txt", b"suspect")
    await road.notify("suspect.txt")
    assert await road.queue.claim(Lane.INTERACTIVE, worker="dead") is not None
    await road.shift_clock(120)
    await road.recover()
    road.bucket.put("healthy.txt", b"healthy")
    road.bucket.put("late.txt", b"late")
    await road.notify("healthy.txt")
    await road.notify("late.txt")
    moves: list[str] = []
    reached = {name: asyncio.Event() for name in ("healthy", "suspect", "late")}
    go_on = {name: asyncio.Event() for name in reached}
    embed, claim = road.embedder.embed, road.queue.claim

    async def asked(lane: Lane, *, worker: str, quarantined: bool = False) -> object:
        moves.append("the suspect is asked for" if quarantined else "anyone is asked for")
        return await claim(lane, worker=worker, quarantined=quarantined)

    async def watch(texts: list[str], **named: object) -> object:
        (name,) = texts
        moves.append(f"{name} begins")
        reached[name].set()
        await go_on[name].wait()
        made = await embed(texts, **named)
        moves.append(f"{name} ends")
        return made

    async def everybody_moves() -> None:
        """Give whoever is not held at the door its turns; from there to asking for a job nothing is waited for."""
        for _ in range(100):
            await asyncio.sleep(0)
        await road.database.ping()

    road.embedder.embed, road.queue.claim = watch, asked
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(road.ring())
        await reached["healthy"].wait()
        group.create_task(road.ring(quarantined=True))
        await everybody_moves()
        group.create_task(road.ring())
        await everybody_moves()
        go_on["healthy"].set()
        await reached["suspect"].wait()
        await everybody_moves()
        go_on["suspect"].set()
        go_on["late"].set()
    assert moves == [
        *("anyone is asked for", "healthy begins", "healthy ends"),
        *("the suspect is asked for", "suspect begins", "suspect ends"),
        *("anyone is asked for", "late begins", "late ends"),
    ]
    assert await road.in_step()


async def test_what_cannot_be_recorded_is_left_to_the_broker(road: Road) -> None:
    """When not even the failure can be written, the handler raises, so that the delivery comes again."""
    await one_job(road)
    fail = road.queue.retry

    async def away(*_: object, **__: object) -> None:
        raise DependencyUnavailable

    road.embedder.errors = [RuntimeError("the model fell over")]
    road.queue.retry = away
    with pytest.raises(DependencyUnavailable):
        await road.ring()
    road.queue.retry = fail
    await road.shift_clock(120)
    await road.recover()
    await road.work_off()
    assert await road.in_step()


async def test_a_stage_report_that_cannot_be_written_does_not_fail_the_job(road: Road) -> None:
    """Reports are best effort; the commit that carries the data moves the stage too."""
    await one_job(road)

    async def away(*_: object, **__: object) -> None:
        raise DependencyUnavailable

    road.queue.enter = away
    assert (await road.ring()).name == "done"
    stages = await road.fetch("select stage from job_events order by seq")
    assert [row["stage"] for row in stages] == ["pending", "downloading", "processing", "embedding", "completed"]


async def test_a_column_that_a_migration_adds_charges_no_attempt(road: Road) -> None:
    """A job at its last attempt outlives an upgrade of the schema; only the batch in hand is repeated."""
    await one_job(road)
    await road.fetch("update document_processing_jobs set max_attempts = 1")
    embed = road.embedder.embed

    async def upgrade_then_embed(*arguments: object, **named: object) -> object:
        if len(road.embedder.calls) == 1:
            await road.fetch("alter table document_processing_jobs add column if not exists later text")
            await road.fetch("alter table documents add column if not exists later text")
        return await embed(*arguments, **named)

    road.embedder.embed = upgrade_then_embed
    assert (await road.ring()).name == "deferred"
    assert await road.value("select attempts from document_processing_jobs") == 0
    await road.shift_clock(60)
    await road.work_off()
    assert await road.in_step()
    assert await road.value("select attempts from document_processing_jobs") == 1


async def test_a_file_that_says_nothing_leaves_nothing_behind(road: Road, tmp_path: object) -> None:
    """A refused file ends with its code, and its temporary folder is gone."""
    folder = str(tmp_path)
    road.work._temp_dir = folder

    class Refusing(LineExtractor):
        def sniff(self, path: object, *, name: str) -> str:
            raise UnprocessableContent("this is no file we read.", code="UNSUPPORTED_TYPE")

    road.work._extractor = Refusing()
    await one_job(road)
    assert (await road.ring()).name == "failure_recorded"
    assert list(tmp_path.iterdir()) == []
    assert await road.value("select error_code from document_processing_jobs") == "UNSUPPORTED_TYPE"
