"""The crew of a benchmark: service processes that are started again whenever they end, and ways to hurt them."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg

from shared.clock import SystemClock
from shared.errors import DependencyUnavailable
from shared.local.process import ChildProcess
from tests.plugins.stack import Site

WORKERS = 3
RETRY_DELAYS = {"RETRY_DELAYS_SECONDS": "[0, 5, 15, 40]"}
SETTINGS: dict[str, object] = {
    "LEASE_SECONDS": 10,
    "HEARTBEAT_SECONDS": 3,
    "RECOVER_EVERY_SECONDS": 2,
    "RECONCILE_EVERY_SECONDS": 10,
    "STUCK_JOB_THRESHOLD_MINUTES": 0.05,
    "DATABASE_POOL_TIMEOUT_SECONDS": 3,
}

AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

clock = SystemClock()


class Crew:
    """Service processes that are started again whenever they end, as every platform does."""

    def __init__(self, site: Site, said: Mapping[str, object]) -> None:
        self._site, self._said = site, said
        self.members: dict[str, ChildProcess] = {}
        self.starts: Counter[str] = Counter()

    @asynccontextmanager
    async def working(self, services: Mapping[str, str]) -> AsyncIterator[None]:
        """Keep these (name: module) running for the length of the block."""
        async with asyncio.TaskGroup() as group:
            started = [asyncio.Event() for _ in services]
            keepers = [
                group.create_task(self._keep(name, module, event))
                for (name, module), event in zip(services.items(), started, strict=True)
            ]
            await asyncio.gather(*(event.wait() for event in started))
            try:
                yield
            finally:
                for keeper in keepers:
                    keeper.cancel()

    async def kill(self, name: str) -> bool:
        """Kill -9; False if it is not up at this moment."""
        child = self.members.get(name)
        if child is None or child.returncode is not None:
            return False
        await child.kill9()
        return True

    async def _keep(self, name: str, module: str, started: asyncio.Event) -> None:
        said = RETRY_DELAYS | SETTINGS | dict(self._said) | {"WORKER_NAME": name}
        child = ChildProcess(
            name,
            [sys.executable, "-m", module],
            log_path=self._site.folder / f"{name}.log",
            ready=_has_started,
            env=self._site.process_environment(said),
        )
        try:
            while True:
                try:
                    await child.start()
                except DependencyUnavailable:  # the database is away; a platform tries again too
                    await clock.sleep(0.3)
                    continue
                self.members[name] = child
                self.starts[name] += 1
                started.set()
                await child.wait_ended()
        finally:
            await child.stop()


async def cut_connections(site: Site) -> int:
    """End every connection of the product; return 1 if there was a database to be cut off from."""
    try:
        await site.rows("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'headrace'")
    except AWAY:
        return 0  # it is away already
    return 1


async def _has_started(child: ChildProcess) -> bool:
    return "service.started" in child.log_path.read_text()
