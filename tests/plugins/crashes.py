"""A process that can be made to die, to lose a connection or to stand still at any exact point of what it does.

The points are where the outside learns something: before and after each commit and each statement outside of a
transaction, before and after each publish, each look at Storage, each download and each call of the model. The wrappers
here stand between the product's own stores and the real database; the product knows nothing of them.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from shared.errors import DependencyUnavailable
from shared.model.document import ObjectMetadata, ObjectRef
from shared.ports.broker import Message
from shared.ports.models import Embeddings, Purpose
from shared.ports.stores import Scope
from shared.postgres.pool import Database
from tests.fakes import HashEmbedder, RecordingPublisher, SimulatedBucket
from tests.plugins.road import Road


class Died(BaseException):
    """The process is no more: nothing of it may clean up, and whatever it still tries ends here too."""


class Fault(enum.StrEnum):
    """What happens at the chosen point."""

    DIES = "dies"
    CUT = "cut"
    """The connection is gone: before the commit nothing was written, after it the process does not know that it was."""
    FAILS = "fails"
    """As if it were cut, but for the connection, which the pool keeps: a new one costs more than a whole sequence."""
    STANDS_STILL = "stands still"


@dataclass
class Faults:
    """Counts the points that one process passes, and makes one of them go wrong."""

    at: int | None = None
    fault: Fault = Fault.DIES
    named: tuple[str, int] | None = None
    """Instead of `at`: a point by its name, and which time it is passed (from 0)."""
    passed: list[str] = field(default_factory=list)
    fired: str | None = None
    """The point at which it went wrong."""
    dead: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    standing: asyncio.Event = field(default_factory=asyncio.Event)

    def kill(self) -> None:
        """End the process where it stands still."""
        self.dead = True
        self.go_on.set()

    async def reach(self, point: str, *, held: Any = None, may_stand: bool = True) -> None:
        """Pass a point. `held` is the connection in use, which is closed when it is the one to be cut."""
        self._live()
        index = len(self.passed)
        self.passed.append(point)
        if self.named is not None and self.at is None and self.named == (point, self.passed.count(point) - 1):
            self.at = index
        if index != self.at:
            return
        if self.fault is Fault.STANDS_STILL:
            if not may_stand:  # it would keep others from what it has locked; the next point will do
                self.at += 1
                return
            self.fired = point
            self.standing.set()
            await self.go_on.wait()
            self._live()
            return
        self.fired = point
        if self.fault is Fault.DIES:
            self.dead = True
            raise Died(point)
        if held is None:
            raise DependencyUnavailable(f"cut {point}.")
        if self.fault is Fault.CUT:
            held.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    def _live(self) -> None:
        if self.dead:
            raise Died("already")


class FaultyConnection:
    """A connection whose statements outside of a transaction are points: each is a commit of its own."""

    def __init__(self, connection: Any, faults: Faults) -> None:
        self._connection, self._faults = connection, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def _ask(self, way: str, *arguments: Any) -> Any:
        if self._connection.is_in_transaction():
            return await getattr(self._connection, way)(*arguments)
        what = _name_of(arguments[0])
        await self._faults.reach(f"before {what}", held=self._connection)
        answer = await getattr(self._connection, way)(*arguments)
        await self._faults.reach(f"after {what}", held=self._connection)
        return answer

    async def fetch(self, *arguments: Any) -> Any:
        return await self._ask("fetch", *arguments)

    async def fetchrow(self, *arguments: Any) -> Any:
        return await self._ask("fetchrow", *arguments)

    async def fetchval(self, *arguments: Any) -> Any:
        return await self._ask("fetchval", *arguments)

    async def execute(self, *arguments: Any) -> Any:
        return await self._ask("execute", *arguments)

    async def executemany(self, *arguments: Any) -> Any:
        return await self._ask("executemany", *arguments)


class FaultyDatabase:
    """A `Database` whose commits are points."""

    def __init__(self, real: Database, faults: Faults) -> None:
        self._real, self._faults = real, faults

    @asynccontextmanager
    async def get_connection(self) -> AsyncIterator[FaultyConnection]:
        self._faults._live()
        async with self._real.get_connection() as connection:
            yield FaultyConnection(connection, self._faults)

    @asynccontextmanager
    async def transaction(self, scope: Scope | None = None) -> AsyncIterator[Any]:
        self._faults._live()
        async with self._real.get_connection() as held:
            nested = held.is_in_transaction()
            async with self._real.transaction(scope) as connection:
                seen = _Remembering(connection)
                yield seen
                if not nested:
                    # Standing still here would keep the rows locked.
                    await self._faults.reach(f"before commit of {seen.last}", held=held, may_stand=False)
            if not nested:
                await self._faults.reach(f"after commit of {seen.last}", held=held)

    async def ping(self) -> None:
        self._faults._live()
        await self._real.ping()


class _Remembering:
    """A connection that knows its last statement, so that a point has a name people can find."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.last = "nothing"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name not in {"fetch", "fetchrow", "fetchval", "execute", "executemany"}:
            return found

        async def ask(sql: str, *arguments: Any) -> Any:
            self.last = _name_of(sql)
            return await found(sql, *arguments)

        return ask


class FaultyPublisher(RecordingPublisher):
    """A `Publisher` to a shared list of messages, whose publishing is a point before and after."""

    def __init__(self, faults: Faults, messages: list[Message]) -> None:
        super().__init__()
        self.messages = messages
        self._faults = faults

    async def publish(self, message: Message) -> str:
        await self._faults.reach(f"before publish to {message.topic}", may_stand=False)
        answer = await super().publish(message)
        await self._faults.reach(f"after publish to {message.topic}", may_stand=False)
        return answer


class FaultyBucket:
    """A view of a shared bucket whose questions are points."""

    def __init__(self, real: SimulatedBucket, faults: Faults) -> None:
        self._real, self._faults = real, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def stat(self, ref: ObjectRef) -> ObjectMetadata | None:
        await self._faults.reach("before stat")
        found = await self._real.stat(ref)
        await self._faults.reach("after stat")
        return found

    async def download(self, ref: ObjectRef, generation: int, to: Path, *, limit_bytes: int) -> Any:
        await self._faults.reach("before download")
        downloaded = await self._real.download(ref, generation, to, limit_bytes=limit_bytes)
        await self._faults.reach("after download")
        return downloaded


class FaultyEmbedder:
    """A view of a shared model whose calls are points."""

    def __init__(self, real: HashEmbedder, faults: Faults) -> None:
        self._real, self._faults = real, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        await self._faults.reach("before embed")
        made = await self._real.embed(texts, purpose=purpose)
        await self._faults.reach("after embed")
        return made


def faulty_road(
    road: Road, *, at: int | None = None, fault: Fault = Fault.DIES, named: tuple[str, int] | None = None
) -> tuple[Road, Faults]:
    """Return another process on the same road: same database, bucket, model and messages, with faults of its own."""
    faults = Faults(at=at, fault=fault, named=named)
    process = Road(
        database=FaultyDatabase(road.database, faults),  # type: ignore[arg-type]
        url=road.url,
        tracing=road.tracing,
        metrics=road.metrics,
        bucket=FaultyBucket(road.bucket, faults),  # type: ignore[arg-type]
        publisher=FaultyPublisher(faults, road.publisher.messages),
        embedder=FaultyEmbedder(road.embedder, faults),  # type: ignore[arg-type]
    )
    return process, faults


def _name_of(sql: str) -> str:
    """Return the description that each named statement opens with, else the statement's first words."""
    return sql.lstrip("- ").splitlines()[0].split(".")[0][:60]
