"""What a search reads: its two indexes, on a fresh connection and on one in use, and all that is there if they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from shared.model.space import EmbeddingSpace
from shared.ports.stores import Scope, SearchRequest
from shared.postgres.chunks import PostgresChunkIndex
from shared.postgres.pool import Database, open_database
from tests.plugins.plans import fill
from tests.plugins.postgres import PostgresServer

SPACE = EmbeddingSpace(model="m", dimensions=3)
SEARCHES = 8
"""More than the five after which Postgres would have planned once for all."""

FILES = 12_000
ROWS = (
    "alter table document_processing_jobs disable trigger user",
    f"select headrace_add_space('{SPACE.key}', 'm', 3, 'cosine', 't', 1)",
    f"""insert into documents (id, bucket, name, organization_id, generation, metageneration, indexed_generation,
          media_type, live_job_id)
        select id, 'uploads', n, case when n % 3 = 0 then 'others' else 'acme' end, n, 1, n, 'text/plain', id
        from (select n, ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid as id
              from generate_series(1, {FILES}) n) numbered""",
    """insert into document_processing_jobs (id, document_id, bucket, name, generation, organization_id,
          document_revision, lane, status, processing_stage, next_attempt_at, claimed_at, completed_at)
        select id, id, 'uploads', name, generation, organization_id, 1, 'bulk', 'completed', 'completed', now(), now(),
          now() from documents""",
    """insert into chunks (job_id, ordinal, document_id, organization_id, text, locator, text_hash)
        select id, 0, id, organization_id, rpad('sluice ' || generation, 800, ' gate'), '{"kind": "text"}',
          decode(md5(generation::text), 'hex')
        from documents""",
    # The vectors of acme's files lie around the question, those of the others' behind it. In front of it lie those of
    # files that the others have deleted: they stay for a while.
    """insert into embeddings (space_id, organization_id, text_hash, embedding)
        select 1, organization_id, decode(md5(generation::text), 'hex'),
          format('[%s,%s,%s]', case when organization_id = 'acme' then 1 else -1 end, sin(generation), cos(generation))
            ::halfvec
        from documents""",
    f"""insert into embeddings (space_id, organization_id, text_hash, embedding)
        select 1, 'others', decode(md5('gone' || n), 'hex'), format('[9,%s,%s]', sin(n), cos(n))::halfvec
        from generate_series(1, {FILES // 3}) n""",
    "alter table document_processing_jobs enable trigger user",
    "vacuum analyze",
)


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """Give a database with two organizations' files, each a passage of its own."""
    with postgres_server.database(migrated_template) as name:
        postgres_server.run(fill(postgres_server.dsn(name), ROWS))
        yield postgres_server.dsn(name)


@pytest.fixture
async def database(filled: str) -> AsyncIterator[Database]:
    """Give a pool of one connection, so that each search finds what those before it left there."""
    async with open_database(filled, size=1) as database:
        yield database


async def searched(database: Database, organization: str, text: str) -> list[str]:
    """Search as the api does, and return the names that are found."""
    request = SearchRequest(text=text, vector=[1.0, 0.0, 0.0], space=SPACE, organization_id=organization, limit=10)
    return [hit.ref.name for hit in await PostgresChunkIndex(database).search(request)]


async def scans(database: Database) -> dict[str, int]:
    """Count how often each index was used, and each table read from end to end, up to now."""
    async with database.get_connection() as connection:
        await connection.execute("select pg_stat_force_next_flush()")
        await connection.execute("select pg_stat_clear_snapshot()")
        rows = await connection.fetch(
            "select indexrelname as name, idx_scan as scans from pg_stat_user_indexes "
            "union all select relname, seq_scan from pg_stat_user_tables"
        )
    return {row["name"]: row["scans"] for row in rows}


async def test_each_search_takes_the_indexes_of_vectors_and_of_words(database: Database) -> None:
    """Also the eighth on a connection, and under row-level security: passages are not read from end to end."""
    before = await scans(database)
    for _ in range(SEARCHES):
        assert len(await searched(database, "acme", "4711")) == 10
    after = await scans(database)
    used = {name: after[name] - before[name] for name in ("embeddings_1_hnsw", "chunks_fts", "chunks", "embeddings_1")}
    assert used == {"embeddings_1_hnsw": SEARCHES, "chunks_fts": SEARCHES, "chunks": 0, "embeddings_1": 0}


async def test_what_the_index_of_vectors_does_not_reach_is_compared_all_the_same(database: Database) -> None:
    """Passages that share no word with the question are found behind a thousand vectors of deleted files."""
    async with database.get_connection() as connection:
        await connection.execute("set hnsw.max_scan_tuples = 1000")
    before = await scans(database)
    for _ in range(SEARCHES):
        assert len(await searched(database, "others", "weir")) == 10
    after = await scans(database)
    assert after["embeddings_1_hnsw"] - before["embeddings_1_hnsw"] == SEARCHES


async def test_words_of_another_organization_bring_nothing(database: Database) -> None:
    """The function that looks words up with its owner's rights keeps to the organization the transaction names."""
    asked = "select count(*) from headrace_worded(to_tsquery('english', 'sluice'), null, '{}', 100000)"
    for organization, files in (("acme", FILES * 2 // 3), ("others", FILES // 3), ("nobody", 0)):
        async with database.transaction(Scope(organization_id=organization)) as connection:
            assert await connection.fetchval(asked) == files


async def test_nobody_looks_words_up_but_as_a_tenant(filled: str) -> None:
    """No service may call what reads with the owner's rights."""
    connection = await asyncpg.connect(filled)
    try:
        granted = await connection.fetch(
            "select r.rolname from pg_roles r, pg_proc p where p.proname = 'headrace_worded' and r.rolname like "
            "'headrace\\_%' and has_function_privilege(r.oid, p.oid, 'execute')"
        )
    finally:
        await connection.close()
    assert {row["rolname"] for row in granted} == {"headrace_tenant"}
