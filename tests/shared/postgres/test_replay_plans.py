"""Finding batches that a step can be taken of costs a look into an index for each that waits, and reads no replays."""

from __future__ import annotations

import json
from collections.abc import Iterator

import asyncpg
import pytest

from shared.postgres import queries
from shared.postgres.replays import _START
from tests.plugins.plans import fill, nodes
from tests.plugins.postgres import PostgresServer

WAITING = 2_000
ENDED = 10_000

ROWS = (
    f"""insert into dead_letters (id, identity, origin, state, code, message)
        select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, n::text, 'message', 'replaying', 'X', 'm'
        from generate_series(1, {WAITING + ENDED}) n""",
    f"""insert into replay_batches (id, requested_by, selection, rate_per_second, state, created_at, ended_at)
        select id, 'test', '{{}}', 1, case when n <= {ENDED} then 'done' else 'running' end,
          now() - interval '1 day' + n * interval '1 second', case when n <= {ENDED} then now() end
        from (select id, identity::int as n from dead_letters) numbered""",
    f"""insert into replays (batch_id, letter_id, state)
        select id, id, case when identity::int <= {ENDED} then 'resolved' else 'sent' end from dead_letters""",
    # One batch with a long queue of its own: nobody has to read it to know that it is not empty.
    """insert into replay_batches (id, requested_by, selection, rate_per_second, state, created_at)
        values (gen_random_uuid(), 'test', '{}', 1, 'running', now() + interval '1 day')""",
    f"""insert into replays (batch_id, letter_id, state)
        select b.id, l.id, 'staged' from replay_batches b, dead_letters l
        where b.created_at > now() and l.identity::int <= {ENDED}""",
    "vacuum analyze",
)


@pytest.fixture(scope="module")
def crowded(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """Give a database with thousands of batches that wait for one outcome, and many that have ended."""
    with postgres_server.database(migrated_template) as name:
        postgres_server.run(fill(postgres_server.dsn(name), ROWS))
        yield postgres_server.dsn(name)


async def test_a_page_of_batches_is_found_without_reading_replays(crowded: str) -> None:
    """Behind thousands that wait it finds the one that can go on; each that waits is two looks at most."""
    query = queries.load("replays").unfinished_batches
    asked = query._arguments({"after_created_at": _START.created_at, "after_id": _START.id, "limit": 100})
    connection = await asyncpg.connect(crowded)
    try:
        found = await connection.fetch(query.sql, *asked)
        plan = json.loads(await connection.fetchval(f"explain (analyze, format json) {query.sql}", *asked))[0]["Plan"]
    finally:
        await connection.close()
    assert len(found) == 1
    seen = list(nodes(plan))
    assert {node["Relation Name"] for node in seen if node["Node Type"] == "Seq Scan"} <= {"replay_batches"}
    assert {"replay_batches_unfinished", "replays_by_state"} <= {node.get("Index Name") for node in seen}
    for node in seen:
        if node.get("Index Name") == "replays_by_state":
            assert node["Actual Rows"] <= 1
            assert node["Actual Loops"] <= WAITING + 1
