"""The whole embedded stack: addresses, supervision, one owner, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import asyncpg
import pytest

from shared.clock import SystemClock
from shared.errors import ConfigurationError, DependencyUnavailable
from shared.local.stack import LocalStack, running_environment
from shared.pubsub.topics import subscription_path

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_SECONDS = 20.0


class HurriedClock(SystemClock):
    """Waits a hundredth of what it is asked for."""

    async def sleep(self, seconds: float) -> None:
        """Wait, but not for long."""
        await super().sleep(seconds / 100)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that another user can pass through."""
    with TemporaryDirectory(prefix="headrace-tests-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


async def topics(address: str, project: str) -> set[str]:
    """Ask the endpoint over REST for its topics."""
    async with (
        aiohttp.ClientSession(f"http://{address}", raise_for_status=True) as session,
        session.get(f"/v1/projects/{project}/topics") as answer,
    ):
        return {topic["name"] for topic in (await answer.json())["topics"]}


async def ask(dsn: str, statement: str) -> object:
    """Run one statement in a connection of its own and return its first value."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_the_environment_points_at_servers_that_answer(folder: Path) -> None:
    """Every address in the environment leads to a running server with the product's names in it."""
    async with LocalStack(folder / "data", durable=False, project="demo-project", bucket="my-bucket") as stack:
        environment = stack.environment()
        assert environment["GOOGLE_CLOUD_PROJECT_ID"] == "demo-project"
        assert await ask(environment["DATABASE_URL"], "select current_database()") == "headrace"
        assert "projects/demo-project/topics/headrace-uploads" in await topics(
            environment["PUBSUB_EMULATOR_HOST"], "demo-project"
        )
        async with (
            aiohttp.ClientSession(environment["STORAGE_EMULATOR_HOST"]) as session,
            session.get(f"/storage/v1/b/{environment['BUCKET']}") as answer,
        ):
            assert answer.status == 200
        assert running_environment(folder / "data") == environment
        with pytest.raises(ConfigurationError, match=rf"in use by process {os.getpid()}"):
            await LocalStack(folder / "data").__aenter__()
    assert running_environment(folder / "data") is None


async def test_an_upload_rings_the_uploads_topic(folder: Path) -> None:
    """What is put into the bucket arrives as an event on the subscription that ingest reads."""
    async with LocalStack(folder / "data", durable=False) as stack, asyncio.timeout(DEADLINE_SECONDS):
        async with (
            aiohttp.ClientSession(stack.gcs.url, raise_for_status=True) as session,
            session.post("/upload/storage/v1/b/uploads/o?uploadType=media&name=in%2Fa.txt", data=b"x"),
        ):
            pass
        attributes = await first_message(stack, "uploads-ingest")
    assert attributes["eventType"] == "OBJECT_FINALIZE"
    assert (attributes["bucketId"], attributes["objectId"]) == ("uploads", "in/a.txt")


async def first_message(stack: LocalStack, subscription: str) -> dict[str, str]:
    """Pull over REST until there is a message; the caller sets the deadline."""
    path = f"/v1/{subscription_path(stack.project, subscription)}:pull"
    async with aiohttp.ClientSession(f"http://{stack.broker.address}", raise_for_status=True) as session:
        while True:
            async with session.post(path, json={"maxMessages": 1}) as answer:
                received = (await answer.json()).get("receivedMessages")
                if received:
                    attributes: dict[str, str] = received[0]["message"]["attributes"]
                    return attributes


async def test_servers_that_die_come_back_under_their_addresses(folder: Path) -> None:
    """Each killed server is started again by itself, with its data or topics, and the restarts are counted."""
    async with LocalStack(folder / "data", durable=False) as stack, asyncio.timeout(DEADLINE_SECONDS):
        before = stack.environment()
        await ask(before["DATABASE_URL"], "create table kept as select 7 as answer")
        for server in (stack.postgres, stack.broker, stack.gcs):
            os.kill(server.pid, signal.SIGKILL)
            await stack.wait_restarted(server)
        assert stack.environment() == before
        assert stack.restarts == {"postgres": 1, "pubsub": 1, "gcs": 1}
        assert await ask(before["DATABASE_URL"], "select answer from kept") == 7
        assert len(await topics(stack.broker.address, stack.project)) == 5


async def test_an_outage_lasts_as_long_as_its_block(folder: Path) -> None:
    """A server held down does not answer and is not restarted; afterwards it answers and is watched again."""
    async with LocalStack(folder / "data", durable=False) as stack, asyncio.timeout(DEADLINE_SECONDS):
        async with stack.outage(stack.gcs), aiohttp.ClientSession(stack.gcs.url) as session:
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get("/storage/v1/b")
        await stack.gcs.kill9()
        await stack.wait_restarted(stack.gcs)


async def test_a_server_that_keeps_dying_ends_the_stack(folder: Path) -> None:
    """After five restarts within a minute the body is cancelled and the error names the server."""

    async def keep_killing() -> None:
        async with LocalStack(folder / "data", durable=False, clock=HurriedClock()) as stack:
            for times in range(1, 7):
                await stack.gcs.kill9()
                await stack.wait_restarted(stack.gcs, times)

    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(DependencyUnavailable, match="gcs ended 6 times"):
            await keep_killing()


async def test_an_error_in_the_body_comes_out_as_it_is(folder: Path) -> None:
    """The stack does not wrap what its user raises, and stops its servers."""
    with pytest.raises(KeyError, match="mine"):
        async with LocalStack(folder / "data", durable=False) as stack:
            raise KeyError("mine")
    assert await stack.gcs.wait_ended() is not None
    assert await stack.broker.wait_ended() is not None
    assert await stack.postgres.wait_ended() == 0


async def test_a_given_database_is_used_instead(folder: Path, empty_database_url: str) -> None:
    """With a database of one's own no Postgres is started."""
    async with LocalStack(folder / "data", database_url=empty_database_url) as stack:
        assert stack.environment()["DATABASE_URL"] == empty_database_url
    assert not os.path.exists(folder / "data" / "postgres")  # noqa: PTH110


def test_it_does_not_run_in_the_cloud(tmp_path: Path) -> None:
    """Where Cloud Run says that this is Cloud Run, there is no embedded stack."""
    with pytest.raises(ConfigurationError, match="K_SERVICE"):
        LocalStack(tmp_path, k_service="headrace-api")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children of a killed parent")
def test_a_killed_stack_starts_again_on_its_data(folder: Path) -> None:
    """After kill -9 of the stack's process the same folder starts again; SIGTERM then ends it with status 0."""
    with run_stack(folder / "data") as first:
        wait_ready(first)
        first.kill()
    with run_stack(folder / "data") as second:
        wait_ready(second)
        second.terminate()
        assert second.wait(timeout=DEADLINE_SECONDS) == 0


def run_stack(data_dir: Path) -> subprocess.Popen[str]:
    """Run the stack as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "shared.local", "--data", str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Read its output until it says that it is ready."""
    assert process.stdout is not None
    assert any(line == "# ready\n" for line in process.stdout), "the stack ended while starting"
