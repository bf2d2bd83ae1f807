"""What the questions of claim and recover cost among very many rows, as Postgres tells; for `recover.py --plans`.

Half of the tables' work is avoided, since it is not what is measured: no fsync, no triggers, indexes made afterwards.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import asyncpg

from shared.clock import SystemClock
from shared.local.stack import LocalStack
from shared.postgres import queries
from shared.postgres.migrate import migrate
from shared.postgres.pool import open_database
from shared.postgres.recover import _START, PostgresRecoverStore

TABLES = ("documents", "document_processing_jobs", "job_events", "outbox")

# Of each thousand jobs 100 wait for their time, 10 are worked on, 10 have failed, and the rest are done. Then there are
# 50 each that have just become due, that wait for a bell that was lost, and whose worker died.
ROWS = (
    """insert into documents (id, bucket, name, organization_id, generation, metageneration)
       select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'uploads', lpad(n::text, 8, '0'),
         'tenant-' || n % 20, n, 1 from generate_series(1, {rows}) n""",
    """insert into document_processing_jobs (id, document_id, bucket, name, generation, organization_id,
         document_revision, lane, status, processing_stage, parked, next_attempt_at, last_rung_at, ring_count,
         created_at, updated_at, claimed_at, completed_at, lease_until, error_code, event_seq)
       select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
         ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'uploads', lpad(n::text, 8, '0'), n,
         'tenant-' || n % 20, 1, case when n % 3 = 0 then 'bulk' else 'interactive' end,
         status, case when status = 'processing' then 'embedding' else status end, what = 'waiting',
         case what when 'waiting' then now() + interval '1 hour' + n * interval '1 millisecond'
                   when 'due' then now() - interval '1 second' else came_at end,
         came_at, 0, came_at, came_at, case when status <> 'pending' then came_at end,
         case when status in ('completed', 'failed') then came_at end,
         case what when 'dead' then now() - interval '1 minute' when 'working' then now() + interval '1 hour' end,
         case when status = 'failed' then 'BOOM' end, 1
       from (select n, now() - interval '2 days' + n * interval '10 milliseconds' as came_at, what,
               case when what in ('waiting', 'due', 'stuck') then 'pending' when what in ('dead', 'working')
                 then 'processing' else what end as status
             from (select n, case when n % ({rows} / 50) = 1 then 'due' when n % ({rows} / 50) = 2 then 'stuck'
                              when n % ({rows} / 50) = 3 then 'dead' when n % 10 = 5 then 'waiting'
                              when n % 100 = 6 then 'working' when n % 100 = 7 then 'failed'
                              else 'completed' end as what from generate_series(1, {rows}) n) told) dated""",
    """insert into job_events (job_id, seq, organization_id, attempt, status, stage, occurred_at, published_at)
       select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 1, 'tenant-' || n % 20, 0, 'pending',
         'pending', now() - interval '1 day', case when n % ({rows} / 50) <> 1 then now() - interval '1 day' end
       from generate_series(1, {rows}) n""",
    """insert into outbox (topic, job_id, attributes, created_at, published_at)
       select 'work', ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, '{{"lane": "interactive"}}',
         now() - interval '1 day', case when n % ({rows} / 50) <> 1 then now() - interval '1 day' end
       from generate_series(1, {rows}) n""",
)

ASKED: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("claim", "jobs", "claim_job", {"lane": "interactive", "quarantined": False, "worker": "w", "lease_seconds": 60.0}),
    ("what became due", "outbox", "ring_due", {"limit": 200}),
    (
        "stuck scan",
        "recover",
        "ring_stuck",
        {"lane": "interactive", "quarantined": False, "threshold_seconds": 300.0, "limit": 50},
    ),
    (
        "room for bells",
        "recover",
        "ring_room",
        {"lane": "interactive", "quarantined": False, "threshold_seconds": 300.0, "at_least": 100},
    ),
    ("expired leases", "recover", "expired_leases", {"limit": 50, "after_until": _START[0], "after_id": UUID(int=0)}),
    ("unsent stage events", "outbox", "jobs_with_unsent_events", {"limit": 200, "older_than_seconds": 0.0}),
    ("figures, one lane", "recover", "queue_figures", {"lane": "interactive", "cap": 100_000}),
    ("figures, the other", "recover", "queue_figures", {"lane": "bulk", "cap": 100_000}),
    ("age of the outbox", "recover", "outbox_lag", {}),
    ("prune the outbox", "prune", "prune_outbox", {"keep_days": 7, "limit": 1000}),
    ("prune the ledger", "prune", "prune_ledger", {"keep_days": 90, "limit": 1000}),
)


async def report(rows: int) -> str:
    """Fill a database with so many rows in each of the four large tables; return a table of what the questions cost."""
    with TemporaryDirectory(prefix="headrace-benchmark-") as folder:
        async with LocalStack(opened(folder), durable=False) as servers:
            url = servers.environment()["DATABASE_URL"]
            await migrate(url)
            owner = await asyncpg.connect(servers.postgres.dsn(user="postgres"))
            try:
                await _fill(owner, rows)
                size = await owner.fetchval("select pg_size_pretty(pg_database_size(current_database()))")
            finally:
                await owner.close()
            lines = [
                f"{rows:,} rows in each of {', '.join(TABLES)}; {size} with indexes.",
                "",
                "| question | rows found | ms | pages | large tables read whole | indexes |",
                "|---|--:|--:|--:|---|---|",
            ]
            connection = await asyncpg.connect(url)
            try:
                for title, file, name, arguments in ASKED:
                    lines.append(await _asked(connection, title, getattr(queries.load(file), name), arguments))
            finally:
                await connection.close()
            lines += ["", await _figures(url)]
    return "\n".join(lines) + "\n"


def opened(folder: str) -> Path:
    """Return a data directory in a folder that the database's own user can pass through."""
    Path(folder).chmod(0o711)
    data_dir = Path(folder, "data")
    data_dir.mkdir(mode=0o711)
    return data_dir


async def _fill(owner: asyncpg.Connection, rows: int) -> None:
    await owner.execute("alter system set max_wal_size = '8GB'")
    await owner.execute("select pg_reload_conf()")
    # Neither triggers nor foreign keys, and more memory for making indexes than a server of this size has.
    await owner.execute("set session_replication_role = replica; set maintenance_work_mem = '512MB'")
    indexes = await owner.fetch(
        "select indexname, indexdef from pg_indexes where tablename = any ($1::text[]) and indexname not in "
        "(select conname from pg_constraint)",
        list(TABLES),
    )
    for row in indexes:
        await owner.execute(f'drop index "{row["indexname"]}"')
    for statement in (*(text.format(rows=rows) for text in ROWS), *(row["indexdef"] for row in indexes)):
        started = time.monotonic()
        await owner.execute(statement, timeout=7200)
        print(f"  {time.monotonic() - started:7.1f} s  {' '.join(statement.split())[:80]}", file=sys.stderr, flush=True)
    await owner.execute("vacuum analyze", timeout=7200)


async def _asked(connection: asyncpg.Connection, title: str, query: Any, arguments: dict[str, Any]) -> str:
    """Ask twice, the second time with what the first has brought into memory; nothing is kept of either."""
    for _ in range(2):
        transaction = connection.transaction()
        await transaction.start()
        try:
            said = [arguments[name] for name in query.parameters]
            text = await connection.fetchval(f"explain (analyze, buffers, format json) {query.sql}", *said, timeout=600)
        finally:
            await transaction.rollback()
    told = json.loads(text)[0]
    plan = told["Plan"]
    nodes = list(_nodes(plan))
    whole = sorted({node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"} & set(TABLES))
    indexes = sorted({node["Index Name"] for node in nodes if "Index Name" in node})
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return (
        f"| {title} | {plan['Actual Rows']:,.0f} | {told['Execution Time']:.1f} | {pages:,} "
        f"| {', '.join(whole) or '-'} | {', '.join(indexes)} |"
    )


async def _figures(url: str) -> str:
    async with open_database(url, size=1) as database:
        store, clock = PostgresRecoverStore(database), SystemClock()
        await store.figures()
        started = clock.monotonic()
        figures = await store.figures()
        took_ms = (clock.monotonic() - started) * 1000
        async with database.get_connection() as connection:
            counted = await connection.fetchval(
                "select count(*) from document_processing_jobs where status = 'pending'", timeout=600
            )
    return f"All figures: {took_ms:.0f} ms; pending {sum(figures.pending.values()):,}, counted {counted:,}."


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
