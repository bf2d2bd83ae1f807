"""The Pub/Sub endpoint as a child process, with the product's topics and subscriptions made at each start.

It keeps everything in memory. That is allowed: the database is the truth, and recover rings lost bells again.
"""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.errors import DependencyUnavailable
from shared.local.process import MINIMAL_ENVIRONMENT, ChildProcess, free_port

_START_TRIES = 3
_SOURCE_ROOT = Path(__file__).resolve().parents[2]


class EmbeddedBroker:
    """The endpoint as an async context manager. Start it from the main thread."""

    name = "pubsub"

    def __init__(self, data_dir: Path, *, topology: dict[str, Any], port: int | None = None) -> None:
        """Describe the endpoint; nothing happens yet.

        Args:
            data_dir: the folder for its log and its table; made when missing.
            topology: topics and subscriptions, as `shared.pubsub.topics.topology` returns them.
            port: on 127.0.0.1; without one a free port is taken, and kept over restarts.
        """
        self.data_dir = data_dir
        self._topology = topology
        self._fixed_port = port
        self.port = port or 0
        self._resources = AsyncExitStack()
        self._child: ChildProcess | None = None

    @property
    def address(self) -> str:
        """What PUBSUB_EMULATOR_HOST is set to: host:port, gRPC and REST."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The endpoint's process id."""
        return self._started().pid

    async def __aenter__(self) -> Self:
        """Start the endpoint.

        Raises:
            DependencyUnavailable: it does not start; the message ends with its last lines.
        """
        self._write_topology()
        async with AsyncExitStack() as resources:
            for left in reversed(range(1 if self._fixed_port else _START_TRIES)):
                self.port = self._fixed_port or free_port()
                self._child = self._describe()
                try:
                    await self._child.start()
                except DependencyUnavailable:
                    if not left:  # else: somebody else may have taken the free port meanwhile
                        raise
                else:
                    break
            resources.push_async_callback(self.stop)
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def start(self) -> None:
        """Start the endpoint again after it ended: same port, same topics, no messages."""
        await self._started().start()

    async def stop(self) -> None:
        """Stop the endpoint within a bound."""
        await self._started().stop()

    async def wait_ended(self) -> int:
        """Wait for the endpoint's end, whoever causes it."""
        return await self._started().wait_ended()

    async def kill9(self) -> None:
        """Kill the endpoint hard and wait until it is gone. For tests."""
        await self._started().kill9()

    def trim_log(self, max_bytes: int) -> None:
        """Empty the endpoint's log when it is longer than `max_bytes`."""
        self._started().trim_log(max_bytes)

    def _started(self) -> ChildProcess:
        assert self._child is not None, "EmbeddedBroker is used inside `async with`"
        return self._child

    def _write_topology(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # In the file, what is not set is left out.
        subscriptions = [
            {name: value for name, value in entry.items() if value is not None}
            for entry in self._topology.get("subscriptions", [])
        ]
        text = json.dumps({**self._topology, "subscriptions": subscriptions}, indent=1)
        (self.data_dir / "topology.json").write_text(text)

    def _describe(self) -> ChildProcess:
        argv: list[str | Path] = [sys.executable, "-P", "-m", "shared.local.pubsub", "--host", "127.0.0.1"]
        argv += ["--port", str(self.port), "--topology", self.data_dir / "topology.json"]
        return ChildProcess(
            self.name,
            argv if sys.platform != "linux" else [*argv, "--die-with-parent"],
            log_path=self.data_dir / "pubsub.log",
            env={**MINIMAL_ENVIRONMENT, "PYTHONPATH": str(_SOURCE_ROOT), "PYTHONUNBUFFERED": "1"},
            ready=_said_ready,
        )


async def _said_ready(child: ChildProcess) -> bool:
    return child.printed("ready") is not None
