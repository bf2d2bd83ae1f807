"""The connection pool: one per process, and the only way to a connection.

    async with db.get_connection() as connection: ...   # always goes back: also on error and cancellation
    async with db.transaction() as connection: ...      # the same, in a transaction (nested: a savepoint)

A task that already holds a connection gets the same one again, so nesting cannot deadlock the pool; a child task takes
its own. Waiting for a connection is bounded and ends in `PoolExhausted`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
from pgvector.asyncpg import register_vector

from shared.clock import Clock, SystemClock
from shared.errors import PoolExhausted
from shared.ports.stores import Scope
from shared.postgres.errors import connecting, translated
from shared.telemetry.instruments import POOL_ACQUIRE_SECONDS
from shared.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolStats:
    """The pool at one moment; `acquire_seconds` is the sum over `acquired` acquisitions since the start."""

    size: int
    in_use: int
    waiting: int
    acquired: int
    acquire_seconds: float


class Database:
    """A pool of connections to one database. Open it with `open_database`."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        acquire_timeout_seconds: float,
        clock: Clock,
        metrics: Metrics | None = None,
    ) -> None:
        """Take a pool that is open; how long connections are waited for is recorded on `metrics`."""
        self._metrics = metrics
        self._pool = pool
        self._timeout = acquire_timeout_seconds
        self._clock = clock
        self._held: dict[asyncio.Task[Any], Connection] = {}
        self._waiting = 0
        self._acquired = 0
        self._acquire_seconds = 0.0

    @asynccontextmanager
    async def get_connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for the block; this task's own one if it holds one already.

        Raises:
            PoolExhausted: none became free in time.
            DependencyUnavailable: Postgres does not answer, now or during the block.
            Conflict: the block met another transaction.
        """
        task = asyncio.current_task()
        assert task is not None, "connections are lent to tasks"
        held = self._held.get(task)
        if held is not None:
            yield held
            return
        with translated():
            connection = await self._acquire()
            self._held[task] = connection
            try:
                yield connection
            finally:
                del self._held[task]
                # Shielded inside asyncpg: a cancelled task still gives its connection back.
                await self._pool.release(connection)

    async def _acquire(self) -> Connection:
        started = self._clock.monotonic()
        self._waiting += 1
        try:
            connection = await self._pool.acquire(timeout=self._timeout)
        except TimeoutError as error:
            self._record(started, "exhausted")
            _log.warning(
                "pool.exhausted",
                pool="main",
                size=self._pool.get_size(),
                waiting=self._waiting,
                error_code="POOL_EXHAUSTED",
            )
            raise PoolExhausted from error
        finally:
            self._waiting -= 1
        self._record(started, "ok")
        return connection

    def _record(self, started: float, outcome: str) -> None:
        seconds = self._clock.monotonic() - started
        self._acquired += outcome == "ok"
        self._acquire_seconds += seconds
        if self._metrics is not None:
            self._metrics.record(POOL_ACQUIRE_SECONDS, seconds, pool="main", outcome=outcome)

    @asynccontextmanager
    async def transaction(self, scope: Scope | None = None) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction: committed at the end of the block, rolled back when it raises.

        With a scope that names an organization, row-level security holds the transaction to that organization's rows.
        """
        async with self.get_connection() as connection, connection.transaction():
            if scope is not None and scope.organization_id is not None:
                # What a tenant asks is planned for its rows and filters each time. One plan for all of them would put
                # exact comparison before the index of vectors, once a connection has been used for a while.
                await connection.execute(
                    "select set_config('headrace.organization_id', $1, true),"
                    " set_config('plan_cache_mode', 'force_custom_plan', true)",
                    scope.organization_id,
                )
                await connection.execute("set local role headrace_tenant")
            yield connection

    async def ping(self) -> None:
        """Return if the database answers."""
        async with self.get_connection() as connection:
            await connection.fetchval("select 1")

    def stats(self) -> PoolStats:
        """Return the pool's figures at this moment."""
        size = self._pool.get_size()
        return PoolStats(
            size=size,
            in_use=size - self._pool.get_idle_size(),
            waiting=self._waiting,
            acquired=self._acquired,
            acquire_seconds=self._acquire_seconds,
        )


@asynccontextmanager
async def open_database(
    dsn: str,
    *,
    password: Callable[[], Awaitable[str]] | None = None,
    size: int = 10,
    acquire_timeout_seconds: float = 10.0,
    application_name: str = "headrace",
    metrics: Metrics | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Database]:
    """Open the pool for the block. Connections are made when they are needed, `size` at most.

    `password` is asked for each new connection, and takes the place of one in the `dsn`; those that are open go on when
    it changes.

    Raises:
        ConfigurationError: the `dsn` cannot be read; the message repeats nothing of it.
        AuthenticationError: Postgres refuses the login.
        DependencyUnavailable: Postgres does not answer.
    """
    with connecting():
        pool = await asyncpg.create_pool(
            dsn,
            password=password,
            min_size=1,
            max_size=size,
            init=_prepare,
            reset=_reset,
            command_timeout=60,
            timeout=10,
            max_inactive_connection_lifetime=300,
            server_settings={
                "application_name": application_name,
                "statement_timeout": "30s",
                "idle_in_transaction_session_timeout": "60s",
                "timezone": "UTC",
                # HNSW with filters: go on searching until enough rows pass (pgvector 0.8).
                "hnsw.iterative_scan": "strict_order",
            },
        )
    try:
        yield Database(
            pool, acquire_timeout_seconds=acquire_timeout_seconds, clock=clock or SystemClock(), metrics=metrics
        )
    finally:
        try:
            async with asyncio.timeout(5):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Teach a new connection our types, once."""
    await register_vector(connection)
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


async def _reset(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Leave nothing behind for the next borrower. Session state is never set, so only a transaction can be open."""
    if connection.is_in_transaction():
        await connection.execute("rollback")
