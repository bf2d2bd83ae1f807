"""Database users as services have them in the cloud: each a member of only its own role, owner of nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from tests.plugins.postgres import PostgresServer

SERVICES = ("headrace_ingest", "headrace_process", "headrace_recover", "headrace_api")


@contextmanager
def logins(server: PostgresServer) -> Iterator[dict[str, str]]:
    """Make a login user for each role of a service; gives their names by role. The roles have to be there."""
    made = {role: f"login_{uuid.uuid4().hex[:12]}" for role in SERVICES}

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(server.dsn("postgres"))
        try:
            for role, login in made.items():
                await connection.execute(statement.format(role=role, login=login))
        finally:
            await connection.close()

    server.run(run('create role "{login}" login in role {role}'))
    try:
        yield made
    finally:
        server.run(run('drop role "{login}"'))
