"""What recover, claim and prune ask takes index time: Postgres plans it so by itself, on 200,000 rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from shared.postgres import queries, recover
from shared.postgres.pool import open_database
from tests.plugins.plans import explained, fill, nodes
from tests.plugins.postgres import PostgresServer

JOBS = 200_000
WAITING = 60_000
LARGE = {"document_processing_jobs", "job_events", "outbox", "documents", "chunks", "recover_runs"}
NOBODY = UUID(int=0)

ASKED: dict[tuple[str, str], tuple[dict[str, Any], set[str]]] = {
    ("jobs", "claim_job"): (
        {"lane": "interactive", "quarantined": False, "worker": "w", "lease_seconds": 60.0},
        {"jobs_queue", "jobs_turn"},
    ),
    ("jobs", "any_completed"): ({"hours": 24}, {"jobs_by_status"}),
    ("jobs", "wake_parked"): ({"limit": 100}, {"jobs_parked"}),
    ("recover", "expired_leases"): ({"limit": 50, "after_until": None, "after_id": NOBODY}, {"jobs_leases"}),
    ("outbox", "ring_due"): ({"limit": 200}, {"jobs_unrung"}),
    ("recover", "ring_stuck"): (
        {"lane": "bulk", "quarantined": False, "threshold_seconds": 300.0, "limit": 50},
        {"jobs_rung"},
    ),
    ("recover", "ring_room"): (
        {"lane": "bulk", "quarantined": False, "threshold_seconds": 300.0, "at_least": 100},
        {"jobs_rung", "jobs_by_status"},
    ),
    ("recover", "queue_figures"): ({"lane": "bulk", "cap": 100_000}, {"jobs_queue", "jobs_parked"}),
    ("recover", "oldest_due"): ({"overdue_seconds": 1800.0, "limit": 5000}, {"jobs_due"}),
    ("recover", "silent"): ({"seconds": 600.0, "cap": 100_000}, {"jobs_leases"}),
    ("recover", "lane_is_worked"): ({"lane": "bulk", "seconds": 1800.0}, {"jobs_by_status"}),
    ("recover", "open_letters"): ({"cap": 100_000}, set()),
    ("outbox", "topics_with_unsent"): ({}, {"outbox_unsent_of_topic"}),
    ("outbox", "unsent_of_topic"): (
        {"topic": "work", "older_than_seconds": 0.0, "limit": 200, "limit_bytes": 4_000_000},
        set(),  # with few waiting, those of all topics are read and sorted
    ),
    ("outbox", "unsent_of_job"): ({"job_id": NOBODY, "limit": 200}, {"outbox_unsent_of_job"}),
    ("outbox", "jobs_with_unsent_events"): ({"older_than_seconds": 0.0, "limit": 200}, {"job_events_unsent"}),
    ("directory", "page_jobs"): (
        dict.fromkeys(
            ("status", "stage", "organization_id", "job_type", "error_code", "name_prefix", "before_created_at",
             "before_id")
        )
        | {"limit": 50},
        {"jobs_newest"},
    ),
    ("recover", "list_documents"): (
        {"bucket": "uploads", "after": "acme/00150000", "limit": 500},
        {"documents_listing"},
    ),
    ("spaces", "gaps_since"): ({"space_id": 1, "since": None}, {"documents_changed", "chunks_pkey"}),
    ("recover", "last_done"): ({"duty": "reconcile"}, {"recover_runs_by_start"}),
    ("prune", "prune_outbox"): ({"keep_days": 7, "limit": 1000}, {"outbox_published"}),
    ("prune", "prune_ledger"): ({"keep_days": 90, "limit": 1000}, {"job_events_published"}),
    ("prune", "prune_runs"): ({"keep_days": 30, "limit": 1000}, {"recover_runs_by_start"}),
    ("prune", "lock_gone_jobs"): ({"keep_days": 30, "limit": 500}, {"documents_deleted", "jobs_of_document"}),
    ("prune", "prune_documents"): ({"keep_days": 30, "limit": 1000}, {"documents_deleted", "jobs_of_document"}),
    ("prune", "page_vectors"): (
        {"keep_hours": 24, "space_id": -1, "organization_id": "", "text_hash": b"", "limit": 1000},
        {"chunks_by_text"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def large(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """Give a database with 200,000 jobs: most done, 60,000 waiting and all rung for, a few in each other state."""
    with postgres_server.database(migrated_template) as name:
        postgres_server.run(fill(postgres_server.dsn(name), ROWS))
        yield postgres_server.dsn(name)


ROWS = (
    # Triggers would write a line of the ledger per job; they are written by hand below.
    "alter table document_processing_jobs disable trigger user",
    f"""insert into documents (id, bucket, name, organization_id, generation, metageneration, deleted_at, updated_at)
        select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'uploads',
          'acme/' || lpad(n::text, 8, '0'), 'tenant-' || n % 20, case when not gone then n end, 1,
          case when gone then now() - n * interval '30 seconds' end, now() - n * interval '1 second'
        from (select n, n % 50 = 0 and n <= {JOBS - WAITING} as gone from generate_series(1, {JOBS}) n) numbered""",
    f"""insert into document_processing_jobs (id, document_id, bucket, name, generation, organization_id,
          document_revision, lane, status, processing_stage, parked, next_attempt_at, last_rung_at, created_at,
          updated_at, claimed_at, completed_at, lease_until, error_code, event_seq)
        select id, id, 'uploads', name, n, organization_id, 1, case when n % 2 = 0 then 'bulk' else 'interactive' end,
          status, case when status = 'processing' then 'embedding' else status end, parked,
          case when parked then now() + interval '1 hour' else came_at end, came_at, came_at, came_at,
          case when status <> 'pending' then came_at end,
          case when status in ('completed', 'failed') then came_at end,
          case when status = 'processing' then now() + (n % 600 - 10) * interval '1 second' end,
          case when status = 'failed' then 'BOOM' end, 1
        from (select *, n > {JOBS - WAITING} and n % 3 = 0 as parked,
                now() - interval '2 days' + n * interval '860 milliseconds' as came_at,
                case when n > {JOBS - WAITING} then 'pending' when n % 500 = 0 then 'processing'
                     when n % 200 = 0 then 'failed' else 'completed' end as status
              from (select id, name, organization_id, right(id::text, 12)::int as n from documents) numbered) told""",
    """insert into job_events (job_id, seq, organization_id, attempt, status, stage, occurred_at, published_at)
        select id, 1, organization_id, 0, 'pending', 'pending', created_at,
          case when generation % 1000 > 0 then created_at - interval '89 days' end from document_processing_jobs""",
    """insert into outbox (topic, job_id, attributes, created_at, published_at)
        select 'work', id, '{"lane": "bulk"}', created_at,
          case when generation % 1000 > 0 then created_at - interval '6 days' end from document_processing_jobs""",
    """insert into recover_runs (started_at, summary)
        select now() - n * interval '5 minutes', '{"duties": {"rescue": {}}}' from generate_series(1, 9000) n""",
    "select headrace_add_space('k', 'm', 3, 'cosine', 't', 1)",
    "drop index embeddings_1_hnsw",
    """insert into embeddings (space_id, organization_id, text_hash, embedding)
        select 1, 'tenant-' || n % 20, decode(md5(n::text), 'hex'), '[1,2,3]'::halfvec
        from generate_series(1, 20000) n""",
    """insert into chunks (job_id, ordinal, document_id, organization_id, text, locator, text_hash)
        select id, 0, id, organization_id, 'x', '{}', decode(md5(generation::text), 'hex')
        from documents where generation < 20000""",
    "update documents set live_job_id = id where generation < 20000",
    "alter table document_processing_jobs enable trigger user",
    "vacuum analyze",
)


def arguments_of(asked: dict[str, Any]) -> dict[str, Any]:
    """Fill in what cannot stand in a table."""
    from shared.postgres.recover import _START

    moments = {"after_until": _START[0], "since": datetime.now(UTC) - timedelta(minutes=1)}
    return asked | {name: moment for name, moment in moments.items() if name in asked}


@pytest.mark.parametrize(("file", "name"), ASKED, ids=[name for _, name in ASKED])
async def test_a_question_takes_index_time(large: str, file: str, name: str) -> None:
    """The plan uses the index that was made for it, scans no large table, and reads few rows for each it returns."""
    asked, indexes = ASKED[file, name]
    connection = await asyncpg.connect(large)
    try:
        assert await connection.fetchval("show enable_seqscan") == "on"
        plan = await explained(connection, file, name, arguments_of(asked))
    finally:
        await connection.close()
    seen = list(nodes(plan))
    scanned = {node["Relation Name"] for node in seen if node["Node Type"] == "Seq Scan"}
    assert scanned & (LARGE | {"embeddings_1"}) == set()
    assert indexes <= {node.get("Index Name") for node in seen}
    wasted = {
        node["Index Name"]: node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
        for node in seen
        if "Index Name" in node and node.get("Rows Removed by Filter", 0) * node["Actual Loops"] > 1000
    }
    assert wasted == {}


async def test_claiming_steps_over_no_job_that_waits_for_its_time(large: str) -> None:
    """With 60,000 deferred jobs in front of one that is due, a claim reads a handful of rows."""
    connection = await asyncpg.connect(large)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(
            """update document_processing_jobs
               set next_attempt_at = now() + interval '1 hour', priority = 5, organization_id = 'one', lane = 'bulk'
               where status = 'pending' and generation < (select max(generation) from document_processing_jobs)"""
        )
        query = queries.load("jobs").claim_job
        arguments = {"lane": "bulk", "quarantined": False, "worker": "w", "lease_seconds": 60.0}
        plan = await connection.fetchval(f"explain (analyze, format json) {query.sql}", *query._arguments(arguments))
        claimed = json.loads(plan)[0]["Plan"]
    finally:
        await transaction.rollback()
        await connection.close()
    assert claimed["Actual Rows"] == 1
    read = [
        node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0) for node in nodes(claimed)
    ]
    assert max(read) < 100


@pytest.mark.parametrize("name", ["count_texts", "missing_texts"])
async def test_texts_are_looked_at_in_stretches(large: str, name: str) -> None:
    """Of an organization whose texts all have vectors, a stretch is read, and its end is told, not all there are."""
    connection = await asyncpg.connect(large)
    try:
        asked = {"organization_id": "tenant-7", "space_id": 1, "after": b"", "limit": 10}
        plan = await explained(connection, "spaces", name, asked)
    finally:
        await connection.close()
    read = [node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0) for node in nodes(plan)]
    assert max(read) < 100


async def test_ringing_for_what_became_due_reads_none_of_the_backlog(large: str) -> None:
    """Each second's question is answered from an index that holds none of the jobs that were rung for."""
    connection = await asyncpg.connect(large)
    try:
        plan = await explained(connection, "outbox", "ring_due", {"limit": 200})
    finally:
        await connection.close()
    assert sum(node.get("Rows Removed by Filter", 0) for node in nodes(plan)) == 0


async def test_long_queues_are_estimated_rather_than_counted(large: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the cap the figures are exact, above it they are what the statistics say: both tell the same story."""
    async with open_database(large, size=1) as database:
        store = recover.PostgresRecoverStore(database)
        counted = await store.figures()
        async with database.get_connection() as connection:
            waiting = await connection.fetch(
                "select lane, count(*) as pending, count(*) filter (where next_attempt_at <= now()) as due "
                "from document_processing_jobs where status = 'pending' group by lane"
            )
        monkeypatch.setattr(recover, "FIGURES_CAP", 1000)
        estimated = await store.figures()
    assert counted.pending == {row["lane"]: row["pending"] for row in waiting}
    assert counted.due == {row["lane"]: row["due"] for row in waiting}
    for lane, pending in counted.pending.items():
        assert 0.5 * pending < estimated.pending[lane] < 2 * pending
        assert 0 < estimated.due[lane] <= 2 * counted.due[lane]
