"""All jobs: filters, pages, retry and cancel."""

from __future__ import annotations

from uuid import uuid4

import pytest

from shared.model.job import Stage, Status
from tests.services.api.conftest import ApiUnderTest
from tests.services.api.fakes import a_job

LIST = "/api/v1/admin/jobs"


def put(api: ApiUnderTest, *jobs: object) -> None:
    """Make the directory know these jobs."""
    api.directory.jobs |= {job.id: job for job in jobs}  # type: ignore[attr-defined]


async def test_filters_are_handed_on(api: ApiUnderTest) -> None:
    """Each filter narrows the list, together they all hold."""
    wanted = a_job("acme/a.pdf", status=Status.FAILED, stage=Stage.FAILED, error_code="CORRUPT")
    put(api, wanted, a_job("acme/b.pdf"), a_job("x/c.pdf", organization_id="other"))
    filters = {
        "status": "failed", "stage": "failed", "organization_id": "acme", "job_type": "document_processing",
        "error_code": "CORRUPT", "prefix": "acme/",
    }  # fmt: skip
    for asked in (*({name: value} for name, value in filters.items() if name in {"status", "error_code"}), filters):
        async with api.session.get(api.url(LIST), params=asked) as answer:
            assert [job["id"] for job in (await answer.json())["jobs"]] == [str(wanted.id)]


async def test_pages_follow_each_other(api: ApiUnderTest) -> None:
    """The cursor of one page starts the next; the last page has none."""
    put(api, *(a_job(f"acme/{number}.txt") for number in range(5)))
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        async with api.session.get(
            api.url(LIST), params={"limit": "2"} | ({"cursor": cursor} if cursor else {})
        ) as answer:
            body = await answer.json()
        seen += [job["file_path"] for job in body["jobs"]]
        cursor = body["next_cursor"]
    assert cursor is None
    assert seen == [f"gs://uploads/acme/{number}.txt" for number in range(5)]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=ten", "status=done", "stage=nowhere", "job_type=mining", "surprise=1",
        "status=failed&status=pending", "error_code=x'--", "prefix=%00", "prefix=" + "x" * 1025, "cursor=bogus",
        "cursor=", "organization_id=", "id=1",
    ],
)  # fmt: skip
async def test_wrong_parameters_are_refused(api: ApiUnderTest, query: str) -> None:
    """Each is a bad request whose sentence names the parameter and does not repeat its value."""
    async with api.session.get(f"{api.url(LIST)}?{query}") as answer:
        assert answer.status == 400
        problem = await answer.json()
    assert problem["code"] == "INVALID_REQUEST"
    assert "x'--" not in problem["detail"]


async def test_a_failed_job_is_retried_once(api: ApiUnderTest) -> None:
    """A retry answers with the job as it is now; a second one meets a job that is not failed any more."""
    job = a_job(status=Status.FAILED, stage=Stage.FAILED)
    put(api, job)
    async with api.session.post(api.url(f"{LIST}/{job.id}/retry")) as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "pending")
    async with api.session.post(api.url(f"{LIST}/{job.id}/retry")) as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "NOT_RETRYABLE_STATE")


async def test_cancelling_twice_is_allowed(api: ApiUnderTest) -> None:
    """The second cancel changes nothing and is no error; an ended job cannot be cancelled."""
    job, ended = a_job(), a_job(status=Status.COMPLETED, stage=Stage.COMPLETED)
    put(api, job, ended)
    for _ in range(2):
        async with api.session.delete(api.url(f"{LIST}/{job.id}")) as answer:
            assert (answer.status, (await answer.json())["status"]) == (200, "cancelled")
    async with api.session.delete(api.url(f"{LIST}/{ended.id}")) as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "NOT_CANCELLABLE_STATE")


async def test_unknown_jobs_are_not_found(api: ApiUnderTest) -> None:
    """Retry and cancel of a job that is not there answer 404."""
    async with api.session.post(api.url(f"{LIST}/{uuid4()}/retry")) as answer:
        assert answer.status == 404
    async with api.session.delete(api.url(f"{LIST}/{uuid4()}")) as answer:
        assert answer.status == 404


async def test_stats_are_counts(api: ApiUnderTest) -> None:
    """The counts of the directory arrive as they are."""
    jobs = [*(a_job(status=Status.COMPLETED, stage=Stage.COMPLETED) for _ in range(3)), a_job()]
    api.directory.jobs = {job.id: job for job in jobs}
    async with api.session.get(api.url(f"{LIST}/stats")) as answer:
        body = await answer.json()
    assert body["by_status"] == {"completed": 3, "pending": 1}
    assert (body["chunks"], body["oldest_due_seconds"], body["last_recover_run"]) == (40, 12.5, {"rescued": 1})
