"""Single jobs: what their owners see, and their events as a stream."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from uuid import uuid4

import pytest

from shared.errors import DependencyUnavailable
from shared.model.job import Job, Stage, Status
from tests.services.api.conftest import ApiUnderTest
from tests.services.api.fakes import NOON, a_job, a_ledger

ROAD = (Stage.PENDING, Stage.DOWNLOADING, Stage.PROCESSING, Stage.EMBEDDING, Stage.STORING, Stage.COMPLETED)


def put(api: ApiUnderTest, job: Job, *stages: Stage) -> Job:
    """Make the directory know a job and its moves."""
    api.directory.jobs[job.id] = job
    api.directory.ledgers[job.id] = a_ledger(job, *stages)
    return job


async def test_a_job_comes_with_its_ledger_and_where_its_time_went(api: ApiUnderTest) -> None:
    """The owner sees every stage once, and totals that add up to the ledger's span."""
    job = put(
        api, a_job(status=Status.COMPLETED, stage=Stage.COMPLETED, trace_parent=f"00-{'a' * 32}-{'b' * 16}-01"), *ROAD
    )
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}"), headers=api.member) as answer:
        body = await answer.json()
    assert [entry["stage"] for entry in body["ledger"]] == [stage.value for stage in ROAD]
    assert body["totals"] == {"wait_ms": 1000, "work_ms": 4000, "elapsed_ms": 5000}
    assert body["generation"] == "1700000000000001", "a number would be rounded by some readers"
    assert (body["status"], body["processing_stage"], body["trace_id"]) == ("completed", "completed", "a" * 32)
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Headrace-Organization": "acme", "X-Headrace-User": "ann", "X-Headrace-Role": "member"}, 200),
        ({"X-Headrace-Organization": "acme", "X-Headrace-User": "bob", "X-Headrace-Role": "member"}, 404),
        ({"X-Headrace-Organization": "other", "X-Headrace-Role": "member"}, 404),
        ({"X-Headrace-Organization": "other", "X-Headrace-Role": "admin"}, 200),
    ],
)
async def test_a_job_is_its_owners(api: ApiUnderTest, headers: dict[str, str], status: int) -> None:
    """Neither another person of the organization nor another organization learns that a job exists."""
    job = put(api, a_job(user_id="ann"), Stage.PENDING)
    for path in (f"/api/v1/jobs/{job.id}", f"/api/v1/jobs/{job.id}/events"):
        if status == 200 and path.endswith("events"):
            continue  # it would stream
        async with api.session.get(api.url(path), headers=headers) as answer:
            assert answer.status == status


@pytest.mark.parametrize("text", ["1", "not-a-uuid", "0" * 5000, "'; drop table documents; --", "%00"])
async def test_what_is_no_id_is_refused(api: ApiUnderTest, text: str) -> None:
    """A malformed id is a bad request (or no route), never an error of the server."""
    async with api.session.get(api.url(f"/api/v1/jobs/{text}")) as answer:
        assert answer.status in {400, 404}
        assert answer.content_type == "application/problem+json"


async def test_a_database_that_is_away_is_told_as_such(api: ApiUnderTest) -> None:
    """503, with the code, a sentence and when to come back."""
    api.directory.failure = DependencyUnavailable("Postgres does not answer.")
    async with api.session.get(api.url(f"/api/v1/jobs/{uuid4()}")) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert (await answer.json())["code"] == "DEPENDENCY_UNAVAILABLE"


def events_of(text: str) -> list[tuple[str, int, dict[str, object]]]:
    """Return (event, id, data) of a whole stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
    return found


async def test_the_stream_of_an_ended_job_is_its_ledger_and_an_end(api: ApiUnderTest) -> None:
    """All moves come in order with their seq as id, then `end`, and the stream closes."""
    job = put(api, a_job(), *ROAD)
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}/events"), headers=api.member) as answer:
        assert answer.content_type == "text/event-stream"
        events = events_of(await answer.text())
    assert [(name, number) for name, number, _ in events] == [("stage", n) for n in range(1, 7)] + [("end", 6)]
    assert events[-1][2]["status"] == "completed"


@pytest.mark.parametrize("after", [0, 6])
async def test_the_stream_of_an_ended_job_without_a_ledger_is_an_end(api: ApiUnderTest, after: int) -> None:
    """Of a job whose moves were removed by age, or that never had any, the row says at once how it ended."""
    job = put(api, a_job(status=Status.FAILED, stage=Stage.FAILED, attempts=3, completed_at=NOON))
    address = api.url(f"/api/v1/jobs/{job.id}/events?after={after}")
    async with asyncio.timeout(5), api.session.get(address, headers=api.member) as answer:
        ((name, number, data),) = events_of(await answer.text())
    assert (name, number) == ("end", after)
    assert (data["status"], data["stage"], data["attempt"]) == ("failed", "failed", 3)


async def test_a_stream_ends_when_its_job_is_gone(api: ApiUnderTest) -> None:
    """A job that is removed under a stream, with its ledger, will not move again."""
    job = put(api, a_job(), Stage.PENDING)
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}/events")) as answer:
        await looks(api, 1)
        del api.directory.jobs[job.id], api.directory.ledgers[job.id]
        text = asyncio.ensure_future(answer.text())
        await advance_until(api, text, 0.5)
        assert [(name, number) for name, number, _ in events_of(await text)] == [("stage", 1), ("end", 1)]


async def test_a_job_whose_ledger_is_empty_as_yet_is_followed(api: ApiUnderTest) -> None:
    """No moves is no end while the row says that there are some to come."""
    job = put(api, a_job())
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}/events")) as answer:
        await looks(api, 1)
        put(api, replace(job, status=Status.COMPLETED, stage=Stage.COMPLETED), *ROAD)
        text = asyncio.ensure_future(answer.text())
        await advance_until(api, text, 0.5)
        assert [name for name, _, _ in events_of(await text)] == ["stage"] * 6 + ["end"]


@pytest.mark.parametrize(("headers", "query"), [({"Last-Event-ID": "4"}, ""), ({}, "?after=4")])
async def test_a_stream_is_taken_up_where_it_broke(api: ApiUnderTest, headers: dict[str, str], query: str) -> None:
    """Only moves after the last one that was seen are sent again."""
    job = put(api, a_job(), *ROAD)
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}/events{query}"), headers=headers) as answer:
        assert [number for _, number, _ in events_of(await answer.text())] == [5, 6, 6]


@pytest.mark.parametrize("value", ["-1", "one", "9" * 40, "٣"])
async def test_a_strange_place_to_resume_is_refused(api: ApiUnderTest, value: str) -> None:
    """What is not a number of ours is a bad request."""
    job = put(api, a_job(), *ROAD)
    headers = {"Last-Event-ID": value} if value.isascii() else {}
    query = "" if value.isascii() else f"?after={value}x"
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}/events{query}"), headers=headers) as answer:
        assert answer.status == 400


async def looks(api: ApiUnderTest, times: int) -> None:
    """Wait until the ledgers were read that many times."""
    async with asyncio.timeout(5), api.directory.looked:
        await api.directory.looked.wait_for(lambda: api.directory.ledger_reads >= times)


async def advance_until(api: ApiUnderTest, done: asyncio.Task[object] | asyncio.Future[object], seconds: float) -> None:
    """Move the clock on, step by step, until something has happened."""
    async with asyncio.timeout(5):
        while not done.done():
            api.clock.advance(seconds)
            await asyncio.sleep(0)


async def test_a_stream_follows_a_job_that_goes_on(api: ApiUnderTest) -> None:
    """Moves that are committed while the stream is open arrive, until the job ends."""
    job = put(api, a_job(), Stage.PENDING)
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}/events")) as answer:
        await looks(api, 1)
        api.directory.ledgers[job.id] = a_ledger(job, *ROAD)
        text = asyncio.ensure_future(answer.text())
        await advance_until(api, text, 0.5)
        assert [number for _, number, _ in events_of(await text)] == [1, 2, 3, 4, 5, 6, 6]


async def test_a_stream_ends_after_its_time(api: ApiUnderTest) -> None:
    """A job that never ends does not hold a stream for ever; the client comes back with what it has seen."""
    job = put(api, a_job(), Stage.PENDING)
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}/events")) as answer:
        await looks(api, 1)
        text = asyncio.ensure_future(answer.text())
        await advance_until(api, text, 20)
        assert [name for name, _, _ in events_of(await text)] == ["stage"]
        assert ": still here" in await text


async def test_a_stream_ends_when_the_service_stops(api: ApiUnderTest) -> None:
    """A stop does not wait for streams: they end at once."""
    job = put(api, a_job(), Stage.PENDING)
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}/events")) as answer:
        await looks(api, 1)
        api.closing.set()
        assert len(events_of(await answer.text())) == 1


async def test_a_stream_ends_cleanly_when_the_database_goes_away(api: ApiUnderTest) -> None:
    """Once the status is sent, an error can only end the stream: no second answer runs into it."""
    job = put(api, a_job(), Stage.PENDING)
    async with api.session.get(api.url(f"/api/v1/jobs/{job.id}/events")) as answer:
        await looks(api, 1)
        api.directory.failure = DependencyUnavailable()
        text = asyncio.ensure_future(answer.text())
        await advance_until(api, text, 0.5)
        assert "HTTP/1.1" not in await text


async def test_only_so_many_streams_are_open_at_once(api: ApiUnderTest) -> None:
    """One more than allowed is answered 503; when one ends its place is free again."""
    job = put(api, a_job(), Stage.PENDING)
    address = api.url(f"/api/v1/jobs/{job.id}/events")
    async with api.session.get(address), api.session.get(address):
        await looks(api, 2)
        async with api.session.get(address) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "TOO_MANY_STREAMS")
        api.closing.set()
