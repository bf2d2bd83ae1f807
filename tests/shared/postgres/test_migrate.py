"""Migrations as a command: settings, turns, memberships, and files that run outside a transaction."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import pytest

from shared.errors import ConfigurationError, Conflict
from shared.local.process import MINIMAL_ENVIRONMENT
from shared.postgres import migrate as migration
from shared.postgres.migrate import SERVICE_ROLES, is_outside, migrate, outside_statements
from shared.settings import MigrateSettings, load
from tests.plugins.postgres import PostgresServer
from tests.plugins.stack import ROOT

FILES = [f"applied {name}" for name in migration.migrations()]


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Lend one connection."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def user(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the name of a login user, as Cloud SQL names service accounts."""
    name = f"account-{uuid.uuid4().hex[:8]}@project.iam"

    async def run(statement: str) -> None:
        async with connected(postgres_server.server.dsn("postgres", "postgres")) as superuser:
            await superuser.execute(statement)

    postgres_server.run(run(f'create role "{name}" login'))
    yield name
    postgres_server.run(run(f'drop role "{name}"'))


@contextmanager
def extra_migrations(monkeypatch: pytest.MonkeyPatch, folder: Path, **files: str) -> Iterator[None]:
    """Put the folder's files in the place of the product's migrations, as a release of another day would."""
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    with monkeypatch.context() as patch:
        patch.setattr(migration, "migrations", lambda: sorted(path.name for path in folder.glob("*.sql")))
        patch.setattr(migration, "read", lambda path: (folder / path.removeprefix("migrations/")).read_text())
        yield


async def command(**environment: str) -> tuple[int, list[str], str]:
    """Run the command; return exit code, lines and complaints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "shared.postgres.migrate"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=MINIMAL_ENVIRONMENT | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        cwd="/",
    )
    async with asyncio.timeout(60):
        output, complaints = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().splitlines(), complaints.decode()


async def test_command_applies_and_makes_members(empty_database_url: str, user: str) -> None:
    """The command says what it applied and who became a member; the second time it finds nothing to do."""
    said = {
        "DATABASE_URL": empty_database_url,
        "DATABASE_ROLE_MEMBERS": json.dumps({"headrace_ingest": [user], "headrace_api": [user]}),
    }
    code, lines, complaints = await command(**said)
    assert (code, complaints) == (0, "")
    assert lines == [*FILES, *(f"made {user} a member of {role}" for role in ("headrace_ingest", "headrace_api"))]
    async with connected(empty_database_url) as connection:
        assert await connection.fetchval("select pg_has_role($1, 'headrace_ingest', 'usage')", user)
        assert not await connection.fetchval("select pg_has_role($1, 'headrace_recover', 'usage')", user)
    code, lines, complaints = await command(**said)
    assert (code, lines, complaints) == (0, [f"the schema is up to date: {migration.migrations()[-1]}"], "")


async def test_two_runs_at_once_apply_each_file_once(empty_database_url: str) -> None:
    """Of two commands that start together, each file is applied by one; both end well."""
    runs = await asyncio.gather(*(command(DATABASE_URL=empty_database_url) for _ in range(2)))
    assert [code for code, _, _ in runs] == [0, 0], runs
    assert sorted(line for _, lines, _ in runs for line in lines if line.startswith("applied")) == FILES


async def test_two_databases_of_a_cluster_at_once(postgres_server: PostgresServer, database_names: list[str]) -> None:
    """Roles belong to the cluster; databases that are migrated at the same moment do not disturb each other."""
    applied = await asyncio.gather(*(migrate(postgres_server.dsn(name)) for name in database_names))
    assert applied == [migration.migrations()] * len(database_names)


@pytest.fixture
def database_names(postgres_server: PostgresServer) -> Iterator[list[str]]:
    """Give three empty databases."""
    with postgres_server.database() as one, postgres_server.database() as two, postgres_server.database() as three:
        yield [one, two, three]


async def test_wrong_settings_are_told_with_their_exit_code(
    database_url: str, user: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that are missing, or name nobody, end with 2 and a sentence; the address is not shown."""
    code, _, complaints = await command()
    assert code == migration.EXIT_CONFIGURATION
    assert "DATABASE_URL" in complaints
    for members, sentence in (
        ({"headrace_boss": [user]}, "headrace_boss is no role of a service"),
        ({"headrace_api": ["nobody-here"]}, "there is no database user nobody-here"),
    ):
        monkeypatch.setenv("DATABASE_ROLE_MEMBERS", json.dumps(members))
        assert (
            await migration.run(load(MigrateSettings, {"DATABASE_URL": database_url})) == migration.EXIT_CONFIGURATION
        )
        assert sentence in capsys.readouterr().err
    said = {"DATABASE_URL": "postgresql://user:hunter2@127.0.0.1:1/none"}  # nobody listens there
    assert await migration.run(load(MigrateSettings, said)) == migration.EXIT_AGAIN
    assert "hunter2" not in capsys.readouterr().err


async def test_user_without_rights_is_told_so(
    postgres_server: PostgresServer, database_names: list[str], user: str
) -> None:
    """A user who may not make tables ends with a sentence about rights; one who may become the owner does."""
    name = database_names[0]
    dsn = postgres_server.server.dsn(name, user.replace("@", "%40"))
    with pytest.raises(ConfigurationError, match="own the schema"):
        await migrate(dsn)
    async with connected(postgres_server.server.dsn("postgres", "postgres")) as superuser:
        await superuser.execute(f'grant headrace to "{user}"')
    assert await migrate(dsn, owner_role="headrace") == migration.migrations()
    async with connected(postgres_server.dsn(name)) as connection:
        assert await connection.fetchval("select tableowner from pg_tables where tablename = 'chunks'") == "headrace"


async def test_user_of_cloud_sql_becomes_its_owner(
    postgres_server: PostgresServer, migrated_template: str, database_names: list[str], user: str
) -> None:
    """A user who may not make roles becomes `cloudsqlsuperuser`, if it is a member, without being told to."""
    name = database_names[0]
    async with connected(postgres_server.server.dsn(name, "postgres")) as superuser:
        await superuser.execute("create role cloudsqlsuperuser createrole")
        try:
            await superuser.execute(
                f"""alter database "{name}" owner to cloudsqlsuperuser; grant cloudsqlsuperuser to "{user}";
                grant headrace_service, headrace_tenant, headrace_api to cloudsqlsuperuser with admin option"""
            )
            dsn = postgres_server.server.dsn(name, user.replace("@", "%40"))
            assert await migrate(dsn, members={"headrace_api": [user]}) == migration.migrations()
            owner = await superuser.fetchval("select tableowner from pg_tables where tablename = 'chunks'")
            assert owner == "cloudsqlsuperuser"
        finally:
            await superuser.execute(
                f"""drop owned by cloudsqlsuperuser cascade; alter database "{name}" owner to headrace;
                drop role cloudsqlsuperuser"""
            )


async def test_who_waits_too_long_for_a_turn_gives_up(database_url: str) -> None:
    """While another run holds the lock, nothing is applied, and the error says to run it again."""
    async with connected(database_url) as other:
        await other.execute("select pg_advisory_lock(hashtext('headrace_migrate'))")
        with pytest.raises(Conflict, match="run this one again"):
            await migrate(database_url, turn_seconds=0.3)


BUILD = (
    "-- outside a transaction\n-- Why.\ncreate unique index concurrently if not exists people_once on people (name);\n"
)


async def test_index_is_built_without_a_transaction(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that fails leaves an invalid index and no record; the next run drops it and goes on."""
    files = {
        "0001_expand_people": "create table people (name text); insert into people values ('Ada'), ('Ada')",
        "0002_expand_build": BUILD + "create index concurrently if not exists people_by_name on people (name);\n",
    }
    with extra_migrations(monkeypatch, tmp_path, **files):
        with pytest.raises(asyncpg.UniqueViolationError):
            await migrate(empty_database_url)
        async with connected(empty_database_url) as connection:
            valid = "select indisvalid from pg_index where indexrelid = to_regclass($1)"
            assert await connection.fetchval(valid, "people_once") is False
            assert await connection.fetchval(valid, "people_by_name") is None
            await connection.execute("delete from people")
            assert await migrate(empty_database_url) == ["0002_expand_build.sql"]
            assert await connection.fetchval(valid, "people_once") is True
            assert await connection.fetchval(valid, "people_by_name") is True
        assert await migrate(empty_database_url) == []


async def test_index_is_built_while_another_run_waits(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that wait for their turn do not hold up an index that is built concurrently."""
    files = {"0001_expand_people": "create table people (name text)", "0002_expand_build": BUILD}
    with extra_migrations(monkeypatch, tmp_path, **files):
        async with asyncio.timeout(60):
            applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(3)))
    assert sorted(applied) == [[], [], ["0001_expand_people.sql", "0002_expand_build.sql"]]


def test_only_what_can_be_gone_on_with_runs_outside() -> None:
    """A file that runs outside a transaction may build indexes and nothing else."""
    assert is_outside(BUILD)
    assert not is_outside("-- Why.\n" + BUILD)
    assert [index for _, index in outside_statements(BUILD)] == ["people_once"]
    for text in ("drop table people;", "create index concurrently twice on people (name);", "create index a on b (c);"):
        with pytest.raises(ValueError, match="outside a transaction"):
            outside_statements(text)


def test_every_role_has_a_service() -> None:
    """Members are taken for the roles that the migrations make."""
    assert set(SERVICE_ROLES) == {f"headrace_{name}" for name in ("api", "ingest", "process", "recover")}
