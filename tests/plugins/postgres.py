"""Databases for tests: one embedded cluster for each xdist worker, one migrated template, a clone for each test."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import asyncpg
import pytest

from shared.local.cluster import ROLE
from shared.local.postgres import EmbeddedPostgres

T = TypeVar("T")


class PostgresServer:
    """The worker's cluster, driven from synchronous fixtures by a loop of its own."""

    def __init__(self, server: EmbeddedPostgres, runner: asyncio.Runner) -> None:
        self.server = server
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run asynchronous set-up outside of every test's loop."""
        return self._runner.run(work)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """Create a database owned by the product's role and give its name; dropped with its connections at the end."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(self._execute(f'create database "{name}" template "{template}" owner {ROLE}'))
        try:
            yield name
        finally:
            self.run(self._execute(f'drop database "{name}" with (force)'))

    def dsn(self, database: str) -> str:
        """The product's own connection string for that database."""
        return self.server.dsn(database)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server.dsn("postgres", "postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def reachable_dir() -> Iterator[Path]:
    """Give a folder that servers running as another user can enter; `tmp_path` is closed to them when we are root."""
    with TemporaryDirectory(prefix="headrace-tests-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_server(stack: str, reachable_dir: Path) -> Iterator[PostgresServer]:
    """Give this worker's cluster; without fsync."""
    if stack != "embedded":
        pytest.skip(f"--stack={stack} has no databases for tests yet")
    # The factory keeps this loop out of the thread's "current loop", which belongs to pytest-asyncio.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        server = EmbeddedPostgres(reachable_dir / "postgres", durable=False, max_connections=200)
        runner.run(server.__aenter__())
        try:
            yield PostgresServer(server, runner)
        finally:
            runner.run(server.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the name of a database with all migrations applied, to clone; nobody stays connected to it."""
    from shared.postgres.migrate import migrate

    with postgres_server.database() as name:
        postgres_server.run(migrate(postgres_server.dsn(name)))
        yield name


@pytest.fixture
def database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """Give a fresh database with the product's schema, as the product's own role."""
    with postgres_server.database(migrated_template) as name:
        yield postgres_server.dsn(name)


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Give a fresh database without any schema (the vector extension is there), as the product's own role."""
    with postgres_server.database() as name:
        yield postgres_server.dsn(name)
