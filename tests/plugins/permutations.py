"""Random sequences of what may happen to a bucket, its messages and its processes, from seeds; failures are made short.

The road's parts are real but for bucket, broker and model. Messages wait in a list until the sequence delivers, doubles
or loses them, in any order. A process that handles one may run through, die, lose its connection or stand still at
any of its points, while everything else goes on; one that stands still may outlive its lease. After each step nothing
may be mixed; at the end all messages are lost, and recover runs must make index and bucket equal.
"""

from __future__ import annotations

import asyncio
import itertools
import random
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
OWNERS = ("acme", "second")
LINES = ("one", "two", "three", "four", "five")
ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: RateLimitError(retry_after_seconds=30),
    DependencyUnavailable,
    DependencyUnavailable,
    AuthenticationError,
    UnprocessableContent,
)
STEPS = 25
FAULTS = (Fault.DIES, Fault.DIES, Fault.STANDS_STILL, Fault.STANDS_STILL, Fault.FAILS, Fault.CUT)

CONTENTS = (("one",), ("two",), ("one", "three"), ("three", "one"), ("one", "two", "three", "four", "five"), ())
"""Some of the same length, some with the same lines, and one that nothing can be made of."""

Step = tuple[str, dict[str, Any]]


@dataclass
class Standing:
    """A process that stands still, and what it was told to do."""

    task: asyncio.Task[Outcome]
    faults: Faults


class Permutations:
    """One sequence on a road with the clock of `verdict.open_clock`. `run` drives its loop from outside.

    Every step may be taken at any time; one that has nothing to act upon does nothing, so that a sequence stays one
    when steps are left out of it.
    """

    def __init__(
        self,
        road: Road,
        run: Callable[[Coroutine[Any, Any, Any]], Any],
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
        self.notifications: list[Delivery] = []
        self.standing: list[Standing] = []
        self.broken = 0  # how often a paid batch may have been lost, and is paid again
        self.overlaps = 0
        self.road.bucket._generations = itertools.count(1) if ascending else itertools.count(10**9, -7)
        self.run(verdict.wipe(self.road))

    # What happens to the bucket, and what the broker is told of it.

    def write(self, name: str, lines: Sequence[str], owner: str | None) -> None:
        """Create or overwrite: often with lines that were there before, sometimes with the same bytes or with none."""
        content = "\n".join(f"{name}: {line}" for line in dict.fromkeys(lines)).encode()
        before = self.road.bucket.objects.get(name)
        live = self.road.bucket.put(name, content, **({} if owner is None else {"organization_id": owner}))
        self.contents[name, live.generation] = content
        self.owners[name].add(owner or OWNERS[0])
        overwrote = {} if before is None else {"overwroteGeneration": str(before[0].generation)}
        self._notify(name, "OBJECT_FINALIZE", live.generation, **overwrote)
        if before is not None:
            old = "OBJECT_ARCHIVE" if self.versioned else "OBJECT_DELETE"
            self._notify(name, old, before[0].generation, overwrittenByGeneration=str(live.generation))

    def write_the_same_again(self, name: str) -> None:
        """Overwrite with the same bytes."""
        if name in self.road.bucket.objects:
            live, content = self.road.bucket.objects[name]
            lines = [line.split(": ")[1] for line in content.decode().splitlines()]
            self.write(name, lines, live.metadata.get("organization-id"))

    def delete(self, name: str) -> None:
        """Delete the live generation."""
        if name in self.road.bucket.objects:
            live, _ = self.road.bucket.objects[name]
            self.road.bucket.remove(name)
            self._notify(name, "OBJECT_ARCHIVE" if self.versioned else "OBJECT_DELETE", live.generation)

    def describe(self, name: str, owner: str, note: str) -> None:
        """Change metadata, and sometimes the owner with them."""
        if name in self.road.bucket.objects:
            live, _ = self.road.bucket.objects[name]
            self.road.bucket.describe(name, organization_id=owner, note=note)
            self.owners[name].add(owner)
            self._notify(name, "OBJECT_METADATA_UPDATE", live.generation)

    # What happens to messages.

    def deliver(self, pick: int, keep: bool, fault: tuple[Fault, int] | None) -> None:
        """Deliver any notification, whatever came before it; perhaps not for the last time."""
        if not self.notifications:
            return
        index = pick % len(self.notifications)
        told = self.notifications[index] if keep else self.notifications.pop(index)
        self._process(lambda process: process.ingest(told), fault)

    def lose(self, pick: int) -> None:
        """Lose a notification."""
        if not self.notifications:
            return
        self.notifications.pop(pick % len(self.notifications))

    def ring(self, pick: int, keep: bool, fault: tuple[Fault, int] | None) -> None:
        """Deliver any bell, to a worker of its own."""
        if not self._bells:
            return
        bell = self._bells[pick % len(self._bells)]
        if not keep:
            self.road.publisher.messages.remove(bell)
        told = delivery("work-interactive", bell.data, dict(bell.attributes))
        self._process(lambda process: process.process(told), fault)

    def recover(self, fault: tuple[Fault, int] | None) -> None:
        """Make a recover run, perhaps one that goes wrong."""

        async def run(process: Road) -> Outcome:
            await process.recover()
            return Outcome("ack", "recovered")  # type: ignore[arg-type]

        # A run that finds the database away waits by the real clock, so only later points are cut.
        cut_at_once = fault is not None and fault[0] in {Fault.CUT, Fault.FAILS} and fault[1] < 6
        self._process(run, None if cut_at_once else fault)

    def work_off(self) -> None:
        """Let everything that was told be heard, and every bell be answered, so that sequences get far."""

        async def work() -> None:
            for told in self.notifications:
                await self.road.ingest(told)
            await verdict.work_off(self.road)

        self.run(work())
        self.notifications.clear()
        self.check_step()

    # What happens to processes, models and time.

    def go_on(self, pick: int, dies: bool) -> None:
        """Let a process that stood still go on, or die."""
        if not self.standing:
            return
        self.run(self._release(self.standing.pop(pick % len(self.standing)), dies=dies))

    def break_the_model(self, pick: int) -> None:
        """Let the next call of the model fail."""
        if len(self.road.embedder.errors) < 3:
            self.road.embedder.errors.append(ERRORS[pick % len(ERRORS)]())

    def wait(self, seconds: float) -> None:
        """Let time pass: leases end, retries become due."""
        self.run(verdict.pass_time(self.road, seconds))

    def decide_by_hand(self, pick: int, retry: bool) -> None:
        """A person cancels or retries any job; most often that is refused."""

        async def ask() -> None:
            jobs = await self.road.fetch("select id from document_processing_jobs order by created_at, id")
            if jobs:
                act = self.road.directory.retry if retry else self.road.directory.cancel
                try:
                    await act(jobs[pick % len(jobs)]["id"], Scope())
                    self.broken += 1  # what was paid for and not yet stored is paid again
                except HeadraceError:
                    pass

        self.run(ask())
        self.check_step()

    def check_step(self) -> None:
        """Hold what is found to be whole and of one generation, at this moment too."""
        self.run(verdict.nothing_mixed(self.road, self.contents))

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

    @property
    def _bells(self) -> list[Any]:
        return [message for message in self.road.publisher.messages if message.topic == "work"]

    def _notify(self, name: str, event: str, generation: int, **said: str) -> None:
        attributes = {"bucketId": BUCKET, "objectId": name, "eventType": event, "objectGeneration": str(generation)}
        self.notifications.append(delivery("uploads-ingest", b"{}", attributes | said))

    def _process(self, act: Callable[[Road], Awaitable[Outcome]], fault: tuple[Fault, int] | None) -> None:
        self.run(self._process_until_it_ends_or_stands(act, fault))
        self.check_step()

    async def _process_until_it_ends_or_stands(
        self, act: Callable[[Road], Awaitable[Outcome]], fault: tuple[Fault, int] | None
    ) -> None:
        kind, at = fault or (Fault.DIES, None)
        process, wrong = faulty_road(self.road, at=at, fault=kind)
        self.overlaps += len(self.standing)
        task: asyncio.Task[Outcome] = asyncio.ensure_future(act(process))  # type: ignore[arg-type]
        stands = asyncio.ensure_future(wrong.standing.wait())
        await asyncio.wait({task, stands}, return_when=asyncio.FIRST_COMPLETED)
        stands.cancel()
        if task.done():
            await self._ended(Standing(task, wrong))
        else:
            self.standing.append(Standing(task, wrong))

    async def _release(self, standing: Standing, *, dies: bool) -> None:
        if dies:
            standing.faults.kill()
        else:
            standing.faults.go_on.set()
        await asyncio.wait({standing.task})
        await self._ended(standing)

    async def _ended(self, ended: Standing) -> None:
        try:
            outcome = await ended.task
        except (Died, HeadraceError):
            self.broken += 1
            return
        self.broken += ended.faults.fired is not None or outcome.name in {"lease_lost", "superseded"}

    async def _end(self) -> None:
        for standing in self.standing:
            await self._release(standing, dies=False)
        self.road.embedder.errors.clear()
        await verdict.nothing_mixed(self.road, self.contents)
        await verdict.settle(self.road, once_more=self.once_more)
        await verdict.all_is_well(self.road, self.contents)
        paid = verdict.paid_again(self.road, {name: len(owners) for name, owners in self.owners.items()})
        assert paid <= BATCH * self.broken + len(LINES) * self.overlaps, (paid, Counter(self.road.embedder.texts))


WEIGHTS = {
    "write": 7,
    "write_the_same_again": 1,
    "delete": 1,
    "describe": 2,
    "deliver": 7,
    "lose": 1,
    "ring": 7,
    "work_off": 2,
    "recover": 2,
    "go_on": 3,
    "break_the_model": 1,
    "wait": 2,
    "decide_by_hand": 1,
}


def steps(chance: random.Random) -> list[Step]:
    """Return the steps of one sequence."""
    made = chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=chance.randint(STEPS // 2, STEPS))
    return [(name, _arguments(name, chance)) for name in made]


def _arguments(name: str, chance: random.Random) -> dict[str, Any]:
    fault = (chance.choice(FAULTS), chance.randint(0, 40)) if chance.random() < 0.5 else None
    pick = chance.randrange(1 << 16)
    match name:
        case "write":
            owner = chance.choice((None, None, None, *OWNERS))
            return {"name": chance.choice(NAMES), "lines": chance.choice(CONTENTS), "owner": owner}
        case "write_the_same_again" | "delete":
            return {"name": chance.choice(NAMES)}
        case "describe":
            return {"name": chance.choice(NAMES), "owner": chance.choice(OWNERS), "note": chance.choice("xy")}
        case "deliver" | "ring":
            return {"pick": pick, "keep": chance.random() < 0.3, "fault": fault}
        case "recover":
            return {"fault": fault}
        case "go_on":
            return {"pick": pick, "dies": chance.random() < 0.3}
        case "lose" | "break_the_model":
            return {"pick": pick}
        case "wait":
            return {"seconds": chance.choice((10.0, 65.0, 400.0, 4000.0))}
        case "decide_by_hand":
            return {"pick": pick, "retry": chance.random() < 0.5}
    return {}


def failure_of(
    road: Road, run: Callable[[Coroutine[Any, Any, Any]], Any], seed: int, taken: Sequence[Step]
) -> Exception | None:
    """Run a sequence; return what is wrong with it."""
    sequence = Permutations(road, run, versioned=seed % 2 == 0, ascending=seed % 4 < 2, once_more=seed % 5 == 0)
    try:
        for name, arguments in taken:
            getattr(sequence, name)(**arguments)
        sequence.end()
    except Exception as error:
        sequence.abandon()
        return error
    return None


def run_sequences(road: Road, run: Callable[[Coroutine[Any, Any, Any]], Any], count: int, *, first_seed: int) -> int:
    """Run so many sequences; return how many ran.

    Raises:
        AssertionError: one failed; the message has its seed and the fewest of its steps that fail too.
    """
    for seed in range(first_seed, first_seed + count):
        taken = steps(random.Random(seed))
        error = failure_of(road, run, seed, taken)
        if error is None:
            continue
        for index in reversed(range(len(taken))):
            fewer = taken[:index] + taken[index + 1 :]
            if (still := failure_of(road, run, seed, fewer)) is not None:
                taken, error = fewer, still
        shown = "\n".join(f"  {name} {arguments}" for name, arguments in taken)
        raise AssertionError(f"seed {seed}: {error!r}\n{shown}") from error
    return count
