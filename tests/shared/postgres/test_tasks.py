"""Jobs without a document: asked for once, claimed from the common queue, fenced by their lease."""

import asyncio
from dataclasses import replace

import pytest

from shared.errors import LeaseLost
from shared.model.job import Job, JobType, Lane, Status
from shared.ports.stores import Failure, Scope
from shared.ports.tasks import NewTask
from shared.postgres.tasks import PostgresTaskStore
from tests.plugins.road import Road

TASK = NewTask(
    job_type=JobType.BULK_IMPORT,
    organization_id="acme",
    entity_type="prefix",
    entity_id="uploads/2024/",
    payload={"wanted": 3},
)


@pytest.fixture
def tasks(road: Road) -> PostgresTaskStore:
    """Give the store on the road's database."""
    return PostgresTaskStore(road.database)


async def claimed(road: Road) -> Job:
    """Claim as a worker of the bulk lane does."""
    job = await road.queue.claim(Lane.BULK, worker="w")
    assert job is not None
    return job


async def test_task_is_asked_for_once(road: Road, tasks: PostgresTaskStore) -> None:
    """Many who ask for the same at once get one task and one bell; another organization gets its own."""
    answers = await asyncio.gather(*(tasks.add(TASK) for _ in range(8)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sum(is_new for _, is_new in answers) == 1
    assert (await tasks.add(replace(TASK, organization_id="other")))[1]
    assert await road.value("select count(*) from outbox where topic = 'work'") == 2


async def test_task_runs_to_its_result(road: Road, tasks: PostgresTaskStore) -> None:
    """A task is claimed from its lane with what was asked, keeps a checkpoint, and ends with a result."""
    job_id, _ = await tasks.add(TASK)
    job = await claimed(road)
    assert (job.id, job.document_id, job.job_type, job.entity_id) == (job_id, None, TASK.job_type, TASK.entity_id)
    assert job.payload == {"wanted": 3}
    await tasks.save(job.lease, checkpoint={"after": "b"}, done=2, total=3, unit="objects")
    await road.queue.release(job.lease)
    again = await claimed(road)
    assert (again.checkpoint, again.progress_done, again.progress_total) == ({"after": "b"}, 2, 3)
    await tasks.finish(again.lease, result={"imported": 3})
    ended = await road.directory.get(job_id, Scope())
    assert ended is not None
    assert (ended.status, ended.result, ended.checkpoint) == (Status.COMPLETED, {"imported": 3}, None)
    assert (await tasks.add(TASK))[1], "what has ended can be asked for again"


async def test_task_without_its_lease_writes_nothing(road: Road, tasks: PostgresTaskStore) -> None:
    """A worker whose task was cancelled can neither save nor finish it."""
    job_id, _ = await tasks.add(TASK)
    job = await claimed(road)
    await road.directory.cancel(job_id, Scope())
    with pytest.raises(LeaseLost):
        await tasks.save(job.lease, checkpoint={}, done=1, total=1, unit="objects")
    with pytest.raises(LeaseLost):
        await tasks.finish(job.lease, result={})
    assert await road.value("select result is null from document_processing_jobs where id = $1", job_id)


async def test_task_fails_and_is_retried_like_any_job(road: Road, tasks: PostgresTaskStore) -> None:
    """A task that fails leaves a dead letter, which its later success resolves."""
    job_id, _ = await tasks.add(TASK)
    await road.queue.fail((await claimed(road)).lease, Failure(code="BOOM", message="It went wrong."))
    assert await road.value("select state from dead_letters where job_id = $1", job_id) == "open"
    await road.directory.retry(job_id, Scope())
    await tasks.finish((await claimed(road)).lease, result={})
    assert await road.value("select state from dead_letters where job_id = $1", job_id) == "resolved"


async def test_task_of_a_dead_worker_is_rescued(road: Road, tasks: PostgresTaskStore) -> None:
    """A task whose worker went silent is put back, to run alone, uncharged."""
    job_id, _ = await tasks.add(TASK)
    await claimed(road)
    await road.shift_clock(120)
    await road.recover()
    job = await road.queue.claim(Lane.BULK, worker="w", quarantined=True)
    assert job is not None
    assert (job.id, job.attempts, job.rescue_count) == (job_id, 1, 1)


@pytest.mark.parametrize("job_type", ["bulk_import", "mining"])
async def test_unknown_job_type_fails_with_its_code(road: Road, tasks: PostgresTaskStore, job_type: str) -> None:
    """A job that nobody here can do ends at once with a code, also one of a type that a newer version wrote."""
    job_id, _ = await tasks.add(TASK)
    async with road.database.get_connection() as connection:
        await connection.execute("update document_processing_jobs set job_type = $1", job_type)
    assert (await road.ring(Lane.BULK)).name == "failure_recorded"
    job = await road.directory.get(job_id, Scope())
    assert job is not None
    assert (job.status, job.error_code, job.job_type.value) == (Status.FAILED, "UNKNOWN_JOB_TYPE", job_type)


async def test_registry_finds_the_handler(road: Road, tasks: PostgresTaskStore) -> None:
    """A job goes to the handler of its type."""
    seen: list[Job] = []

    async def imports(job: Job) -> None:
        seen.append(job)
        await tasks.finish(job.lease, result={"imported": 0})

    road.process = road.worker("w", others={JobType.BULK_IMPORT: imports})
    job_id, _ = await tasks.add(TASK)
    assert await road.work_off() == 1
    assert [job.id for job in seen] == [job_id]
