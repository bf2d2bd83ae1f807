"""All embedded servers together, watched: one that dies is started again under its address.

Data survives restarts; addresses change from one run to the next, and `environment()` tells them.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import structlog

from shared.clock import Clock, SystemClock
from shared.errors import ConfigurationError, DependencyUnavailable
from shared.local import lock
from shared.local.broker import EmbeddedBroker
from shared.local.gcs import EmbeddedStorage
from shared.local.postgres import EmbeddedPostgres
from shared.pubsub import topics

_LOCK_NAME = "stack.lock"
_MAX_RESTARTS = 5
_RESTART_WINDOW_SECONDS = 60.0
_LOG_MAX_BYTES = 16 * 1024 * 1024
_LOG_CHECK_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Server(Protocol):
    """What the stack needs of a server to keep it running."""

    @property
    def name(self) -> str:
        """Its name in logs and counts."""
        ...

    @property
    def pid(self) -> int:
        """The process id of the present or last run."""
        ...

    async def start(self) -> None:
        """Start again under the same address."""
        ...

    async def stop(self) -> None:
        """Stop within a bound."""
        ...

    async def wait_ended(self) -> int:
        """Wait for the end and return the exit status."""
        ...

    async def kill9(self) -> None:
        """Kill hard and wait for the end."""
        ...

    def trim_log(self, max_bytes: int) -> None:
        """Keep the log bounded."""
        ...


class LocalStack:
    """Postgres, Pub/Sub and Cloud Storage of a laptop as one async context manager. Start it from the main thread.

    A server that dies is started again, at most five times a minute; after that the body is cancelled and the
    `async with` ends with `DependencyUnavailable`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        project: str = "headrace-local",
        bucket: str = "uploads",
        durable: bool = True,
        database_url: str | None = None,
        k_service: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Describe the stack; nothing happens yet.

        Args:
            data_dir: everything that is kept; made when missing, used by one stack at a time.
            project: the project id that topics and buckets are in.
            bucket: the watched bucket; made when missing.
            durable: False skips fsync of the database for speed (tests).
            database_url: an existing database; no Postgres is started then.
            k_service: the variable K_SERVICE of this process.
            clock: for waits between restarts.

        Raises:
            ConfigurationError: this is the cloud.
        """
        if k_service:
            raise ConfigurationError(
                "the embedded servers do not run in the cloud (K_SERVICE is set); use the services"
            )
        self.data_dir = data_dir
        self.project = project
        self.bucket = bucket
        self.restarts: Counter[str] = Counter()
        self._clock = clock or SystemClock()
        self._database_url = database_url
        self._postgres = EmbeddedPostgres(data_dir / "postgres", durable=durable)
        self.broker = EmbeddedBroker(data_dir / "pubsub", topology=topics.topology(project))
        self._gcs: EmbeddedStorage | None = None
        self._resources = AsyncExitStack()
        self._tasks: asyncio.TaskGroup
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The database server; there is none when a database was given."""
        assert self._database_url is None, "the stack was given a database and runs none"
        return self._postgres

    @property
    def gcs(self) -> EmbeddedStorage:
        """The storage server."""
        assert self._gcs is not None, "LocalStack is used inside `async with`"
        return self._gcs

    def environment(self) -> dict[str, str]:
        """Return what makes the real clients talk to these servers, by the names of the environment."""
        return {
            "DATABASE_URL": self._database_url or self._postgres.dsn(),
            "GOOGLE_CLOUD_PROJECT_ID": self.project,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "PUBSUB_EMULATOR_HOST": self.broker.address,
            "STORAGE_EMULATOR_HOST": self.gcs.url,
            "BUCKET": self.bucket,
        }

    async def __aenter__(self) -> Self:
        """Start the servers.

        Raises:
            ConfigurationError: the directory is in use; the message names the process and what to do.
            DependencyUnavailable: a server does not start; the message ends with its last lines.
        """
        async with AsyncExitStack() as resources:
            _make_private(self.data_dir)
            held = resources.enter_context(lock.hold(self.data_dir / _LOCK_NAME, "the embedded stack"))
            await self._start_servers(resources)
            held.write(json.dumps(self.environment()))
            self._tasks = await resources.enter_async_context(asyncio.TaskGroup())
            for server in self._servers():
                self._watch(server)
            trimmer = self._tasks.create_task(self._trim_logs(), name="trim-logs")
            resources.callback(trimmer.cancel)
            resources.callback(self._stop_watching)
            self._resources = resources.pop_all()
        log.info("stack_started", data_dir=str(self.data_dir), **{s.name: s.pid for s in self._servers()})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._resources.aclose()
        except ExceptionGroup as group:
            raise group.exceptions[0] from error

    async def wait_restarted(self, server: Server, times: int = 1) -> None:
        """Wait until `server` was started again `times` times since the stack started."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.restarts[server.name] >= times)

    @asynccontextmanager
    async def outage(self, server: Server) -> AsyncIterator[None]:
        """Kill `server` and keep it down for the length of the block. For tests."""
        watcher = self._watchers.pop(server.name)
        watcher.cancel()
        await asyncio.wait([watcher])
        await server.kill9()
        try:
            yield
        finally:
            await server.start()
            self._watch(server)

    async def _start_servers(self, resources: AsyncExitStack) -> None:
        try:
            async with asyncio.TaskGroup() as starts:
                if self._database_url is None:
                    starts.create_task(resources.enter_async_context(self._postgres))
                starts.create_task(resources.enter_async_context(self.broker))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        # Only now: an event that finds no topic is lost.
        self._gcs = EmbeddedStorage(
            self.data_dir / "gcs",
            pubsub_address=self.broker.address,
            project=self.project,
            topic=topics.PREFIX + topics.UPLOADS,
            buckets=[self.bucket],
        )
        await resources.enter_async_context(self._gcs)

    def _servers(self) -> list[Server]:
        own: list[Server] = [self.broker, self.gcs]
        return own if self._database_url else [self._postgres, *own]

    def _watch(self, server: Server) -> None:
        self._watchers[server.name] = self._tasks.create_task(self._keep_running(server), name=f"watch-{server.name}")

    def _stop_watching(self) -> None:
        for watcher in self._watchers.values():
            watcher.cancel()

    async def _keep_running(self, server: Server) -> None:
        ends: deque[float] = deque(maxlen=_MAX_RESTARTS)
        while True:
            status = await server.wait_ended()
            now = self._clock.monotonic()
            recent = sum(now - end < _RESTART_WINDOW_SECONDS for end in ends)
            log.warning("server_ended", server=server.name, status=status, recent_restarts=recent)
            if recent >= _MAX_RESTARTS:
                raise DependencyUnavailable(
                    f"{server.name} ended {recent + 1} times within a minute; its log is below {self.data_dir}"
                )
            ends.append(now)
            await self._clock.sleep(0.0 if not recent else 0.2 * 2**recent)
            try:
                await server.start()
            except DependencyUnavailable as error:
                log.warning("server_restart_failed", server=server.name, error=str(error))
                continue  # it has ended again, which counts
            async with self._changed:
                self.restarts[server.name] += 1
                self._changed.notify_all()

    async def _trim_logs(self) -> None:
        while True:
            await self._clock.sleep(_LOG_CHECK_SECONDS)
            for server in self._servers():
                server.trim_log(_LOG_MAX_BYTES)


def running_environment(data_dir: Path) -> dict[str, str] | None:
    """Return the environment of the stack that runs on `data_dir` in any process; None when none has started up."""
    text = lock.read_held(data_dir / _LOCK_NAME)
    if not text:
        return None
    environment: dict[str, str] = json.loads(text)
    return environment


def _make_private(data_dir: Path) -> None:
    # As root, `nobody` has to pass through to its database; it cannot list the folder.
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
