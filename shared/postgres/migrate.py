"""Brings a database to the present schema: numbered files, each once, in order, under an advisory lock.

    python -m shared.postgres.migrate      settings from the environment: docs/upgrade.md

Files are named `0001_expand_….sql` or `…_contract_….sql`: an expanding migration runs before the new code is deployed
and fits the old code too; a contracting one runs when no old code is left. A file is one transaction, whose locks are
waited for 4 s at most, so that a migration cannot queue up the traffic behind it. A file whose first line is
`-- outside a transaction` builds indexes without blocking anybody (`create index concurrently if not exists`): it may
stop in the middle, and the next run goes on there; what a failed build leaves behind is dropped first.

Exit codes of the command: 0 done, or nothing to do; 1 a migration failed; 2 the settings or the login are wrong; 75
somebody was in the way, run it again.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg

from shared.clock import Clock, SystemClock
from shared.errors import ConfigurationError, Conflict, HeadraceError, RetryableError
from shared.postgres.errors import connecting, translated
from shared.postgres.iam import AccessTokens
from shared.postgres.queries import read
from shared.settings import MigrateSettings, load

MINIMUM_SERVER_VERSION = 160000
SERVICE_ROLES = ("headrace_api", "headrace_ingest", "headrace_process", "headrace_recover")
OUTSIDE = "-- outside a transaction"

EXIT_FAILED, EXIT_CONFIGURATION, EXIT_AGAIN = 1, 2, 75

_LOCK = "hashtext('headrace_migrate')"
_TURN_SECONDS = 600.0
_POLL_SECONDS = 0.2
_OWNER_OF_CLOUD_SQL = """select super.rolname from pg_roles me, pg_roles super
    where me.rolname = current_user and not me.rolcreaterole
    and super.rolname = 'cloudsqlsuperuser' and super.rolcreaterole and pg_has_role(me.oid, super.oid, 'set')"""
"""The right to make roles is not inherited, and users that log in to Cloud SQL with tokens cannot be given it."""
_CONCURRENTLY = re.compile(r"create (?:unique )?index concurrently if not exists (\w+) on ", re.IGNORECASE)

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


async def migrate(
    dsn: str,
    *,
    password: Callable[[], Awaitable[str]] | None = None,
    owner_role: str | None = None,
    members: Mapping[str, Sequence[str]] | None = None,
    only: Callable[[str], bool] = lambda _: True,
    told: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
    turn_seconds: float = _TURN_SECONDS,
) -> list[str]:
    """Apply what is missing and return the names of the files that were applied; nothing to do is no error.

    May be called from several places at once: one works, the others wait for their turn and find nothing to do.

    Args:
        dsn: of the user who owns the schema.
        password: asked once, instead of one in the `dsn`.
        owner_role: a role that this user becomes first, if the schema is to belong to that one; without one, a user who
            may not make roles becomes Cloud SQL's `cloudsqlsuperuser`, if it is a member.
        members: database users who are to be members of the services' roles, by role. Nobody is removed from one.
        only: which files to apply, by name.
        told: what was done, line by line.
        clock: for waiting.
        turn_seconds: how long to wait for another run.

    Raises:
        ConfigurationError: the server is older than Postgres 16, this user lacks a right, or there is no such member.
        Conflict: a lock could not be had in time; nothing of that file was applied. Run it again.
    """
    async with _connected(dsn, password, owner_role) as connection:
        await _take_turn(connection, clock or SystemClock(), turn_seconds)
        await connection.execute(
            "create table if not exists schema_migrations (name text primary key, applied_at timestamptz default now())"
        )
        applied: list[str] = []
        for name in filter(only, migrations()):
            if await connection.fetchval("select true from schema_migrations where name = $1", name):
                continue
            await _apply(connection, name)
            applied.append(name)
            told(f"applied {name}")
        for role, users in (members or {}).items():
            for user in users:
                if await _make_member(connection, role, user):
                    told(f"made {user} a member of {role}")
    return applied


def migrations() -> list[str]:
    """Return the names of all migration files, in the order in which they are applied."""
    folder = resources.files("shared.postgres").joinpath("sql", "migrations")
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))


def is_outside(text: str) -> bool:
    """Say whether a migration runs outside a transaction."""
    return text.split("\n", 1)[0].rstrip() == OUTSIDE


def outside_statements(text: str) -> list[tuple[str, str]]:
    """Return the statements of a migration that runs outside a transaction, each with the index that it builds.

    Raises:
        ValueError: it does something else, which could not be gone on with after a failure.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    statements = [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]
    found = [(statement, _CONCURRENTLY.match(" ".join(statement.split()))) for statement in statements]
    if wrong := [statement for statement, match in found if match is None]:
        raise ValueError(f"only `create index concurrently if not exists NAME on` runs outside a transaction: {wrong}")
    return [(statement, match[1]) for statement, match in found if match is not None]


@asynccontextmanager
async def _connected(
    dsn: str, password: Callable[[], Awaitable[str]] | None, owner_role: str | None
) -> AsyncIterator[Connection]:
    with connecting():
        connection = await asyncpg.connect(dsn, password=password, timeout=10)
    with translated():
        try:
            if await connection.fetchval("select current_setting('server_version_num')::int") < MINIMUM_SERVER_VERSION:
                raise ConfigurationError("Postgres is too old; version 16 or newer is needed.")
            if owner_role is None:
                owner_role = await connection.fetchval(_OWNER_OF_CLOUD_SQL)
            if owner_role is not None:
                await connection.execute("select set_config('role', $1, false)", owner_role)
            yield connection
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigurationError(
                f"the database user may not do what a migration needs ({error}); it has to own the schema and to be "
                "allowed to create roles."
            ) from error
        finally:
            await connection.close(timeout=5)


async def _take_turn(connection: Connection, clock: Clock, turn_seconds: float) -> None:
    """Hold the lock until the connection is closed.

    Asked for again and again: who waits within a statement has a snapshot, and an index that the other one builds
    concurrently would wait for that snapshot's end.
    """
    until = clock.monotonic() + turn_seconds
    while not await connection.fetchval(f"select pg_try_advisory_lock({_LOCK})"):
        if clock.monotonic() >= until:
            raise Conflict("another migration of this database is still running; run this one again later.")
        await clock.sleep(_POLL_SECONDS)


async def _apply(connection: Connection, name: str) -> None:
    text = read(f"migrations/{name}")
    record = "insert into schema_migrations (name) values ($1)"
    if not is_outside(text):
        async with connection.transaction():
            await connection.execute("set local lock_timeout = '4s'")
            await connection.execute(text)
            await connection.execute(record, name)
        return
    for statement, index in outside_statements(text):
        # Of a build that failed: it is kept up to date and used by nobody, and `if not exists` would leave it so.
        if await connection.fetchval(
            "select not indisvalid from pg_index where indexrelid = to_regclass($1)", f"public.{index}"
        ):
            await connection.execute(f'drop index concurrently public."{index}"')
        await connection.execute(statement)
    await connection.execute(record, name)


async def _make_member(connection: Connection, role: str, user: str) -> bool:
    """Make a database user a member of a service's role; False when it is one already."""
    if role not in SERVICE_ROLES:
        raise ConfigurationError(f"{role} is no role of a service; those are {', '.join(SERVICE_ROLES)}.")
    if not await connection.fetchval("select true from pg_roles where rolname = $1", user):
        raise ConfigurationError(f"there is no database user {user} who could become a member of {role}.")
    is_member = """select true from pg_auth_members
        where roleid = $1::text::regrole and member = (select oid from pg_roles where rolname = $2)
        and inherit_option"""
    if await connection.fetchval(is_member, role, user):
        return False
    wanted = "select format('grant %I to %I with inherit true, set true', $1::text, $2::text)"
    grant = await connection.fetchval(wanted, role, user)
    await connection.execute(grant)
    return True


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(settings: MigrateSettings) -> int:
    """Migrate as the settings say; return the exit code."""
    try:
        applied = await migrate(
            settings.database_url.get_secret_value(),
            password=AccessTokens() if settings.database_iam_auth else None,
            owner_role=settings.database_owner_role,
            members=settings.database_role_members,
            told=_say,
        )
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        return EXIT_CONFIGURATION
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_AGAIN if isinstance(error, RetryableError) else EXIT_FAILED
    except asyncpg.PostgresError as error:
        sys.stderr.write(f"a migration failed, and nothing of its file was applied: {error}\n")
        return EXIT_FAILED
    if not applied:
        _say(f"the schema is up to date: {migrations()[-1]}")
    return 0


def main() -> int:
    """Be the command."""
    try:
        settings = load(MigrateSettings)
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        return EXIT_CONFIGURATION
    return asyncio.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
