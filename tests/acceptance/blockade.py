"""Stops a worker at an exact write: a trigger in the test's database waits for a lock that the test holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.plugins.stack import Site, eventually

_LOCK = 4711


@dataclass
class Blockade:
    """Writes that match wait until the block of `blockade` ends or `lift` is called."""

    site: Site
    connection: object

    async def held(self, count: int = 1) -> None:
        """Wait until so many workers' transactions stand before it."""

        async def look() -> bool:
            return await self._waiting() >= count

        await eventually(look)

    async def lift(self) -> None:
        """Let everything pass, and wait until what stood before it has ended one way or the other."""
        pids = [row["pid"] for row in await self.site.rows(_WAITING, _LOCK)]
        await self.connection.execute("select pg_advisory_unlock_all()")  # type: ignore[attr-defined]

        async def look() -> bool:
            return not await self.site.value(
                "select count(*) from pg_stat_activity where pid = any ($1) and xact_start is not null", pids
            )

        await eventually(look)

    async def _waiting(self) -> int:
        return len(await self.site.rows(_WAITING, _LOCK))


_WAITING = "select pid from pg_locks where locktype = 'advisory' and objid = $1 and not granted"


@asynccontextmanager
async def blockade(site: Site, table: str, event: str, condition: str) -> AsyncIterator[Blockade]:
    """Make `event` (such as `update of media_type`) on `table` wait wherever `condition` on `new` holds."""
    async with site.connection() as connection:
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        await connection.execute(
            f"create function blockade() returns trigger language plpgsql as $$ begin "
            f"if {condition} then perform pg_advisory_xact_lock_shared({_LOCK}); end if; return new; end $$"
        )
        await connection.execute(
            f"create trigger blockade before {event} on {table} for each row execute function blockade()"
        )
        try:
            yield Blockade(site, connection)
        finally:
            await connection.execute("select pg_advisory_unlock_all()")
            await connection.execute(f"drop trigger blockade on {table}")
            await connection.execute("drop function blockade()")


@asynccontextmanager
async def counting(site: Site, table: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Count the rows that anybody tries to insert into `table`, those that are there already and are not stored too."""
    async with site.connection() as connection:
        # A sequence, because it counts what is rolled back as well.
        await connection.execute(f"create sequence tried_{table} minvalue 0 start 0")
        await connection.execute(f"select nextval('tried_{table}')")
        await connection.execute(
            f"create function count_{table}() returns trigger language plpgsql as $$ begin "
            f"perform nextval('tried_{table}'); return new; end $$"
        )
        await connection.execute(
            f"create trigger counting before insert on {table} for each row execute function count_{table}()"
        )

    async def tried() -> int:
        count: int = await site.value(f"select last_value from tried_{table}")
        return count

    yield tried
