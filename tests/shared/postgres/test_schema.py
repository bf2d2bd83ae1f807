"""The schema: migrations reach it, every query fits it, and it knows the same legal moves as the code."""

import itertools

import asyncpg
import pytest

from shared.model.job import Stage, Status, move_is_legal, state_is_consistent
from shared.postgres import migrate as migration
from shared.postgres import queries

QUERY_FILES = (
    "jobs",
    "documents",
    "outbox",
    "recover",
    "chunks",
    "directory",
    "dead_letters",
    "replays",
    "spaces",
    "rate_limits",
    "budgets",
    "estimates",
    "files_read",
    "prune",
    "tasks",
    "old_jobs",
)


async def catalogue(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """Describe what a database consists of, in a form that can be compared."""
    asked = {
        "columns": """select table_name || '.' || column_name || ' ' || udt_name || ' ' || is_nullable || ' '
            || coalesce(column_default, '') || ' ' || coalesce(generation_expression, '')
            from information_schema.columns where table_schema = 'public' and table_name <> 'schema_migrations'""",
        "indexes": """select indexdef from pg_indexes
            where schemaname = 'public' and tablename <> 'schema_migrations'""",
        "constraints": """select conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint
            where connamespace = 'public'::regnamespace and conrelid::regclass::text <> 'schema_migrations'""",
        "functions": """select proname || ' ' || md5(prosrc) from pg_proc p
            where pronamespace = 'public'::regnamespace
            and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')""",
        "triggers": "select tgrelid::regclass || ' ' || pg_get_triggerdef(oid) from pg_trigger where not tgisinternal",
        "policies": """select tablename || ' ' || policyname || ' ' || roles::text || ' ' || coalesce(qual, '')
            from pg_policies where schemaname = 'public'""",
    }
    return {name: sorted(row[0] for row in await connection.fetch(sql)) for name, sql in asked.items()}


async def test_migrations_reach_the_schema(database_url: str, empty_database_url: str) -> None:
    """Applying every migration gives exactly what schema.sql describes."""
    migrated, described = await asyncpg.connect(database_url), await asyncpg.connect(empty_database_url)
    try:
        await described.execute(queries.read("schema.sql"))
        assert await catalogue(migrated) == await catalogue(described)
    finally:
        await migrated.close()
        await described.close()


async def test_migrating_twice_changes_nothing(database_url: str) -> None:
    """A second run of the migrations finds nothing to do."""
    assert await migration.migrate(database_url) == []


def test_migrations_say_whether_they_expand_or_contract() -> None:
    """The name of a migration says on which side of a deployment it runs."""
    assert migration.migrations()
    for name in migration.migrations():
        assert name[4:].startswith(("_expand_", "_contract_")), name


@pytest.mark.parametrize("file", QUERY_FILES)
async def test_every_query_fits_the_schema(database_url: str, file: str) -> None:
    """Postgres can prepare each named query."""
    connection = await asyncpg.connect(database_url)
    try:
        for query in queries.load(file):
            sql = query.with_integers(space_id=1, dimensions=3).sql
            await connection.prepare(sql)
    finally:
        await connection.close()


async def test_code_and_database_agree_on_every_move(database_url: str) -> None:
    """For every pair of states, the database allows a move exactly when the code does."""
    states = list(itertools.product(Status, Stage))
    connection = await asyncpg.connect(database_url)
    try:
        for one in states:
            assert state_is_consistent(*one) == await connection.fetchval(
                "select headrace_state_is_consistent($1, $2)", *one
            ), one
        statement = await connection.prepare("select headrace_move_is_legal($1, $2, $3, $4)")
        for before, after in itertools.product(states, states):
            assert move_is_legal(*before, *after) == await statement.fetchval(*before, *after), (before, after)
    finally:
        await connection.close()
