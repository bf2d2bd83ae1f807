"""Real servers and real processes under random uploads, overwrites, deletions, metadata changes and kill -9.

After each sequence the messages are whatever the broker still has; time passes, `recover --once` runs until nothing is
left to do, and the index equals the bucket.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
import pytest

from shared.clock import SystemClock
from tests.plugins.model_server import ModelServer
from tests.plugins.stack import ServiceProcess, Site, eventually

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

MODULES = ("services.ingest", "services.process")
AT_ONCE = 4
"""Jobs that a worker has in hand, and of each the one batch that a kill repeats."""

NAMES = ("a.txt", "b.txt", "c/d.txt", "e.txt")
OWNERS = ("default", "second")
STEPS = 12
MEASURES = {"write": 8, "delete": 2, "describe": 2, "kill": 2, "kill the broker": 1}
ROUNDS = 8
ROUND_SECONDS = 4000.0
LOST_BELL_SECONDS = 6.0

OPEN = """
select 'job' as what, name as said, status from document_processing_jobs where completed_at is null
union all select 'outbox', topic, '' from outbox where published_at is null
"""
FOUND = """
select d.name, d.organization_id, j.status,
  array(select text from chunks c where c.job_id = d.live_job_id order by ordinal) as texts
from documents d left join document_processing_jobs j on j.id = d.current_job_id
where d.generation is not null or d.live_job_id is not null
"""


@dataclass
class Town:
    """A site with its services as processes, and what its bucket must hold."""

    site: Site
    model: ModelServer
    chance: random.Random
    running: dict[str, tuple[AsyncExitStack, ServiceProcess]] = field(default_factory=dict)
    bucket: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What is live: its text and whose it is."""
    owners: dict[str, set[str]] = field(default_factory=dict)
    """Who has ever had a text: each owner pays for it once."""
    passed_seconds: float = 0.0
    kills: int = 0
    broker_kills: list[float] = field(default_factory=list)
    clock: SystemClock = field(default_factory=SystemClock)

    async def start(self, module: str) -> None:
        """Run a service as a process."""
        stack = AsyncExitStack()
        said = {"PROCESS_CONCURRENCY": AT_ONCE} if module == "services.process" else {}
        process = await stack.enter_async_context(self.site.process(module, **self.model.environment(), **said))
        self.running[module] = stack, process

    async def stop(self) -> None:
        """End all services."""
        for stack, _ in self.running.values():
            await stack.aclose()
        self.running.clear()

    async def kill(self) -> None:
        """Kill a service, hard, and start it again."""
        module = self.chance.choice(MODULES)
        stack, process = self.running.pop(module)
        await process.child.kill9()
        await stack.aclose()
        self.kills += 1
        await self.start(module)

    async def kill_broker(self) -> None:
        """Kill the broker, with all messages that it has; not so often that the stack gives up (five in a minute)."""
        now = self.clock.monotonic()
        if len([at for at in self.broker_kills if now - at < 70]) >= 3:
            return
        self.broker_kills.append(now)
        before = self.site.servers.restarts["pubsub"]
        await self.site.servers.broker.kill9()
        await self.site.servers.wait_restarted(self.site.servers.broker, before + 1)

    async def write(self) -> None:
        """Create or overwrite, sometimes with a text that was there before."""
        name, owner = self.chance.choice(NAMES), self.chance.choice(OWNERS)
        text = f"The gate of {name} closes in {self.chance.randrange(1, 9)} seconds."
        await self.site.upload(name, text.encode(), organization_id=owner)
        self.bucket[name] = text, owner
        self.owners.setdefault(text, set()).add(owner)

    async def delete(self) -> None:
        """Delete a file, if there is one."""
        if self.bucket:
            name = self.chance.choice(sorted(self.bucket))
            await self.site.delete(name)
            del self.bucket[name]

    async def describe(self) -> None:
        """Give a file to somebody, by its metadata alone."""
        if not self.bucket:
            return
        name, owner = self.chance.choice(sorted(self.bucket)), self.chance.choice(OWNERS)
        url = f"{self.site.servers.gcs.url}/storage/v1/b/{self.site.servers.bucket}/o/{quote(name, safe='')}"
        async with (
            aiohttp.ClientSession() as session,
            session.patch(url, json={"metadata": {"organization-id": owner}}) as response,
        ):
            assert response.status == 200, await response.text()
        text = self.bucket[name][0]
        self.bucket[name] = text, owner
        self.owners.setdefault(text, set()).add(owner)

    async def step(self) -> None:
        """Let one thing happen."""
        match self.chance.choices(list(MEASURES), list(MEASURES.values()))[0]:
            case "write":
                await self.write()
            case "delete":
                await self.delete()
            case "describe":
                await self.describe()
            case "kill":
                await self.kill()
            case _:
                await self.kill_broker()

    async def settle(self, *, as_a_process: bool) -> None:
        """Let time pass and recover run until a run finds nothing, and nothing is left to do."""
        for _ in range(ROUNDS):
            self.passed_seconds += ROUND_SECONDS
            await self.site.shift_clock(self.passed_seconds)
            # A bell of a moment ago is old by the clock of the next round.
            said = {"RECONCILE_EVERY_SECONDS": 0}
            summary = await (self.site.recover_once(**said) if as_a_process else self.site.recover_here())
            assert summary["ok"], summary
            found = summary["duties"]["reconcile"]
            if not any(found[kind] for kind in ("missing", "stale", "orphan")) and not await self.site.rows(OPEN):
                return
            await self._worked_off()
        raise AssertionError(
            f"still to be done: {await self.site.rows(OPEN)}\n{self.running['services.process'][1].log[-3000:]}"
        )

    async def _worked_off(self) -> None:
        """Wait until the workers have done what they know of; a dead one's job waits for the next round."""

        async def look() -> bool:
            due = await self.site.value(
                "select count(*) from document_processing_jobs where status = 'pending' "
                "and next_attempt_at <= headrace_now()"
            )
            held = await self.site.value(
                "select count(*) from document_processing_jobs where status = 'processing' "
                "and lease_until > headrace_now()"
            )
            return not due and not held

        # A bell that went with the broker is rung again by the next round.
        with contextlib.suppress(AssertionError):
            await eventually(look, within_seconds=LOST_BELL_SECONDS)

    async def judge(self) -> None:
        """Hold index and bucket equal, and every text paid for once but for what kills repeated."""
        rows = await self.site.rows(FOUND)
        found = {row["name"]: (" ".join(row["texts"]), row["organization_id"]) for row in rows}
        assert found == self.bucket, [dict(row) for row in rows]
        again = sum(max(0, times - len(self.owners.get(text, ()))) for text, times in self.model.paid.items())
        assert again <= AT_ONCE * self.kills, self.model.repeated
        ends = await self.site.rows("select status, count(*) from document_processing_jobs group by status")
        assert {row["status"] for row in ends} <= {"completed", "cancelled"}, [dict(row) for row in ends]


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


async def sequences(built: Town, count: int, *, minutes: float, as_a_process: bool = False) -> int:
    """Run sequences one after the other, on the same servers; return how many there was time for."""
    clock = SystemClock()
    started = clock.monotonic()
    for number in range(count):
        if clock.monotonic() - started > minutes * 60:
            return number
        for _ in range(STEPS):
            await built.step()
        await built.settle(as_a_process=as_a_process)
        await built.judge()
    return count


async def test_the_index_ends_equal_to_the_bucket(site: Site, model: ModelServer) -> None:
    """One sequence, with a kill of each kind; `recover --once` brings everything home."""
    async with town(site, model, seed=1) as built:
        for act in (built.write, built.write, built.kill, built.write, built.kill_broker, built.describe, built.write):
            await act()
        await built.settle(as_a_process=True)
        await built.judge()


@pytest.mark.slow
async def test_the_index_ends_equal_to_the_bucket_in_fifty_sequences(site: Site, model: ModelServer) -> None:
    """Fifty sequences, or as many as four minutes allow; at least five."""
    async with town(site, model, seed=2) as built:
        assert await sequences(built, 50, minutes=4) >= 5
        assert built.kills


@pytest.mark.soak
async def test_the_index_ends_equal_to_the_bucket_in_recorded_runs(site: Site, model: ModelServer) -> None:
    """As many sequences as `benchmarks/permutations.py --full` asks for, as long as it allows."""
    asked = int(os.environ.get("HEADRACE_SEQUENCES", "50"))
    minutes = float(os.environ.get("HEADRACE_SEQUENCES_MINUTES", "0")) or 60 * 24
    async with town(site, model, seed=os.getpid()) as built:
        passed = await sequences(built, asked, minutes=minutes)
    sys.stdout.write(f"sequences passed: {passed}\n")
