"""The embedded servers and, on them, the product's own services: within the test's process, or as real processes.

Each site has a database of its own (a clone of the migrated template) and its own bucket and broker, so that nothing
of another test can arrive in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import grpc
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import DeadLetterPolicy, PubsubMessage, RetryPolicy, Subscription

from services.recover.app import recover_run
from services.recover.settings import RecoverSettings
from shared.clock import SystemClock
from shared.local.process import MINIMAL_ENVIRONMENT, ChildProcess
from shared.local.stack import LocalStack
from shared.model.document import ObjectMetadata, ObjectRef
from shared.postgres.migrate import migrate
from shared.pubsub.topics import subscription_path, topic_path
from shared.runtime.app import Build, S, running
from shared.settings import load
from shared.storage.gcs import CloudStorage

# Before gRPC starts: a test that serves the endpoint itself forks while gRPC's threads run, and what gRPC does in the
# child then (for children that go on using it, which ours never do) crashes now and then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0
"""How long a test waits for something that has to happen: far longer than it takes, since machines are busy."""

_POLL_SECONDS = 0.03

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], *, within_seconds: float = PATIENCE_SECONDS) -> T:
    """Look again and again until there is something to see (a truthy value), and return it.

    Raises:
        AssertionError: the time is over; the message says what was seen last.
    """
    clock = SystemClock()
    deadline = clock.monotonic() + within_seconds
    while not (seen := await look()):
        assert clock.monotonic() < deadline, f"still {seen!r} after {within_seconds:g} s"
        await clock.sleep(_POLL_SECONDS)
    return seen


@dataclass
class ServiceProcess:
    """One service as the process that production runs."""

    child: ChildProcess
    address: str
    temp_dir: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.child.pid

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return self.child.log_path.read_text()

    async def logs(self, event: str) -> None:
        """Wait until it has logged an event."""

        async def look() -> bool:
            return event in self.log

        await eventually(look)

    def family(self) -> list[psutil.Process]:
        """Return the process and all its descendants."""
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

    def terminate(self) -> None:
        """Send SIGTERM, as every platform does to end a service."""
        psutil.Process(self.pid).terminate()


class Site:
    """Servers, the test's own clients of them, and ways to run services on them."""

    def __init__(self, servers: LocalStack, folder: Path, pool: asyncpg.Pool, storage: CloudStorage) -> None:
        self.servers, self.folder, self.storage = servers, folder, storage
        self._pool = pool
        self._numbers = count(1)

    def environment(self, said: Mapping[str, object]) -> dict[str, str]:
        """Return a service's environment: the servers' addresses, and what the test says besides."""
        common = {"HTTP_HOST": "127.0.0.1", "PORT": "0", "DEFAULT_ORGANIZATION_ID": "default"}
        return self.servers.environment() | common | {name: str(value) for name, value in said.items()}

    @asynccontextmanager
    async def service(self, build: Build[S], kind: type[S], **said: object) -> AsyncIterator[str]:
        """Run a service by its own composition root in this process; yields its address."""
        settings = load(kind, self.environment(said))
        async with AsyncExitStack() as stack:
            service = await build(settings, stack)
            yield await stack.enter_async_context(running(service, settings, drain_seconds=2.0))

    @asynccontextmanager
    async def process(self, module: str, **said: object) -> AsyncIterator[ServiceProcess]:
        """Run a service as `python -m {module}`; ends with the block, by SIGTERM if it still runs."""
        temp_dir = self.folder / "tmp"
        temp_dir.mkdir(exist_ok=True)
        child = ChildProcess(
            module,
            [sys.executable, "-m", module],
            log_path=self.folder / f"{module}.{next(self._numbers)}.log",  # its own, beside another of its kind
            ready=_has_started,
            env=self.process_environment(said),
        )
        async with child:
            address = re.search(r'service\.started.*?(http://[^"\s]+)', child.log_path.read_text())
            assert address is not None
            yield ServiceProcess(child, address[1], temp_dir)

    async def recover_once(self, **said: object) -> dict[str, Any]:
        """Make one recover run as `python -m services.recover --once`; return its summary."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "services.recover", "--once"),
            stdout=asyncio.subprocess.PIPE,
            env=self.process_environment(said),
            cwd="/",
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, _ = await process.communicate()
        summary: dict[str, Any] = json.loads(output)
        assert process.returncode == 0, summary
        return summary

    async def recover_here(self, **said: object) -> dict[str, Any]:
        """Make one recover run within this process, with bucket and index compared; return its summary."""
        settings = load(RecoverSettings, self.environment(said))
        async with AsyncExitStack() as stack:
            run, _ = await recover_run(settings, stack)
            return await run(reconcile_now=True)

    async def upload(self, name: str, content: Path | bytes, **metadata: str) -> ObjectMetadata:
        """Put an object into the bucket; metadata names are written with underscores."""
        ref = ObjectRef(self.servers.bucket, name)
        said = {key.replace("_", "-"): value for key, value in metadata.items()}
        return await self.storage.upload(ref, content, content_type=None, metadata=said)

    async def delete(self, name: str) -> None:
        """Remove an object from the bucket."""
        await self.storage.delete(ObjectRef(self.servers.bucket, name))

    async def rows(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Look into the database."""
        return list(await self._pool.fetch(sql, *arguments))

    async def value(self, sql: str, *arguments: object) -> Any:
        """Look at one value in the database."""
        return await self._pool.fetchval(sql, *arguments)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Hold one connection, for locks that belong to it."""
        async with self._pool.acquire() as connection:
            yield connection

    async def job(self, name: str) -> asyncpg.Record | None:
        """Return the newest job of an object."""
        found = await self.rows(
            "select * from document_processing_jobs where name = $1 order by created_at desc limit 1", name
        )
        return found[0] if found else None

    async def ended(self, *names: str, within_seconds: float = PATIENCE_SECONDS) -> list[asyncpg.Record]:
        """Wait until the newest job of each object has ended; return them in this order."""

        async def look() -> list[asyncpg.Record] | None:
            found = [await self.job(name) for name in names]
            jobs = [job for job in found if job is not None and job["completed_at"] is not None]
            return jobs if len(jobs) == len(names) else None

        return await eventually(look, within_seconds=within_seconds)

    async def chunks(self, job_id: UUID) -> list[tuple[int, str, str]]:
        """Return what is stored of a job: ordinal, text and locator."""
        found = await self.rows(
            "select ordinal, text, locator::text as locator from chunks where job_id = $1 order by ordinal", job_id
        )
        return [(row["ordinal"], row["text"], row["locator"]) for row in found]

    async def shift_clock(self, seconds: float) -> None:
        """Move the database's clock to `seconds` from the real one; it goes on from there."""
        await self._pool.execute(
            "create or replace function headrace_now() returns timestamptz language sql stable parallel safe "
            f"as $$ select statement_timestamp() + interval '{float(seconds)} seconds' $$"
        )

    @asynccontextmanager
    async def subscriber(self, subscription: str) -> AsyncIterator[Callable[[], Awaitable[Sequence[PubsubMessage]]]]:
        """Yield a function that takes (and acknowledges) what has arrived on a subscription, with Google's client."""
        async with grpc.aio.insecure_channel(self.servers.broker.address) as channel:
            client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
            path = subscription_path(self.servers.project, subscription)

            async def take() -> Sequence[PubsubMessage]:
                response = await client.pull(subscription=path, max_messages=100, timeout=PATIENCE_SECONDS)
                if response.received_messages:
                    await client.acknowledge(
                        subscription=path, ack_ids=[received.ack_id for received in response.received_messages]
                    )
                return [received.message for received in response.received_messages]

            yield take

    async def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """Publish a message with Google's client, and wait until the broker has it."""
        async with grpc.aio.insecure_channel(self.servers.broker.address) as channel:
            client = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
            message = PubsubMessage(data=data, attributes=attributes)
            await client.publish(topic=topic_path(self.servers.project, topic), messages=[message])

    async def undeliverable_after(self, subscription: str, attempts: int) -> None:
        """Let Pub/Sub give up on this subscription's messages after so many attempts (5 at least), without back-off."""
        path = subscription_path(self.servers.project, subscription)
        now = Duration(seconds=0)
        async with grpc.aio.insecure_channel(self.servers.broker.address) as channel:
            client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
            config = await client.get_subscription(subscription=path)
            policy = DeadLetterPolicy(
                dead_letter_topic=config.dead_letter_policy.dead_letter_topic, max_delivery_attempts=attempts
            )
            retry = RetryPolicy(minimum_backoff=now, maximum_backoff=now)
            await client.update_subscription(
                subscription=Subscription(name=path, dead_letter_policy=policy, retry_policy=retry),
                update_mask=FieldMask(paths=["dead_letter_policy", "retry_policy"]),
            )

    async def command(self, *arguments: str, exit_code: int = 0) -> str:
        """Run `headrace` with these arguments as a process of its own; return what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cli", *arguments, "--data", str(self.folder)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.process_environment({}),
            cwd="/",
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, complaints = await process.communicate()
        assert process.returncode == exit_code, output.decode() + complaints.decode()
        return output.decode()

    def process_environment(self, said: Mapping[str, object]) -> dict[str, str]:
        """Return the whole environment of a service process."""
        extra = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(self.folder / "tmp")}
        return MINIMAL_ENVIRONMENT | self.environment(said) | extra


@asynccontextmanager
async def open_site(servers: LocalStack, folder: Path) -> AsyncIterator[Site]:
    """Open the test's own clients of running servers."""
    said = servers.environment()
    async with (
        asyncpg.create_pool(said["DATABASE_URL"], min_size=1, max_size=5) as pool,
        CloudStorage(project_id=servers.project, emulator_host=said["STORAGE_EMULATOR_HOST"]) as storage,
    ):
        yield Site(servers, folder, pool, storage)


@asynccontextmanager
async def new_site(database_url: str) -> AsyncIterator[Site]:
    """Start broker and bucket beside a fresh database. Must be entered on the main thread."""
    with TemporaryDirectory(prefix="headrace-tests-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        async with (
            LocalStack(folder / "data", durable=False, database_url=database_url) as servers,
            open_site(servers, folder) as site,
        ):
            yield site


@asynccontextmanager
async def new_site_with_postgres() -> AsyncIterator[Site]:
    """Start everything, with a Postgres of its own that the test may kill. Must be entered on the main thread."""
    with TemporaryDirectory(prefix="headrace-tests-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        async with LocalStack(folder / "data", durable=False) as servers:
            await migrate(servers.environment()["DATABASE_URL"])
            async with open_site(servers, folder) as site:
                yield site


@pytest.fixture
async def site_with_postgres() -> AsyncIterator[Site]:
    """Give servers whose database belongs to this test alone."""
    async with new_site_with_postgres() as opened:
        yield opened


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[Site]:
    """Give servers with the product's schema, and nothing running on them."""
    async with new_site(database_url) as opened:
        yield opened


@pytest.fixture
def local_stack(site: Site) -> LocalStack:
    """Give the servers of this test's site."""
    return site.servers


async def _has_started(child: ChildProcess) -> bool:
    return "service.started" in child.log_path.read_text()
