"""The pool: every connection comes back, whatever happens, and waiting for one is bounded."""

import asyncio
import random

import asyncpg
import pytest

from shared.errors import ConfigurationError, Conflict, DependencyUnavailable, PoolExhausted
from shared.ports.stores import Scope
from shared.postgres.pool import Database, open_database
from shared.worker.gate import is_outage


async def test_pool_exhausted_within_its_bound(database_url: str) -> None:
    """When all connections are held a caller gets `PoolExhausted` after the bound; one that waits less succeeds."""
    async with open_database(database_url, size=2, acquire_timeout_seconds=0.2) as database:
        release = asyncio.Event()
        held = asyncio.Semaphore(0)

        async def hold() -> None:
            async with database.get_connection():
                held.release()
                await release.wait()

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(hold())
                await held.acquire()
            assert database.stats().in_use == 2
            started = asyncio.get_running_loop().time()
            with pytest.raises(PoolExhausted):
                await database.ping()
            assert asyncio.get_running_loop().time() - started < 2
            waiting = group.create_task(database.ping())
            release.set()
        await waiting
        assert database.stats().in_use == 0
        assert database.stats().waiting == 0


async def test_ten_thousand_operations_with_errors_and_cancellations_leave_every_connection_in_the_pool(
    database_url: str,
) -> None:
    """Failing statements, exceptions in the block and cancelled tasks at any point: nothing is lost from the pool."""
    chance = random.Random(7)
    async with open_database(database_url, size=5) as database:

        async def operate(kind: int) -> None:
            async with database.transaction() as connection:
                await connection.fetchval("select $1::int", kind)
                if kind == 0:
                    raise RuntimeError("in the block")
                if kind == 1:
                    await connection.execute("select 1 / 0")
                if kind == 2:
                    await connection.execute("select pg_sleep(0.02)")

        async def one(kind: int) -> None:
            task = asyncio.ensure_future(operate(kind))
            if kind == 2:
                # Cancelled while waiting for a connection, while asking, or while the statement runs.
                for _ in range(chance.randrange(12)):
                    await asyncio.wait([task], timeout=0)
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and kind > 2:
                assert task.exception() is None

        for _ in range(100):
            await asyncio.gather(*(one(chance.randrange(6)) for _ in range(100)))
        stats = database.stats()
        assert (stats.in_use, stats.waiting) == (0, 0)
        async with asyncio.TaskGroup() as group:
            held = asyncio.Barrier(6)
            for _ in range(5):
                group.create_task(_hold(database, held))
            await held.wait()  # all five connections are to be had at once


async def _hold(database: Database, together: asyncio.Barrier) -> None:
    async with database.get_connection() as connection:
        assert await connection.fetchval("select 1") == 1
        await together.wait()


async def test_server_didnt_return_client_encoding_ten_thousand_events_through_a_pool_of_five(
    database_url: str,
) -> None:
    """Old fault: "server didn't return client encoding" when many events shared a few connections."""
    async with open_database(database_url, size=5, acquire_timeout_seconds=60) as database:

        async def event(number: int) -> None:
            async with database.get_connection() as connection:
                assert await connection.fetchval("select $1::int", number) == number

        for start in range(0, 10_000, 1000):
            await asyncio.gather(*(event(number) for number in range(start, start + 1000)))
        assert database.stats().size <= 5
        assert database.stats().acquired == 10_000


async def test_nested_use_in_one_task_reuses_the_connection(database_url: str) -> None:
    """A task that holds a connection gets the same one again, even from a pool of one; a child task takes its own."""
    async with open_database(database_url, size=2, acquire_timeout_seconds=0.2) as database:
        async with database.transaction() as outer:
            async with database.transaction() as inner:
                assert inner is outer
            async with asyncio.TaskGroup() as group:
                other = group.create_task(_backend(database))
            assert other.result() != await outer.fetchval("select pg_backend_pid()")
            assert database.stats().in_use == 1


async def _backend(database: Database) -> int:
    async with database.get_connection() as connection:
        pid: int = await connection.fetchval("select pg_backend_pid()")
        return pid


async def test_a_killed_connection_is_a_temporary_failure_and_is_replaced(database_url: str) -> None:
    """When Postgres ends the session under an operation, the caller is told so, and the next operation works."""
    async with open_database(database_url, size=1) as database:
        killer = await asyncpg.connect(database_url)
        try:
            with pytest.raises(DependencyUnavailable):
                async with database.get_connection() as connection:
                    await killer.execute(
                        "select pg_terminate_backend($1)", await connection.fetchval("select pg_backend_pid()")
                    )
                    await connection.fetchval("select 1")
        finally:
            await killer.close()
        await database.ping()


async def test_two_transactions_that_meet_are_a_conflict(database_url: str) -> None:
    """A serialization failure comes out as `Conflict`: run it again."""
    async with open_database(database_url, size=2) as database:
        async with database.get_connection() as connection:
            await connection.execute("create table counters (n int); insert into counters values (0)")
        both_read = asyncio.Barrier(2)

        async def raise_counter() -> None:
            async with database.get_connection() as connection, connection.transaction(isolation="serializable"):
                await connection.fetchval("select n from counters")
                await both_read.wait()
                await connection.execute("update counters set n = n + 1")

        results = await asyncio.gather(raise_counter(), raise_counter(), return_exceptions=True)
        assert sorted(type(result) for result in results if result is not None) == [Conflict]


async def test_a_scope_sees_only_its_organization(database_url: str) -> None:
    """Row-level security holds a tenant's transaction to its own rows, whatever the query says; it cannot write."""
    async with open_database(database_url, size=2) as database:
        async with database.transaction() as connection:
            for organization in ("mine", "theirs"):
                await connection.execute(
                    "insert into documents (id, bucket, name, organization_id, generation) "
                    "values (gen_random_uuid(), 'b', $1, $1, 1)",
                    organization,
                )
        async with database.transaction(Scope(organization_id="mine")) as connection:
            assert await connection.fetch("select name from documents") == [("mine",)]
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute("update documents set name = 'x'")
        async with database.transaction() as connection:
            assert await connection.fetchval("select count(*) from documents") == 2


async def test_a_statement_that_takes_too_long_is_not_taken_for_an_outage(database_url: str) -> None:
    """The server's own time-out has a code of its own, and the connection can be used on."""
    async with open_database(database_url, size=1) as database:
        with pytest.raises(DependencyUnavailable) as caught:
            async with database.transaction() as connection:
                await connection.execute("set local statement_timeout = '20ms'")
                await connection.execute("select pg_sleep(30)")
        assert caught.value.code == "DATABASE_TIMEOUT"
        assert not is_outage(caught.value)
        await database.ping()


async def test_an_address_that_cannot_be_read_is_a_wrong_setting() -> None:
    """A service with it does not start, rather than wait for ever; its message repeats no password."""
    with pytest.raises(ConfigurationError) as caught:
        async with open_database("mysql://user:secret@host/name"):
            pass
    assert "secret" not in caught.value.message


async def test_a_server_that_only_reads_is_an_outage(database_url: str) -> None:
    """A standby that has not taken over yet refuses to write; that passes, so no attempt is charged."""
    async with open_database(database_url, size=1) as database:
        with pytest.raises(DependencyUnavailable) as caught:
            async with database.transaction() as connection:
                await connection.execute("set transaction read only")
                await connection.execute("delete from documents")
        assert caught.value.code == "DATABASE_UNAVAILABLE"
        assert is_outage(caught.value)


async def test_a_column_that_a_migration_adds_is_an_outage_of_one_moment(database_url: str) -> None:
    """A transaction in which rows are of another shape than when it was asked before fails; the next one does not."""
    async with open_database(database_url, size=2) as database:
        migration = await asyncpg.connect(database_url)

        async def ask() -> None:
            async with database.transaction() as connection:
                await connection.fetch("select * from documents")

        try:
            async with asyncio.TaskGroup() as group, database.transaction() as connection:
                await connection.fetch("select * from documents")
                await group.create_task(ask())  # on the pool's other connection
            await migration.execute("alter table documents add column later text")
        finally:
            await migration.close()
        with pytest.raises(DependencyUnavailable) as caught:
            await ask()
        assert is_outage(caught.value)
        async with asyncio.TaskGroup() as group, database.transaction() as connection:
            await connection.fetch("select * from documents")
            await group.create_task(ask())
