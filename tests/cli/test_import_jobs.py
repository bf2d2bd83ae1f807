"""An older table of jobs, taken over from a second database with data as dirty as years make it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cli.app import run
from shared.errors import InvalidRequest
from shared.model.job import JobType
from shared.ports.stores import JobFilter, Scope
from tests.plugins.road import Road, delivery

TABLE = 'legacy."Upload Jobs"'
ROWS = [
    # id, file_path, status, stage, organization_id, error_message, created_at
    (1, "gs://uploads/done.txt", "processed", "pending", "acme", None, "2023-05-01 10:00:00"),
    (2, "https://storage.googleapis.com/uploads/with%20space.txt", " Completed ", None, "bad org!", None, "infinity"),
    (3, "gs://uploads/a.txt", "in_progress", "embedding", None, None, "2023-05-02 10:00:00"),
    (4, "gs://uploads/a.txt", "error", "strange", None, "quota", None),
    (5, "/b.txt", "pending", None, "acme", None, None),
    (6, "gs://uploads/gone.txt", "failed", "failed", "acme", "boom", None),
    (7, "c.txt", None, "completed", "acme", None, None),
    (8, "gs://uploads/d.txt", "weird", None, "acme", None, None),
    (9, None, "processed", None, "acme", None, None),
    (10, "gs://elsewhere/x.txt", "processed", None, "acme", None, None),
    (11, "gs://uploads/folder/", "pending", None, "acme", None, None),
    (12, "gs://uploads/e.txt", "", " ", "acme", None, None),
    (12, "gs://uploads/f.txt", "pending", None, "acme", None, None),
    (12, "gs://uploads/f.txt", "pending", None, "acme", None, None),
    (None, "gs://uploads/g.txt", "pending", None, "acme", None, None),
    (13, "gs://uploads/h.txt", "cancelled", None, "acme", None, None),
    (14, "gs://uploads/" + "n" * 1025, "pending", None, "acme", None, None),
    (15, "http://[broken", "pending", None, "acme", None, None),
]
REFUSED = {
    "its status is not known": ["8"],
    "it names no file": ["9"],
    "its file is in another bucket": ["10"],
    "it names a folder": ["11"],
    "it has neither status nor stage": ["12"],
    "its id occurs twice": ["12"],
    "it has no id": [],
    "its file's name is longer than Cloud Storage allows": ["14"],
    "its path is no address": ["15"],
}


@pytest.fixture
async def source(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection to the second database, with the table in it."""
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(
        f"create schema legacy; create table {TABLE} (id integer, file_path text, status varchar(20), stage text,"
        " organization_id text, error_message text, created_at timestamp)"
    )
    await connection.executemany(f"insert into {TABLE} values ($1, $2, $3, $4, $5, $6, $7::text::timestamp)", ROWS)
    yield connection
    await connection.close()


@pytest.fixture
def command(road: Road, empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Give `headrace import-jobs --json` on the two databases; it returns exit code and answer."""
    monkeypatch.setenv("DATABASE_URL", road.url)
    monkeypatch.setenv("BUCKET", "uploads")
    monkeypatch.setenv("DEFAULT_ORGANIZATION_ID", "acme")

    async def ask(*options: str, table: str = TABLE) -> tuple[int, Any]:
        words = ["import-jobs", "--from", empty_database_url, "--table", table, "--json", "--data", str(tmp_path)]
        code = await asyncio.to_thread(run, [*words, *options])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else said.err

    return ask


async def hints(road: Road) -> int:
    """Publish what was written for ingest and let it decide; return how many hints there were."""
    await road.relay.flush()
    told = road.publisher.of("uploads")
    for message in told:
        await road.ingest(delivery("uploads-ingest", message.data, dict(message.attributes)))
    road.publisher.messages.clear()
    return len(told)


async def test_nothing_is_lost_and_nothing_claimed(road: Road, source: asyncpg.Connection, command: Any) -> None:
    """Done rows are history without passages, the rest is decided anew from the bucket, dirt is refused by name."""
    for name in ("a.txt", "b.txt", "done.txt"):
        road.bucket.put(name, name.encode())
    code, dry = await command("--dry-run")
    assert await road.value("select count(*) from document_processing_jobs") == 0
    code, said = await command()
    assert code == 1
    assert {name: said[name] for name in ("read", "new", "history", "anew", "already_here")} == {
        "read": 18, "new": 9, "history": 4, "anew": 5, "already_here": 0,
    }  # fmt: skip
    assert said["examples"] == REFUSED
    assert {**dry, "dry_run": False} == said

    assert await hints(road) == 5
    await road.work_off()
    assert (await road.visible("a.txt"), await road.visible("b.txt"), await road.visible("done.txt")) == (
        ["a.txt"], ["b.txt"], [],
    )  # fmt: skip
    found = await road.fetch(
        "select name, status, organization_id, created_at::date::text as day, metadata from document_processing_jobs"
        " where job_type = 'history' order by created_at, entity_id"
    )
    by_id = {row["metadata"]["imported"]["id"]: row for row in found}
    assert {number: row["status"] for number, row in by_id.items()} == {
        "1": "completed", "2": "completed", "7": "completed", "13": "cancelled",
        "3": "cancelled", "4": "cancelled", "5": "cancelled", "6": "cancelled", "12": "cancelled",
    }  # fmt: skip
    assert (by_id["1"]["day"], by_id["2"]["name"], by_id["2"]["organization_id"]) == (
        "2023-05-01", "with space.txt", "acme",
    )  # fmt: skip
    assert (
        await road.value(
            "select count(*) from job_events e join document_processing_jobs j on j.id = e.job_id"
            " where j.job_type = 'history' and e.published_at is null"
        )
        == 0
    )


async def test_again_takes_only_what_is_new(road: Road, source: asyncpg.Connection, command: Any) -> None:
    """Run again, it finds its rows and writes no second hint; rows that came since are taken."""
    await command()
    assert await hints(road) == 5
    await source.execute(f"insert into {TABLE} (id, file_path, status) values (99, 'late.txt', 'pending')")
    _, said = await command()
    assert (said["new"], said["anew"], said["already_here"]) == (1, 1, 9)
    assert await hints(road) == 1
    assert await road.value("select count(*) from document_processing_jobs where job_type = 'history'") == 10


async def test_columns_may_be_missing(road: Road, source: asyncpg.Connection, command: Any) -> None:
    """Id, path and status are enough, under the names that they have had; without them the table is refused."""
    await source.execute("create table small (job_id bigserial, gcs_path text, state text); create table no (id int)")
    await source.execute("insert into small (gcs_path, state) values ('x.txt', 'done'), ('y.txt', 'queued')")
    code, said = await command(table="small")
    assert (code, said["history"], said["anew"], said["refused"]) == (0, 1, 1, {})
    code, complaint = await command(table="no")
    assert (code, "has no column file_path" in complaint) == (1, True)
    code, complaint = await command(table="public.nothing; drop table small")
    assert code == 1
    assert await source.fetchval("select count(*) from small") == 2


async def test_history_is_listed_and_never_run(road: Road, source: asyncpg.Connection, command: Any) -> None:
    """People see it among the jobs; it cannot be put into the queue."""
    await command()
    page = await road.directory.page(JobFilter(job_type="history"), Scope(), cursor=None, limit=50)
    assert {job.job_type for job in page.jobs} == {JobType.HISTORY}
    for job in page.jobs:
        with pytest.raises(InvalidRequest):
            await road.directory.retry(job.id, Scope())
    assert await road.work_off() == 0
