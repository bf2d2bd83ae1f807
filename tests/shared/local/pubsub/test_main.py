"""The endpoint as a process."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from shared.errors import ConfigurationError
from shared.local.pubsub.__main__ import refuse_if_cloud

COMMAND = (sys.executable, "-m", "shared.local.pubsub")
TOPOLOGY = {
    "project": "p",
    "topics": ["work", "dead"],
    "subscriptions": [
        {
            "name": "work",
            "topic": "work",
            "ack_deadline_seconds": 20,
            "dead_letter_topic": "dead",
            "max_delivery_attempts": 10,
            "min_backoff_seconds": 10,
            "max_backoff_seconds": 600,
            "filter": 'attributes.a = "1"',
            "ordering": True,
        }
    ],
}


async def start(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    """Start the process with its output in pipes."""
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )


async def address_of(process: asyncio.subprocess.Process) -> str:
    """Wait for the line that says where the process serves."""
    assert process.stdout is not None
    word, address = (await process.stdout.readline()).decode().split()
    assert word == "ready"
    return address


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_its_topology_and_ends_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """The process says when it is ready, has its topology then, and exits 0 promptly."""
    topology = tmp_path / "topology.json"
    topology.write_text(json.dumps(TOPOLOGY))
    async with asyncio.timeout(20):
        process = await start("--topology", str(topology))
        url = f"http://{await address_of(process)}/v1/projects/p/subscriptions/work"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            config = await response.json()
        assert config["deadLetterPolicy"] == {
            "deadLetterTopic": "projects/p/topics/dead",
            "maxDeliveryAttempts": 10,
        }
        assert config["retryPolicy"] == {"minimumBackoff": "10s", "maximumBackoff": "600s"}
        process.send_signal(number)
        output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")


async def test_it_refuses_to_run_in_the_cloud() -> None:
    """With K_SERVICE set nothing is served."""
    async with asyncio.timeout(20):
        process = await start(K_SERVICE="process")
        output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert b"does not run in the cloud" in errors


def test_the_guard_is_a_plain_function() -> None:
    """Whoever embeds the endpoint can ask the same question."""
    refuse_if_cloud(None)
    with pytest.raises(ConfigurationError):
        refuse_if_cloud("process")


async def test_a_wrong_topology_file_is_explained(tmp_path: Path) -> None:
    """A field that is not known ends the process with a sentence, not a trace."""
    topology = tmp_path / "topology.json"
    topology.write_text('{"project": "p", "queues": []}')
    async with asyncio.timeout(20):
        process = await start("--topology", str(topology))
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"queues" in errors
    assert b"Traceback" not in errors


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux only")
async def test_it_does_not_outlive_its_parent() -> None:
    """When the parent is killed the endpoint ends; its end is seen on the pipe it held open."""
    parent_code = (
        "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"  # kept by the parent until it is killed
    )
    async with asyncio.timeout(20):
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", parent_code, *COMMAND, "--die-with-parent", stdout=asyncio.subprocess.PIPE
        )
        await address_of(parent)
        parent.kill()
        assert parent.stdout is not None
        assert await parent.stdout.read() == b""  # the end of the pipe: nobody holds it any more
        await parent.wait()
