"""Google's own emulator under the same suite, with what it lacks declared; needs Java and the Cloud SDK's component."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contracts.pubsub import PubSubContract
from tests.contracts.pubsub_desk import Target
from tests.contracts.pubsub_history import HistoryContract
from tests.contracts.pubsub_push import PushContract


def emulator_jar() -> Path | None:
    """Find the emulator beside the installed gcloud."""
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        return None
    libraries = Path(gcloud).resolve().parent.parent / "platform" / "pubsub-emulator" / "lib"
    return next(iter(sorted(libraries.glob("cloud-pubsub-emulator-*-all.jar"))), None)


JAR = emulator_jar()


@pytest.mark.slow
@pytest.mark.emulator
@pytest.mark.skipif(JAR is None, reason="Java or the Cloud SDK's pubsub-emulator component is not installed")
class TestEmulator(PubSubContract, HistoryContract, PushContract):
    """The emulator passes the core of the suite."""

    @pytest.fixture
    async def target(self) -> AsyncIterator[Target]:
        """Start the emulator on a free port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            "java",
            "-jar",
            str(JAR),
            "--host=127.0.0.1",
            f"--port={port}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                assert process.stderr is not None
                while b"Server started" not in await process.stderr.readline():
                    assert process.returncode is None
            yield Target(f"127.0.0.1:{port}", features=frozenset())
        finally:
            process.terminate()
            await process.communicate()
