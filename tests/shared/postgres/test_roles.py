"""The services' database roles: each may do what its queries need, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from shared.postgres import queries
from tests.plugins.logins import SERVICES, logins
from tests.plugins.postgres import PostgresServer
from tests.shared.postgres.role_queries import FILES, QUERIES, sql_of

# Select, insert, update, delete: a capital for whole rows, a small letter for named columns only.
GRANTS: dict[str, dict[str, str]] = {
    "headrace_ingest": {
        "documents": "Siu",
        "document_processing_jobs": "Siu",
        "job_events": "Su",
        "outbox": "Siu",
        "dead_letters": "siu",
        "chunks": "suD",
        "embeddings": "si",
    },
    "headrace_process": {
        "documents": "Siu",
        "document_processing_jobs": "Siu",
        "job_events": "SuD",
        "outbox": "SiuD",
        "dead_letters": "siuD",
        "replay_batches": "SuD",
        "replays": "s",
        "recover_runs": "suD",
        "budgets": "s",
        "budget_days": "siu",
        "rate_limits": "Siu",
        "model_calls": "siD",
        "chunks": "siuD",
        "embeddings": "si",
        "embedding_claims": "SiuD",
        "files_read": "Siu",
        "embedding_spaces": "S",
    },
    "headrace_recover": {
        "documents": "SiuD",
        "document_processing_jobs": "SiuD",
        "job_events": "SuD",
        "outbox": "SiuD",
        "dead_letters": "SiuD",
        "replay_batches": "SiuD",
        "replays": "siu",
        "recover_runs": "siuD",
        "chunks": "suD",
        "embeddings": "SiD",
        "embedding_claims": "SuD",
    },
    "headrace_api": {
        "documents": "Siu",
        "document_processing_jobs": "Siu",
        "job_events": "Su",
        "outbox": "i",
        "dead_letters": "Siu",
        "dead_letter_groups": "siuD",
        "replay_batches": "Siu",
        "replays": "siu",
        "recover_runs": "s",
        "budgets": "siuD",
        "budget_days": "S",
        "rate_limits": "Siu",
        "model_calls": "siD",
        "chunks": "suD",
        "embeddings": "si",
        "embedding_spaces": "Su",
    },
    "headrace_tenant": {
        "documents": "S",
        "document_processing_jobs": "S",
        "job_events": "S",
        "dead_letters": "S",
        "chunks": "S",
        "embeddings": "S",
        "embedding_spaces": "S",
        "budgets": "S",
        "budget_days": "S",
    },
}

# Columns that say what is in the files and messages of people, or that make work look done.
WHO_MAY: dict[tuple[str, str, str], set[str]] = {
    ("chunks", "text", "SELECT"): {"headrace_process", "headrace_tenant"},
    ("chunks", "text", "INSERT"): {"headrace_process"},
    ("chunks", "text", "UPDATE"): set(),
    ("chunks", "locator", "SELECT"): {"headrace_process", "headrace_tenant"},
    ("dead_letters", "body", "SELECT"): {"headrace_recover", "headrace_api", "headrace_tenant"},
    ("dead_letters", "body", "UPDATE"): set(),
    ("document_processing_jobs", "lease_epoch", "UPDATE"): {"headrace_process"},
    ("document_processing_jobs", "result", "UPDATE"): {"headrace_process"},
    ("document_processing_jobs", "event_seq", "UPDATE"): set(),
    ("document_processing_jobs", "created_at", "UPDATE"): set(),
    ("document_processing_jobs", "status", "INSERT"): set(),
    ("job_events", "status", "INSERT"): set(),
    ("job_events", "status", "UPDATE"): set(),
    ("embeddings", "embedding", "UPDATE"): set(),
    ("outbox", "body", "UPDATE"): set(),
    ("outbox", "data", "SELECT"): {"headrace_ingest", "headrace_process", "headrace_recover"},
}

FORBIDDEN = {
    "headrace_ingest": [
        "select text from chunks",
        "select fts from chunks",
        "select body from dead_letters",
        "insert into chunks (text) values ('forged')",
        "update embeddings set embedding = '[1,2,3]'",
        "select * from replay_batches",
        "delete from documents",
        "select headrace_add_space('k', 'm', 3, 'cosine', 't', 1)",
        "set role headrace_process",
    ],
    "headrace_process": [
        "delete from documents",
        "delete from document_processing_jobs",
        "delete from embeddings",
        "update chunks set text = 'forged'",
        "update budgets set amount_micros = 1",
        "insert into job_events (job_id, seq) values (gen_random_uuid(), 1)",
        "set role headrace_tenant",
    ],
    "headrace_recover": [
        "select text from chunks",
        "select locator from chunks",
        "insert into chunks (text) values ('forged')",
        "update document_processing_jobs set lease_epoch = lease_epoch + 1",
        "update document_processing_jobs set result = '{}'",
        "select * from rate_limits",
        "set role headrace_tenant",
    ],
    "headrace_api": [
        "select text from chunks",
        "select * from outbox",
        "delete from dead_letters",
        "delete from document_processing_jobs",
        "insert into document_processing_jobs (id, status) values (gen_random_uuid(), 'completed')",
        "insert into recover_runs (started_at, summary) values (now(), '{}')",
        "set role headrace_recover",
    ],
}
FOR_NOBODY = [
    "drop table chunks",
    "truncate outbox",
    "alter table documents add column mine text",
    "alter table documents disable row level security",
    "alter table documents no force row level security",
    "create table mine (id int)",
    "create index mine on documents (name)",
    "create policy mine on documents using (true)",
    "drop policy tenants_see_their_own on documents",
    "create or replace function headrace_now() returns timestamptz language sql as 'select now()'",
    "alter table document_processing_jobs disable trigger jobs_check_move",
    "select * from schema_migrations",
    "insert into schema_migrations (name) values ('9999')",
    "set role headrace_service",
    "set role headrace",
    "create role mine",
]


@pytest.fixture(scope="module")
def users(postgres_server: PostgresServer, migrated_template: str) -> Iterator[dict[str, str]]:
    """Give a login user for each service."""
    with logins(postgres_server) as made:
        yield made


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer, migrated_template: str, users: dict[str, str]) -> Iterator[str]:
    """Give the name of a database for tests that leave nothing behind."""
    with postgres_server.database(migrated_template) as name:
        yield name


@pytest.fixture
def fresh(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """Give the name of a database of this test alone."""
    with postgres_server.database(migrated_template) as name:
        yield name


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Lend one connection."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def granted(connection: asyncpg.Connection) -> dict[str, dict[str, str]]:
    """Return what information_schema says about tables and columns, in the form of `GRANTS`."""
    letters = {"SELECT": "s", "INSERT": "i", "UPDATE": "u", "DELETE": "d"}
    asked = """select grantee::text, table_name::text, privilege_type::text, {whole} as whole
        from information_schema.{view} where table_schema = 'public' and grantee = any ($1)"""
    found: dict[str, dict[str, dict[str, str]]] = {}
    # Columns first: a privilege on a table is shown for each of its columns too.
    for view, whole in (("column_privileges", "false"), ("table_privileges", "true")):
        for row in await connection.fetch(asked.format(view=view, whole=whole), list(GRANTS)):
            letter = letters.get(row["privilege_type"], row["privilege_type"])
            place = found.setdefault(row["grantee"], {}).setdefault(row["table_name"], {})
            place[letter] = letter.upper() if row["whole"] else letter
    return {
        role: {table: "".join(said[one] for one in "siud" if one in said) for table, said in tables.items()}
        for role, tables in found.items()
    }


async def explained(connection: asyncpg.Connection, name: str) -> str | None:
    """Return what Postgres refuses about a query; privileges are checked when a plan is shown, nothing is run."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("explain (generic_plan) " + sql_of(name))
    except asyncpg.InsufficientPrivilegeError as error:
        return f"{name}: {error}"
    finally:
        await transaction.rollback()
    return None


def test_every_query_belongs_to_a_service() -> None:
    """A new query has to say who asks it."""
    everything = {f"{file}.{query.name}" for file in FILES for query in queries.load(file)}
    asked = set[str]().union(*QUERIES.values())
    assert everything - asked == set()


async def test_grants_are_as_listed(postgres_server: PostgresServer, database: str) -> None:
    """Each role has these privileges on these tables, and no other."""
    async with connected(postgres_server.dsn(database)) as connection:
        assert await granted(connection) == GRANTS


async def test_telling_columns_are_for_few(postgres_server: PostgresServer, database: str) -> None:
    """What is in people's files is read by those who must; what makes work look done is written by its worker."""
    async with connected(postgres_server.dsn(database)) as connection:
        for (table, column, privilege), roles in WHO_MAY.items():
            found = await connection.fetch(
                """select grantee::text from information_schema.column_privileges
                   where table_name = $1 and column_name = $2 and privilege_type = $3 and grantee = any ($4)""",
                *(table, column, privilege, list(GRANTS)),
            )
            assert {row[0] for row in found} == roles, (table, column, privilege)


@pytest.mark.parametrize("role", SERVICES)
async def test_role_can_ask_its_queries(
    postgres_server: PostgresServer, database: str, users: Mapping[str, str], role: str
) -> None:
    """A user who is a member of only this role is refused none of the service's queries."""
    async with connected(postgres_server.server.dsn(database, users[role])) as connection:
        assert [refusal for name in sorted(QUERIES[role]) if (refusal := await explained(connection, name))] == []


async def test_tenant_can_ask_its_queries(
    postgres_server: PostgresServer, database: str, users: Mapping[str, str]
) -> None:
    """What callers of one organization ask is answered when the api has become `headrace_tenant`."""
    async with connected(postgres_server.server.dsn(database, users["headrace_api"])) as connection:
        await connection.execute("set role headrace_tenant")
        asked = sorted(QUERIES["headrace_tenant"])
        assert [refusal for name in asked if (refusal := await explained(connection, name))] == []


@pytest.mark.parametrize("role", SERVICES)
async def test_no_grant_is_superfluous(postgres_server: PostgresServer, fresh: str, role: str) -> None:
    """Without any one of its grants, some query of the service is refused."""
    async with connected(postgres_server.server.dsn(fresh, "postgres")) as connection:
        asked = {query: sql_of(query) for query in sorted(QUERIES[role])}
        superfluous = []
        for grant, table in await _grants_of(connection, role):
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"revoke {grant} on {table} from {role}")
            await connection.execute(f"set local role {role}")
            for query, sql in asked.items():
                if table in sql and await explained(connection, query):
                    break
            else:
                superfluous.append(f"{grant} on {table}")
            await transaction.rollback()
        assert superfluous == []


async def _grants_of(connection: asyncpg.Connection, role: str) -> list[tuple[str, str]]:
    """Return each grant of a role as `(privilege, table)`, those on columns one by one."""
    found = await connection.fetch(
        """select lower(acl.privilege_type) as privilege, class.relname as name, null as attribute
           from pg_class class, aclexplode(class.relacl) acl
           where acl.grantee = $1::text::regrole and class.relkind in ('r', 'p')
           union all
           select lower(acl.privilege_type), class.relname, attribute.attname
           from pg_attribute attribute join pg_class class on class.oid = attribute.attrelid,
                aclexplode(attribute.attacl) acl
           where acl.grantee = $1::text::regrole""",
        role,
    )
    return [
        (f"{row['privilege']} ({row['attribute']})" if row["attribute"] else row["privilege"], row["name"])
        for row in found
    ]


@pytest.mark.parametrize("role", SERVICES)
async def test_role_can_do_nothing_else(
    postgres_server: PostgresServer, database: str, users: Mapping[str, str], role: str
) -> None:
    """What a service has no business with is refused: other services' data, the schema, other roles."""
    async with connected(postgres_server.server.dsn(database, users[role])) as connection:
        for statement in [*FORBIDDEN[role], *FOR_NOBODY]:
            transaction = connection.transaction()
            await transaction.start()
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
                pytest.fail(f"{role} may: {statement}")
            await transaction.rollback()


async def test_roles_are_plain(postgres_server: PostgresServer, database: str) -> None:
    """No role logs in, passes row-level security, or has a right over the cluster; only the api has another role."""
    async with connected(postgres_server.dsn(database)) as connection:
        for row in await connection.fetch("select * from pg_roles where rolname = any ($1)", list(GRANTS)):
            powers = [name for name, value in row.items() if value is True and name != "rolinherit"]
            assert powers == [], row["rolname"]
        memberships = await connection.fetch(
            """select member::regrole::text, roleid::regrole::text, inherit_option, set_option
               from pg_auth_members where member::regrole::text = any ($1)""",
            list(GRANTS),
        )
        assert [tuple(row) for row in memberships] == [("headrace_api", "headrace_tenant", False, True)]


async def test_migrations_grant_what_the_schema_describes(database_url: str, empty_database_url: str) -> None:
    """Grants, policies and the rights of functions are the same by the migrations and by schema.sql."""
    described: list[Any] = []
    async with connected(empty_database_url) as connection:
        await connection.execute(queries.read("schema.sql"))
    for dsn in (database_url, empty_database_url):
        async with connected(dsn) as connection:
            described.append([sorted(await _grants_of(connection, role)) for role in GRANTS])
            for sql in (
                "select tablename, policyname, cmd, roles::text, qual, with_check from pg_policies order by 1, 2",
                """select proname, prosecdef, proconfig, case when proname like 'headrace%' then proacl::text end
                   from pg_proc where proname like 'headrace%' order by 1""",
                """select relname, relrowsecurity, relforcerowsecurity from pg_class
                   where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
                   and relname <> 'schema_migrations' order by 1""",
            ):
                described[-1].append([tuple(row) for row in await connection.fetch(sql)])
    assert described[0] == described[1]


async def test_only_the_worker_takes_and_completes(
    postgres_server: PostgresServer, fresh: str, users: Mapping[str, str]
) -> None:
    """A service that may cancel a job or put it back cannot take it or call it completed."""
    async with connected(postgres_server.dsn(fresh)) as owner:
        job_id = await owner.fetchval(
            """with made as (
                 insert into documents (id, bucket, name, organization_id, generation)
                 values (gen_random_uuid(), 'b', 'n', 'acme', 1) returning id)
               insert into document_processing_jobs
                 (id, document_id, bucket, name, file_path, generation, organization_id)
               select gen_random_uuid(), id, 'b', 'n', 'gs://b/n', 1, 'acme' from made returning id"""
        )
    take = """update document_processing_jobs set status = 'processing', processing_stage = 'downloading',
              lease_until = now() + interval '1 minute' where id = $1"""
    complete = """update document_processing_jobs set status = 'completed', processing_stage = 'completed',
                  lease_until = null, completed_at = now() where id = $1"""
    for role in ("headrace_ingest", "headrace_recover", "headrace_api"):
        async with connected(postgres_server.server.dsn(fresh, users[role])) as service:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only the process service"):
                await service.execute(take, job_id)
    async with connected(postgres_server.server.dsn(fresh, users["headrace_process"])) as worker:
        await worker.execute(take, job_id)
        async with connected(postgres_server.server.dsn(fresh, users["headrace_api"])) as service:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only the process service"):
                await service.execute(complete, job_id)
        await worker.execute(complete, job_id)
        # The ledger was written by its trigger, although nobody may write to it.
        ledger = await worker.fetch("select status from job_events where job_id = $1 order by seq", job_id)
        assert [row["status"] for row in ledger] == ["pending", "processing", "completed"]


async def test_api_reads_text_of_one_organization_only(
    postgres_server: PostgresServer, fresh: str, users: Mapping[str, str]
) -> None:
    """The api reads passages as a tenant, and then only those of the organization that was set."""
    async with connected(postgres_server.dsn(fresh)) as owner:
        await owner.execute(
            """insert into documents (id, bucket, name, organization_id, generation)
               select gen_random_uuid(), 'b', o, o, 1 from unnest(array['acme', 'other']) o;
               insert into document_processing_jobs
                 (id, document_id, bucket, name, file_path, generation, organization_id)
               select gen_random_uuid(), id, 'b', name, 'gs://b/n', 1, organization_id from documents;
               insert into chunks (job_id, document_id, organization_id, ordinal, text, locator, text_hash)
               select id, document_id, organization_id, 0, 'text of ' || organization_id, '{}', 'x'
               from document_processing_jobs"""
        )
    async with connected(postgres_server.server.dsn(fresh, users["headrace_api"])) as service:
        assert await service.fetchval("select count(*) from documents") == 2
        async with service.transaction():
            await service.execute("select set_config('headrace.organization_id', 'acme', true)")
            await service.execute("set local role headrace_tenant")
            assert [row[0] for row in await service.fetch("select text from chunks")] == ["text of acme"]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.fetch("select text from chunks")
