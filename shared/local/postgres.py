"""Postgres with pgvector out of a wheel, run as our direct child on a Unix socket.

Nobody but the user who runs it can connect: there is no TCP port, and the socket lies in a 0700 folder (which is why
the roles need no passwords). The cluster survives kill -9 of the server, of this process, or of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import asyncpg
import structlog

from shared.errors import DependencyUnavailable
from shared.local import cluster
from shared.local.lock import hold
from shared.local.process import ChildProcess, Owner

DATABASE = cluster.ROLE
_PORT = 5432  # names the socket file; nothing listens on it
_ORPHAN_SECONDS = 20.0
_START_TRIES = 4

log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """One cluster as an async context manager. Start it from the main thread."""

    name = "postgres"

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool = True,
        max_connections: int = 100,
        root_home: Path = Path("/var/lib/headrace"),
        ready_seconds: float = 60.0,
    ) -> None:
        """Describe the server; nothing happens yet.

        Args:
            data_dir: the folder that belongs to this server; made when missing.
            durable: False skips fsync for speed (tests): survives kill -9, not a failure of the machine.
            max_connections: of all databases together.
            root_home: only for root: where the cluster lives when `nobody` cannot reach `data_dir`.
            ready_seconds: how long a start may take, crash recovery included.
        """
        self.data_dir = data_dir
        self._durable = durable
        self._max_connections = max_connections
        self._root_home = root_home
        self._ready_seconds = ready_seconds
        self._owner: Owner | None = None
        self._resources = AsyncExitStack()
        self._child: ChildProcess | None = None
        self.socket_directory = Path()
        self.home = data_dir

    def dsn(self, database: str = DATABASE, user: str = cluster.ROLE) -> str:
        """Return the connection string; it stays the same over restarts within one `async with`."""
        folder = quote(str(self.socket_directory), safe="/")
        return f"postgresql://{user}@/{database}?host={folder}&port={_PORT}"

    async def ensure_user(self, name: str) -> None:
        """Make a user that may log in and nothing else, if there is none of this name yet."""
        connection = await asyncpg.connect(self.dsn("postgres", "postgres"), timeout=10)
        try:
            if not await connection.fetchval("select true from pg_roles where rolname = $1", name):
                await connection.execute(
                    await connection.fetchval("select format('create role %I login', $1::text)", name)
                )
        finally:
            await connection.close(timeout=5)

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._started().pid

    async def __aenter__(self) -> Self:
        """Make the cluster on the first use and start it.

        Raises:
            ConfigurationError: the folder is in use by another process or belongs to another user, or we have no name.
            DependencyUnavailable: it does not start; the message ends with the server's last lines.
        """
        async with AsyncExitStack() as resources:
            self._owner = cluster.unprivileged_owner()
            self.home = cluster.choose_home(self.data_dir, self._owner, self._root_home)
            resources.enter_context(hold(self.home / "lock", "the embedded Postgres"))
            binaries = cluster.usable_binaries(cluster.find_binaries(), self.home, self._owner)
            data = await cluster.ensure_cluster(self.home, binaries, self._owner, durable=self._durable)
            await _end_orphan(data)
            self.socket_directory = cluster.make_socket_directory(self.home, self._owner)
            resources.callback(cluster.remove_socket_directory, self.home)
            self._child = self._describe(binaries, data)
            resources.push_async_callback(self.stop)
            await self.start()
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def start(self) -> None:
        """Start the server again after it ended, under the same address.

        Raises:
            DependencyUnavailable: see `__aenter__`.
        """
        child = self._started()
        for left in reversed(range(_START_TRIES)):
            try:
                await child.start()
            except DependencyUnavailable:
                # Backends of a killed server hold its shared memory until they notice; a new one refuses meanwhile.
                if not left or "still in use" not in child.tail():
                    raise
                await asyncio.sleep(0.5)
            else:
                return

    async def stop(self) -> None:
        """Stop the server within a bound: fast shutdown, then immediate, then kill."""
        await self._started().stop()

    async def wait_ended(self) -> int:
        """Wait for the server's end, whoever causes it."""
        return await self._started().wait_ended()

    async def kill9(self) -> None:
        """Kill the postmaster hard and wait until it is gone. For tests."""
        await self._started().kill9()

    def trim_log(self, max_bytes: int) -> None:
        """Empty the server's log when it is longer than `max_bytes`."""
        self._started().trim_log(max_bytes)

    def _started(self) -> ChildProcess:
        assert self._child is not None, "EmbeddedPostgres is used inside `async with`"
        return self._child

    def _describe(self, binaries: cluster.Binaries, data: Path) -> ChildProcess:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_directory),
            "unix_socket_permissions": "0700",
            "port": str(_PORT),
            "max_connections": str(self._max_connections),
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
        }
        if not self._durable:
            # Commits still reach the kernel, so that tests may kill the server; only the machine must not fail.
            settings |= {"fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0"}
        argv: list[str | Path] = [binaries.bin / "postgres", "-D", data]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return ChildProcess(
            self.name,
            argv,
            log_path=self.home / "postgres.log",
            ready=self._answers,
            ready_seconds=self._ready_seconds,
            # SIGTERM would wait for clients to leave, for ever.
            stop=((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0)),
            death_signal=signal.SIGINT,
            owner=self._owner,
        )

    async def _answers(self, _child: ChildProcess) -> bool:
        try:
            connection = await asyncpg.connect(self.dsn("postgres", "postgres"), timeout=5.0)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            return False
        await connection.close()
        return True


async def _end_orphan(data: Path) -> None:
    """End what an earlier process of ours left running on `data`. We hold the lock, so nobody else can own it."""
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text().split("\n", 1)[0] or 0)
    if _serves(pid, data):
        log.info("postgres_orphan_found", pid=pid)
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ORPHAN_SECONDS):
                    while _serves(pid, data):  # noqa: ASYNC110 - not our child: there is nothing to wait on
                        await asyncio.sleep(0.02)
                    break
    # A dead server's note is normally recognised by Postgres itself, but not while its process is an unreaped zombie
    # or its number belongs to another process of the same user.
    if not _serves(pid, data):
        pid_file.unlink(missing_ok=True)


def _serves(pid: int, data: Path) -> bool:
    """Say whether `pid` is a live postmaster of `data`. A zombie has an empty command line."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(data) in arguments
