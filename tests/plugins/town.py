"""Many random sequences at the same time on one set of real servers and processes, with their troubles in common.

Each sequence is a `Street`: files below a prefix of its own, owners of its own, and what the bucket must hold of it.
Between the streets' steps the `Town` kills services and the broker, and empties subscriptions. At the end time passes
and recover runs until nothing is left to do; then each street is judged by itself.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import grpc
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from shared.clock import SystemClock
from shared.pubsub.topics import subscription_path, topic_path
from tests.plugins.model_server import ModelServer
from tests.plugins.stack import PATIENCE_SECONDS, ServiceProcess, Site, eventually

MODULES = ("services.ingest", "services.process")
AT_WORK = 4
"""Jobs that a worker has in hand, and of each the one batch that a kill repeats."""

NAMES = ("a.txt", "b.txt", "c/d.txt")
STEPS = 12
ACTIONS = {"write": 8, "delete": 2, "describe": 2, "repeat": 1}
TROUBLES = (
    "kill services.process",
    "kill services.process",
    "kill services.ingest",
    "kill the broker",
    "lose messages",
)
REQUESTS_AT_ONCE = 6
ROUNDS = 8
ROUND_SECONDS = 4000.0
LOST_BELL_SECONDS = 5.0
BROKER_KILLS_IN_70_SECONDS = 3
"""The local stack gives up after five in a minute."""

OPEN = """
select 'job' as what, name as said, status from document_processing_jobs where completed_at is null
union all select 'outbox', topic, '' from outbox where published_at is null
"""
FOUND = """
select d.name, d.organization_id, j.status,
  array(select text from chunks c where c.job_id = d.live_job_id order by ordinal) as texts
from documents d left join document_processing_jobs j on j.id = d.current_job_id
where (d.generation is not null or d.live_job_id is not null) and starts_with(d.name, $1)
"""
PROGRESS = """
select count(*) filter (where status = 'pending' and next_attempt_at <= headrace_now()) as due,
  count(*) filter (where status = 'processing' and lease_owner = $1 and lease_until > headrace_now()) as held,
  count(*) filter (where completed_at is not null) as ended, count(*) as all
from document_processing_jobs
"""
OVERTAKEN = """
select count(*) from document_processing_jobs
where status = 'processing' and lease_owner = $1 and lease_until <= headrace_now()
"""
BEGUN_IN_VAIN = """
select name, generation, organization_id from document_processing_jobs
where status = 'cancelled' and attempts + rescue_count > 0 and starts_with(name, $1)
"""


@dataclass
class Street:
    """One sequence: what it did, and what the bucket holds of it."""

    prefix: str
    chance: random.Random
    bucket: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What is live: its text and whose it is."""
    owners: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Who has ever had a text: each owner pays for it once."""
    texts: dict[tuple[str, int], str] = field(default_factory=dict)
    """The text of each generation."""
    told: list[dict[str, str]] = field(default_factory=list)
    """What was, or may have been, notified."""
    did: list[str] = field(default_factory=list)

    @property
    def people(self) -> tuple[str, str]:
        """Return its two organizations."""
        name = self.prefix.replace("/", "-")
        return f"{name}one", f"{name}two"

    def has(self, name: str, text: str, owner: str, generation: int, *, event: str) -> None:
        """Remember what the bucket holds now."""
        self.bucket[name] = text, owner
        self.owners[text].add(owner)
        self.texts[name, generation] = text
        self.tells(name, event, generation)

    def tells(self, name: str, event: str, generation: int) -> None:
        """Remember a notification."""
        self.told.append({"objectId": name, "eventType": event, "objectGeneration": str(generation)})


@dataclass
class Town:
    """A site with its services as processes."""

    site: Site
    model: ModelServer
    chance: random.Random
    running: dict[str, tuple[AsyncExitStack, ServiceProcess]] = field(default_factory=dict)
    started: int = 0
    worker: str = ""
    """The name of the worker that lives."""
    passed_seconds: float = 0.0
    troubles: Counter[str] = field(default_factory=Counter)
    overtaken: int = 0
    """Jobs at work while the clock jumped: their leases ended under them."""
    broker_kills: list[float] = field(default_factory=list)
    clock: SystemClock = field(default_factory=SystemClock)
    at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REQUESTS_AT_ONCE))

    # Processes and servers.

    async def start(self, module: str) -> None:
        """Run a service as a process; each worker has a name of its own."""
        self.started += 1
        name = f"{module} {self.started}"
        if module == "services.process":
            self.worker = name
        stack = AsyncExitStack()
        process = await stack.enter_async_context(
            self.site.process(module, WORKER_NAME=name, PROCESS_CONCURRENCY=AT_WORK, **self.model.environment())
        )
        self.running[module] = stack, process

    async def stop(self) -> None:
        """End all services."""
        for stack, _ in self.running.values():
            await stack.aclose()
        self.running.clear()

    async def kill(self, module: str) -> None:
        """Kill a service, hard, and start it again."""
        stack, process = self.running.pop(module)
        await process.child.kill9()
        await stack.aclose()
        await self.start(module)

    async def kill_broker(self) -> None:
        """Kill the broker, with all messages that it has, unless that was done too often of late."""
        now = self.clock.monotonic()
        if len([at for at in self.broker_kills if now - at < 70]) >= BROKER_KILLS_IN_70_SECONDS:
            self.troubles["kill the broker"] -= 1
            return
        self.broker_kills.append(now)
        before = self.site.servers.restarts["pubsub"]
        await self.site.servers.broker.kill9()
        await self.site.servers.wait_restarted(self.site.servers.broker, before + 1)

    async def lose_messages(self) -> None:
        """Empty the subscriptions of notifications and bells."""
        async with grpc.aio.insecure_channel(self.site.servers.broker.address) as channel:
            client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
            for name in ("uploads-ingest", "work-interactive"):
                path = subscription_path(self.site.servers.project, name)
                await client.seek(request={"subscription": path, "time": self.clock.now()}, timeout=PATIENCE_SECONDS)

    async def make(self, trouble: str) -> None:
        """Make one of the troubles that the streets have in common."""
        self.troubles[trouble] += 1
        match trouble.split(" ", 1):
            case ["kill", "the broker"]:
                await self.kill_broker()
            case ["kill", module]:
                await self.kill(module)
            case _:
                await self.lose_messages()

    # What happens in a street.

    async def write(self, street: Street) -> None:
        """Create or overwrite, sometimes with a text that was there before."""
        name, owner = street.prefix + street.chance.choice(NAMES), street.chance.choice(street.people)
        text = f"The gate of {name} closes in {street.chance.randrange(1, 9)} seconds."
        live = await self.site.upload(name, text.encode(), organization_id=owner)
        street.has(name, text, owner, live.generation, event="OBJECT_FINALIZE")

    async def delete(self, street: Street) -> None:
        """Delete a file, if there is one."""
        if not street.bucket:
            await self.write(street)
            return
        name = street.chance.choice(sorted(street.bucket))
        await self.site.delete(name)
        del street.bucket[name]
        street.tells(name, "OBJECT_DELETE", max(known for of, known in street.texts if of == name))

    async def describe(self, street: Street) -> None:
        """Give a file to somebody, by its metadata alone."""
        if not street.bucket:
            await self.write(street)
            return
        name, owner = street.chance.choice(sorted(street.bucket)), street.chance.choice(street.people)
        url = f"{self.site.servers.gcs.url}/storage/v1/b/{self.site.servers.bucket}/o/{quote(name, safe='')}"
        async with (
            aiohttp.ClientSession() as session,
            session.patch(url, json={"metadata": {"organization-id": owner}}) as response,
        ):
            said = await response.json()
            assert response.status == 200, said
        text, _ = street.bucket[name]
        street.has(name, text, owner, int(said["generation"]), event="OBJECT_METADATA_UPDATE")

    async def repeat(self, street: Street) -> None:
        """Notify again of anything that happened, however long ago."""
        if not street.told:
            await self.write(street)
            return
        said = street.chance.choice(street.told) | {"bucketId": self.site.servers.bucket}
        async with grpc.aio.insecure_channel(self.site.servers.broker.address) as channel:
            client = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
            topic = topic_path(self.site.servers.project, "uploads")
            await client.publish(topic=topic, messages=[{"data": b"{}", "attributes": said}], timeout=PATIENCE_SECONDS)

    async def step(self, street: Street) -> None:
        """Let one thing happen in a street."""
        act = street.chance.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        street.did.append(act)
        acts: dict[str, Callable[[Street], Any]] = {
            "write": self.write,
            "delete": self.delete,
            "describe": self.describe,
            "repeat": self.repeat,
        }
        async with self.at_once:
            await acts[act](street)

    async def sequences(self, prefix: str, count: int, *, as_a_process: bool = False) -> None:
        """Run so many sequences at once, with the troubles spread over their steps; settle, and judge each."""
        streets = [
            Street(f"{prefix}{number}/", random.Random(self.chance.randrange(1 << 30))) for number in range(count)
        ]
        before = Counter(self.troubles)
        self.overtaken = 0
        planned = {self.chance.randrange(1, STEPS): trouble for trouble in self.chance.sample(TROUBLES, len(TROUBLES))}
        trouble: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            for number in range(STEPS):
                if number in planned:
                    if trouble is not None:
                        await trouble
                    trouble = group.create_task(self.make(planned[number]))
                steps = [group.create_task(self.step(street)) for street in streets]
                await asyncio.wait(steps)
        await self.settle(as_a_process=as_a_process)
        await self.judge(
            prefix, streets, kills=self.troubles["kill services.process"] - before["kill services.process"]
        )

    # The end.

    async def settle(self, *, as_a_process: bool) -> None:
        """Let time pass and recover run until a run finds nothing, and nothing is left to do."""
        for _ in range(ROUNDS):
            await self._worked_off()
            self.passed_seconds += ROUND_SECONDS
            await self.site.shift_clock(self.passed_seconds)
            self.overtaken += await self.site.value(OVERTAKEN, self.worker)
            # A bell of a moment ago is old by the clock of the next round.
            said = {"RECONCILE_EVERY_SECONDS": 0}
            summary = await (self.site.recover_once(**said) if as_a_process else self.site.recover_here())
            assert summary["ok"], summary
            found = summary["duties"]["reconcile"]
            if not any(found[kind] for kind in ("missing", "stale", "orphan")) and not await self.site.rows(OPEN):
                return
        raise AssertionError(
            f"still to be done: {await self.site.rows(OPEN)}\n{self.running['services.process'][1].log[-3000:]}"
        )

    async def _worked_off(self) -> None:
        """Wait until the workers have done what they know of; a dead one's job, or a lost bell, waits for recover."""
        seen, since = None, self.clock.monotonic()

        async def look() -> bool:
            nonlocal seen, since
            [now] = await self.site.rows(PROGRESS, self.worker)
            if now != seen:
                seen, since = now, self.clock.monotonic()
            if not now["due"] and not now["held"]:
                return True
            return not now["held"] and self.clock.monotonic() - since > LOST_BELL_SECONDS

        await eventually(look, within_seconds=3 * PATIENCE_SECONDS)

    async def judge(self, prefix: str, streets: list[Street], *, kills: int) -> None:
        """Hold index and bucket of each street equal, and every text paid for once but for what kills repeated."""
        found: defaultdict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
        for row in await self.site.rows(FOUND, prefix):
            found[_street_of(row["name"])][row["name"]] = " ".join(row["texts"]), row["organization_id"]
        texts = {generation: text for street in streets for generation, text in street.texts.items()}
        vain = Counter(
            texts.get((row["name"], row["generation"])) for row in await self.site.rows(BEGUN_IN_VAIN, prefix)
        )
        again = 0
        for street in streets:
            assert found[street.prefix] == street.bucket, (street.prefix, street.did, found[street.prefix])
            again += sum(
                max(0, self.model.paid[text] - len(owners) - vain[text]) for text, owners in street.owners.items()
            )
        assert again <= AT_WORK * kills + self.overtaken, (again, kills, self.overtaken, self.model.repeated)
        ends = await self.site.rows(
            "select status, count(*) from document_processing_jobs where starts_with(name, $1) group by status", prefix
        )
        assert {row["status"] for row in ends} <= {"completed", "cancelled"}, [dict(row) for row in ends]


def _street_of(name: str) -> str:
    return "/".join(name.split("/")[:2]) + "/"


@asynccontextmanager
async def town(site: Site, model: ModelServer, seed: int) -> AsyncIterator[Town]:
    """Run the services for the block."""
    built = Town(site, model, random.Random(seed))
    try:
        for module in MODULES:
            await built.start(module)
        yield built
    finally:
        await built.stop()
