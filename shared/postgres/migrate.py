"""Brings a database to the present schema: numbered files, each once, in order, under an advisory lock.

Files are named `0001_expand_….sql` or `…_contract_….sql`: an expanding migration runs before the new code is deployed
and fits the old code too; a contracting one runs when no old code is left. Locks are waited for 4 s at most, so that a
migration cannot queue up the traffic behind it.
"""

from __future__ import annotations

from importlib import resources

import asyncpg

from shared.errors import ConfigurationError
from shared.postgres.errors import translated
from shared.postgres.queries import read

MINIMUM_SERVER_VERSION = 160000


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing and return the names of the files that were applied; nothing to do is no error.

    Raises:
        ConfigurationError: the server is older than Postgres 16.
        Conflict: a lock could not be had in time; nothing of that file was applied. Run it again.
    """
    with translated():
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return await _apply(connection)
        finally:
            await connection.close(timeout=5)


async def _apply(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    if await connection.fetchval("select current_setting('server_version_num')::int") < MINIMUM_SERVER_VERSION:
        raise ConfigurationError("Postgres is too old; version 16 or newer is needed.")
    applied: list[str] = []
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(hashtext('headrace_migrate'))")
        await connection.execute(
            "create table if not exists schema_migrations (name text primary key, applied_at timestamptz default now())"
        )
    for name in migrations():
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(hashtext('headrace_migrate'))")
            if await connection.fetchval("select true from schema_migrations where name = $1", name):
                continue
            await connection.execute("set local lock_timeout = '4s'")
            await connection.execute(read(f"migrations/{name}"))
            await connection.execute("insert into schema_migrations (name) values ($1)", name)
            applied.append(name)
    return applied


def migrations() -> list[str]:
    """Return the names of all migration files, in the order in which they are applied."""
    folder = resources.files("shared.postgres").joinpath("sql", "migrations")
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
