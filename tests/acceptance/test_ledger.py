"""The demo's files through the whole road: what the ledger says, what can be found, and that no state ever lies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import aiohttp
import pytest
import pytest_asyncio

from services.api.app import build as build_api
from services.api.settings import ApiSettings
from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from tests.plugins.postgres import PostgresServer
from tests.plugins.stack import ROOT, Site, new_site

pytestmark = pytest.mark.asyncio(loop_scope="module")

CORPUS = ROOT / "cli" / "corpus"
FILES = sorted(path.name for path in CORPUS.iterdir() if path.suffix not in {".json", ".py"} and path.is_file())
QUESTIONS = [entry for entry in json.loads((CORPUS / "questions.json").read_text()) if entry["demo"]]
STAGES = ["pending", "downloading", "processing", "embedding", "storing", "completed"]
STAGES_OF = {
    "pending": {"pending"},
    "processing": {"downloading", "processing", "embedding", "storing"},
    "completed": {"completed"},
}


@dataclass
class Seen:
    """What a poller saw while the work was going on."""

    states: set[tuple[str, str]] = field(default_factory=set)
    polls: int = 0
    contradictions: list[str] = field(default_factory=list)


@dataclass
class Demo:
    """The corpus after its way through the road."""

    api: aiohttp.ClientSession
    jobs: dict[str, UUID]
    seen: Seen

    async def ledger(self, name: str) -> Any:
        """Return a file's job with its ledger, as the API shows it."""
        async with self.api.get(f"/api/v1/jobs/{self.jobs[name]}") as response:
            assert response.status == 200
            return await response.json()


@pytest.fixture(scope="module")
def module_database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """Give one database for all tests here: the corpus is worked on once."""
    with postgres_server.database(migrated_template) as name:
        yield postgres_server.dsn(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(module_database_url: str) -> AsyncIterator[Demo]:
    """Upload the corpus, poll the database all the time until every file is through, and keep the API up."""
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(new_site(module_database_url))
        await stack.enter_async_context(site.service(build_ingest, IngestSettings))
        await stack.enter_async_context(site.service(build_process, ProcessSettings))
        address = await stack.enter_async_context(site.service(build_api, ApiSettings))
        api = await stack.enter_async_context(aiohttp.ClientSession(address))
        seen = Seen()
        async with asyncio.TaskGroup() as group:
            poller = group.create_task(watch(site, seen))
            for name in FILES:
                await site.upload(name, CORPUS / name)
            jobs = await site.ended(*FILES)
            poller.cancel()
        yield Demo(api, {job["name"]: job["id"] for job in jobs}, seen)


async def watch(site: Site, seen: Seen) -> None:
    """Look at all jobs and documents, each time in one statement and so at one moment, until cancelled."""
    while True:
        for row in await site.rows(
            "select j.name, j.status, j.processing_stage, j.id = d.live_job_id as visible, live.status as live_status, "
            "  exists (select from chunks where chunks.job_id = j.id) as chunks "
            "from document_processing_jobs j join documents d on d.id = j.document_id "
            "left join document_processing_jobs live on live.id = d.live_job_id"
        ):
            state = (row["status"], row["processing_stage"])
            seen.states.add(state)
            if row["processing_stage"] not in STAGES_OF.get(row["status"], set()):
                seen.contradictions.append(f"{row['name']}: status and stage disagree: {state}")
            if (row["status"] == "completed") != bool(row["visible"] and row["chunks"]):
                seen.contradictions.append(f"{row['name']}: {state} and visible={row['visible']}")
            if row["live_status"] not in {None, "completed"}:
                seen.contradictions.append(f"{row['name']}: shows chunks of a job that is {row['live_status']}")
        seen.polls += 1


async def test_the_corpus_is_there() -> None:
    """A corpus that is not found would make the other tests pass without looking."""
    assert len(FILES) >= 8
    assert len(QUESTIONS) == 3
    assert all((CORPUS / entry["file"]).is_file() for entry in QUESTIONS)


@pytest.mark.parametrize("name", FILES)
async def test_the_ledger_of_a_file_has_every_stage_once_in_order_and_adds_up(demo: Demo, name: str) -> None:
    """Every stage once, in order, without gaps; the durations add up to the time from creation to completion."""
    job = await demo.ledger(name)
    ledger = job["ledger"]
    assert [entry["stage"] for entry in ledger] == STAGES
    assert [entry["seq"] for entry in ledger] == list(range(1, len(STAGES) + 1))
    assert (job["status"], job["processing_stage"]) == ("completed", "completed")
    moments = [moment(entry["occurred_at"]) for entry in ledger]
    assert all(before <= after for before, after in pairwise(moments))
    assert (moments[0], moments[-1]) == (moment(job["created_at"]), moment(job["completed_at"]))
    durations = [entry["duration_ms"] for entry in ledger]
    assert durations[-1] is None
    elapsed_ms = (moment(job["completed_at"]) - moment(job["created_at"])).total_seconds() * 1000
    assert sum(durations[:-1]) == pytest.approx(elapsed_ms, abs=len(durations))  # each is rounded to a millisecond
    totals = job["totals"]
    assert totals["wait_ms"] + totals["work_ms"] == sum(durations[:-1])
    assert totals["elapsed_ms"] == pytest.approx(elapsed_ms, abs=1)


async def test_status_stage_and_visible_chunks_agree_at_every_moment(demo: Demo) -> None:
    """No poll saw a status beside a foreign stage, a completed job without chunks, or chunks of an unfinished one."""
    assert demo.seen.contradictions == []
    assert demo.seen.polls > 50
    assert {("pending", "pending"), ("processing", "embedding"), ("completed", "completed")} <= demo.seen.states


async def test_the_stage_that_stayed_pending_when_the_work_was_done(demo: Demo) -> None:
    """Regression: work went on, and ended, under the stage `pending`; now the API shows the stage of the work."""
    for name in FILES:
        job = await demo.ledger(name)
        assert (job["status"], job["processing_stage"]) == ("completed", "completed")
        assert [entry["stage"] for entry in job["ledger"] if entry["status"] == "processing"] == STAGES[1:-1]
    assert not {state for state in demo.seen.states if state[1] == "pending" and state[0] != "pending"}


@pytest.mark.parametrize("asked", QUESTIONS, ids=[entry["file"] for entry in QUESTIONS])
async def test_a_question_of_the_demo_finds_its_passage(demo: Demo, asked: dict[str, Any]) -> None:
    """The first hit is the passage with the answer, cited by file and place."""
    async with demo.api.post("/api/v1/search", json={"query": asked["question"], "limit": 3}) as response:
        assert response.status == 200
        best = (await response.json())["hits"][0]
    assert best["name"] == asked["file"]
    place = dict(asked["locator"])
    if cell := place.pop("cell", None):
        assert within(cell, best["locator"]["cells"])
    assert {name: best["locator"].get(name) for name in place} == place


def moment(text: str) -> datetime:
    """Read a time of the API."""
    return datetime.fromisoformat(text)


def within(cell: str, cells: str) -> bool:
    """Say whether a cell such as F20 is in a range such as B20:I23."""

    def split(name: str) -> tuple[int, str, int]:
        letters = name.rstrip("0123456789")
        return len(letters), letters, int(name[len(letters) :])

    first, last = (split(name) for name in cells.split(":"))
    there = split(cell)
    return first[:2] <= there[:2] <= last[:2] and first[2] <= there[2] <= last[2]
