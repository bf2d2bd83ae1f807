"""What may happen to a bucket, its messages and its processes, as steps that can be taken in any order.

The road's parts are real but for bucket, broker and model. Messages wait in a list until the sequence delivers, doubles
or loses them, in any order. A process that handles one may run through, die, lose its connection or stand still at
any of its points, while everything else goes on; one that stands still may outlive its lease. After each step nothing
may be mixed; at the end all messages are lost, and recover runs must make index and bucket equal.

Two drivers take these steps. `seeds.py` draws them from seeds with weights of ours: cheap, deep, and one number says
which sequence it was, so it is for the bulk. `machine.py` lets hypothesis draw them, which tries what nobody gave a
weight to and shortens what fails far better.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import (
    AuthenticationError,
    DependencyUnavailable,
    HeadraceError,
    RateLimitError,
    UnprocessableContent,
)
from shared.model.outcome import Outcome
from shared.ports.broker import Delivery
from shared.ports.stores import Scope
from tests.fakes import BUCKET
from tests.plugins import verdict
from tests.plugins.crashes import Died, Fault, Faults, faulty_road
from tests.plugins.road import Road, delivery

BATCH = 2
NAMES = ("a", "b")
OVERTAKING = ("others", "one that stands", "one that stands", "nobody")
OWNERS = ("acme", "second")
LINES = ("one", "two", "three", "four", "five")
ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: RateLimitError(retry_after_seconds=30),
    DependencyUnavailable,
    DependencyUnavailable,
    AuthenticationError,
    UnprocessableContent,
)
FAULTS = (Fault.DIES, Fault.DIES, Fault.STANDS_STILL, Fault.STANDS_STILL, Fault.FAILS, Fault.CUT)

CONTENTS = (("one",), ("two",), ("one", "three"), ("three", "one"), ("one", "two", "three", "four", "five"), ())
"""Some of the same length, some with the same lines, and one that nothing can be made of."""

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@dataclass
class Standing:
    """A process that stands still, and what it was told to do."""

    what: str
    task: asyncio.Task[Outcome]
    faults: Faults
    overtaken: bool = False
    held: tuple[Any, str] | None = None
    """The job under its lease while it stands, and its own name."""


class Permutations:
    """One sequence on a road with the clock of `verdict.open_clock`. `run` drives its loop from outside.

    Every step may be taken at any time; one that has nothing to act upon does nothing, so that a sequence stays one
    when steps are left out of it.
    """

    def __init__(
        self,
        road: Road,
        run: Run,
        *,
        versioned: bool,
        ascending: bool,
        once_more: bool = True,
    ) -> None:
        """Start with an empty bucket. `once_more`: at the end a further recover run must find nothing to do."""
        self.road, self.run, self.once_more = road, run, once_more
        self.versioned = versioned
        self.contents: dict[tuple[str, int], bytes] = {}
        self.owners: defaultdict[str, set[str]] = defaultdict(set)
        self.whose: defaultdict[tuple[str, bytes], set[str]] = defaultdict(set)
        self.history: defaultdict[str, list[int | None]] = defaultdict(lambda: [None])
        """What was live of each name, in its order; `decided` is where in it the database is."""
        self.decided: Counter[str] = Counter()
        self.notifications: list[Delivery] = []
        self.standing: list[Standing] = []
        self.broken = 0  # how often a paid batch may have been lost, and is paid again
        self.overlaps = 0
        self.heard, self.workers = False, itertools.count(1)  # heard: there may be a job
        self.seen: Counter[str] = Counter()
        """What steps came to: a sequence that mostly has nothing to act upon shows nothing."""
        self.road.bucket._generations = itertools.count(1) if ascending else itertools.count(10**9, -7)
        self.run(verdict.wipe(self.road))

    # What happens to the bucket, and what the broker is told of it.

    def write(self, name: str, lines: Sequence[str], owner: str | None) -> None:
        """Create or overwrite: often with lines that were there before, sometimes with the same bytes or with none."""
        content = "\n".join(f"{name}: {line}" for line in dict.fromkeys(lines)).encode()
        before = self.road.bucket.objects.get(name)
        self.seen["write: new" if before is None else "write: overwrites"] += 1
        live = self.road.bucket.put(name, content, **({} if owner is None else {"organization_id": owner}))
        self.contents[name, live.generation] = content
        self.history[name].append(live.generation)
        self.owners[name].add(owner or OWNERS[0])
        self.whose[name, content].add(owner or OWNERS[0])
        overwrote = {} if before is None else {"overwroteGeneration": str(before[0].generation)}
        self._notify(name, "OBJECT_FINALIZE", live.generation, **overwrote)
        if before is not None:
            old = "OBJECT_ARCHIVE" if self.versioned else "OBJECT_DELETE"
            self._notify(name, old, before[0].generation, overwrittenByGeneration=str(live.generation))

    def write_the_same_again(self, name: str) -> None:
        """Overwrite with the same bytes."""
        if self._is_live(name, "write the same again"):
            live, content = self.road.bucket.objects[name]
            lines = [line.split(": ")[1] for line in content.decode().splitlines()]
            self.write(name, lines, live.metadata.get("organization-id"))

    def delete(self, name: str) -> None:
        """Delete the live generation."""
        if self._is_live(name, "delete"):
            live, _ = self.road.bucket.objects[name]
            self.road.bucket.remove(name)
            self.history[name].append(None)
            self._notify(name, "OBJECT_ARCHIVE" if self.versioned else "OBJECT_DELETE", live.generation)

    def describe(self, name: str, owner: str, note: str) -> None:
        """Change metadata, and sometimes the owner with them."""
        if self._is_live(name, "describe"):
            live, content = self.road.bucket.objects[name]
            self.road.bucket.describe(name, organization_id=owner, note=note)
            self.owners[name].add(owner)
            self.whose[name, content].add(owner)
            self._notify(name, "OBJECT_METADATA_UPDATE", live.generation)

    # What happens to messages.

    def deliver(self, pick: int, keep: bool, fault: tuple[Fault, int] | None) -> None:
        """Deliver any notification, whatever came before it; perhaps not for the last time."""
        if not self._has(self.notifications, "deliver"):
            return
        self.heard = True
        index = pick % len(self.notifications)
        told = self.notifications[index] if keep else self.notifications.pop(index)
        name = told.attributes["objectId"]
        adoptable = fault is None and self.run(self._is_adoptable(name))
        self._process("deliver", lambda process: process.ingest(told), fault)
        if adoptable:
            self.seen["adopted"] += 1
            live, _ = self.road.bucket.objects[name]
            jobs = "select count(*) from document_processing_jobs where name = $1 and generation = $2"
            assert not self.run(self.road.value(jobs, name, live.generation)), f"{name} was to be adopted"

    def lose(self, pick: int) -> None:
        """Lose a notification."""
        if not self._has(self.notifications, "lose"):
            return
        self.notifications.pop(pick % len(self.notifications))

    def ring(self, pick: int, keep: bool, fault: tuple[Fault, int] | None) -> None:
        """Deliver any bell, to a worker of its own."""
        if not self._has(self.bells, "ring"):
            return
        bell = self.bells[pick % len(self.bells)]
        if not keep:
            self.road.publisher.messages.remove(bell)
        told = delivery("work-interactive", bell.data, dict(bell.attributes))
        self._process("ring", lambda process: process.process(told), fault)

    def recover(self, fault: tuple[Fault, int] | None) -> None:
        """Make a recover run, perhaps one that goes wrong."""

        async def run(process: Road) -> Outcome:
            await process.recover()
            return Outcome("ack", "recovered")  # type: ignore[arg-type]

        # A run that finds the database away waits by the real clock, so only later points are cut.
        cut_at_once = fault is not None and fault[0] in {Fault.CUT, Fault.FAILS} and fault[1] < 6
        self._process("recover", run, None if cut_at_once else fault)

    def work_off(self) -> None:
        """Let everything that was told be heard, and every bell be answered, so that sequences get far."""

        async def work() -> None:
            for told in self.notifications:
                await self.road.ingest(told)
            await verdict.work_off(self.road)

        self.run(work())
        self.heard = True
        self.notifications.clear()
        verdict.take_bells(self.road)
        self.check_step()

    # What happens to processes, models and time.

    def go_on(self, pick: int, dies: bool) -> None:
        """Let a process that stood still go on, or die."""
        if not self._has(self.standing, "go on"):
            return
        self.run(self._release(self.standing.pop(pick % len(self.standing)), dies=dies))
        self.check_step()

    def overtake(self, by: str, at: int) -> None:
        """Let those that stand still outlive their leases, and what they asked of the bucket become old.

        Their work is done by others, put back, or begun by one who stands still while the first goes on.
        """
        if not self._has(self.standing, "overtake"):
            return
        for standing in self.standing:
            standing.overtaken = True
        if any(standing.what == "deliver" for standing in self.standing):
            for name in NAMES:
                self.write(name, CONTENTS[at % len(CONTENTS)], None)
        self.wait(400)
        self.recover(None)
        if by == "others":
            self.work_off()
        elif by == "one that stands":
            rescued = [index for index, bell in enumerate(self.bells) if json.loads(bell.data).get("quarantined")]
            self.ring(rescued[-1] if rescued else 0, keep=False, fault=(Fault.STANDS_STILL, at))
            jobs = [None if standing.held is None else standing.held[0] for standing in self.standing]
            same = [index for index, job in enumerate(jobs) if job is not None and job in jobs[index + 1 :]]
            self.seen["overtake: two of one job"] += bool(same)
            self.go_on(same[0] if same else 0, dies=False)

    def break_the_model(self, pick: int) -> None:
        """Let the next call of the model fail."""
        if self._has(range(3 - len(self.road.embedder.errors)), "break the model"):
            self.road.embedder.errors.append(ERRORS[pick % len(ERRORS)]())

    def wait(self, seconds: float) -> None:
        """Let time pass: leases end, retries become due."""
        self.run(verdict.pass_time(self.road, seconds))

    def decide_by_hand(self, pick: int, retry: bool) -> None:
        """A person cancels or retries any job; most often that is refused."""

        async def ask() -> None:
            jobs = await self.road.fetch("select id from document_processing_jobs order by created_at, id")
            if self._has(jobs, "decide by hand"):
                act = self.road.directory.retry if retry else self.road.directory.cancel
                try:
                    await act(jobs[pick % len(jobs)]["id"], Scope())
                    self.broken += 1  # what was paid for and not yet stored is paid again
                except HeadraceError as error:
                    self.seen[f"decide by hand: {error.code}"] += 1

        self.run(ask())
        self.check_step()

    def check_step(self) -> None:
        """Hold what is found to be whole and of one generation, at this moment too."""
        self.run(verdict.nothing_mixed(self.road, self.contents, self.whose))
        self.run(self._nothing_goes_back())

    def end(self) -> None:
        """Let everything end, lose every message, recover, and hold the end to be right."""
        self.run(self._end())

    def abandon(self) -> None:
        """Let nothing of a sequence that failed go on."""

        async def release() -> None:
            for standing in self.standing:
                standing.faults.kill()
                await asyncio.wait({standing.task})
                standing.task.exception()

        self.run(release())

    # How.

    def can(self, name: str) -> bool:
        """Say whether a step has something to act upon."""
        match name:
            case "deliver" | "lose":
                return bool(self.notifications)
            case "ring":
                return bool(self.bells)
            case "go_on":
                return bool(self.standing)
            case "overtake":
                return any(not standing.overtaken for standing in self.standing)
            case "write_the_same_again" | "delete" | "describe":
                return bool(self.road.bucket.objects)
            case "break_the_model":
                return len(self.road.embedder.errors) < 3
            case "work_off":
                return bool(self.notifications or self.bells)
            case "recover" | "wait":
                return bool(self.contents)
        return self.heard or name != "decide_by_hand"

    def _has(self, found: Sequence[Any], what: str) -> bool:
        self.seen[what if found else f"{what}: nothing to act upon"] += 1
        return bool(found)

    def _is_live(self, name: str, what: str) -> bool:
        return self._has([name] if name in self.road.bucket.objects else [], what)

    @property
    def bells(self) -> list[Any]:
        return [message for message in self.road.publisher.messages if message.topic == "work"]

    async def _nothing_goes_back(self) -> None:
        """Hold decisions to come in the bucket's order: an old answer of Storage is never the last word on a name."""
        for row in await self.road.fetch("select name, generation from documents"):
            name, generation = row["name"], row["generation"]
            later = self.history[name][self.decided[name] :]
            assert generation in later, f"{name} went back to {generation}, after {later[0]}"
            self.decided[name] += later.index(generation)

    async def _is_adoptable(self, name: str) -> bool:
        """Say whether what is found of a name was made of the bytes that live now, under another generation."""
        if name not in self.road.bucket.objects:
            return False
        live, content = self.road.bucket.objects[name]
        for row in await self.road.fetch("select * from documents where name = $1 and live_job_id is not null", name):
            indexed = self.contents.get((name, row["indexed_generation"]))
            return indexed == content and row["generation"] not in {None, live.generation}
        return False

    def _notify(self, name: str, event: str, generation: int, **said: str) -> None:
        attributes = {"bucketId": BUCKET, "objectId": name, "eventType": event, "objectGeneration": str(generation)}
        self.notifications.append(delivery("uploads-ingest", b"{}", attributes | said))

    def _process(self, what: str, act: Callable[[Road], Awaitable[Outcome]], fault: tuple[Fault, int] | None) -> None:
        self.run(self._process_until_it_ends_or_stands(what, act, fault))
        self.check_step()

    async def _process_until_it_ends_or_stands(
        self, what: str, act: Callable[[Road], Awaitable[Outcome]], fault: tuple[Fault, int] | None
    ) -> None:
        kind, at = fault or (Fault.DIES, None)
        process, wrong = faulty_road(self.road, at=at, fault=kind)
        worker = f"worker {next(self.workers)}"
        process.process = process.worker(worker)
        self.overlaps += len(self.standing)
        task: asyncio.Task[Outcome] = asyncio.ensure_future(act(process))  # type: ignore[arg-type]
        stands = asyncio.ensure_future(wrong.standing.wait())
        await asyncio.wait({task, stands}, return_when=asyncio.FIRST_COMPLETED)
        stands.cancel()
        if task.done():
            await self._ended(Standing(what, task, wrong))
        else:
            held = await self.road.value("select id from document_processing_jobs where lease_owner = $1", worker)
            self.standing.append(Standing(what, task, wrong, held=(held, worker) if held else None))

    async def _release(self, standing: Standing, *, dies: bool) -> None:
        lost = standing.held is not None and not await self.road.fetch(
            "select from document_processing_jobs where id = $1 and lease_owner = $2 and status = 'processing'",
            *standing.held,
        )
        if dies:
            standing.faults.kill()
        else:
            standing.faults.go_on.set()
        await asyncio.wait({standing.task})
        outcome = await self._ended(standing)
        assert not lost or outcome in {None, "lease_lost"}, f"wrote without its lease: {outcome}"

    async def _ended(self, ended: Standing) -> str | None:
        """Count how a process ended; return its outcome if it has one."""
        if ended.faults.at is not None:
            self.seen[f"fault: {ended.faults.fault if ended.faults.fired else 'not reached'}"] += 1
        try:
            outcome = await ended.task
        except (Died, HeadraceError) as error:
            self.seen[f"{ended.what}: {'dead' if isinstance(error, Died) else error.code}"] += 1
            self.broken += 1
            return None
        self.seen[f"{ended.what}: {outcome.name}"] += 1
        self.broken += ended.faults.fired is not None or outcome.name in {"lease_lost", "superseded"}
        return outcome.name

    async def _end(self) -> None:
        for standing in self.standing:
            await self._release(standing, dies=False)
        self.road.embedder.errors.clear()
        await verdict.nothing_mixed(self.road, self.contents, self.whose)
        await verdict.settle(self.road, once_more=self.once_more)
        await verdict.all_is_well(self.road, self.contents, self.whose)
        if retried := await verdict.start_over(self.road):
            self.seen["started over"] += retried
            self.broken += retried
            await verdict.settle(self.road, once_more=self.once_more)
            await verdict.all_is_well(self.road, self.contents, self.whose)
            assert not await verdict.start_over(self.road)
        paid = verdict.paid_again(self.road, {name: len(owners) for name, owners in self.owners.items()})
        assert paid <= BATCH * self.broken + len(LINES) * self.overlaps, (paid, Counter(self.road.embedder.texts))
