"""Every commit and every publish of ingest, process and recover as the last thing that a process did, one at a time.

A scenario is run once undisturbed, which counts its points. Then it is run again for each of them: the process dies
just there, or its connection is cut there and it lives on in doubt. All messages are lost besides; what brings the end
state about is recover alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
import structlog

from shared.errors import AuthenticationError, DependencyUnavailable, HeadraceError, RateLimitError
from shared.ports.stores import Scope
from tests.fakes import HashEmbedder
from tests.plugins import verdict
from tests.plugins.crashes import Died, Fault, faulty_road
from tests.plugins.road import Road, delivery

BATCH = 2
FIRST = b"a: one\na: two\na: three\na: four\na: five"
SECOND = b"a: one\na: two\na: six\na: seven"


async def nothing(road: Road) -> None:
    """Begin with an empty bucket."""


async def indexed(road: Road) -> None:
    """Begin with one file that is found."""
    put(road, FIRST)
    await road.notify("a")
    await road.work_off()


async def failed(road: Road) -> None:
    """Begin with a file whose job has failed."""
    put(road, FIRST)
    await road.notify("a")
    road.embedder.errors = [AuthenticationError()]
    await road.work_off()


async def silent_worker(road: Road) -> None:
    """Begin with a worker that died after its first batch was paid for."""
    put(road, FIRST)
    await road.notify("a")
    process, _ = faulty_road(road, named=("before embed", 1))
    with contextlib.suppress(Died):
        await process.ring()
    assert len(road.embedder.calls) == 1
    await verdict.pass_time(road, 120)


async def hopeless_worker(road: Road) -> None:
    """Begin with a job that has killed its worker as often as is allowed."""
    await silent_worker(road)
    await road.fetch("update document_processing_jobs set rescue_count = 5, stalled_rescues = 5")


# What the process does.


async def create(road: Road, process: Road) -> None:
    """A file is uploaded and indexed."""
    put(road, FIRST)
    await process.notify("a")
    await process.ring()


async def overwrite(road: Road, process: Road) -> None:
    """It is overwritten and indexed again."""
    put(road, SECOND)
    await process.notify("a")
    await process.ring()


async def overwrite_at_work(road: Road, process: Road) -> None:
    """It is overwritten once more before its worker has begun."""
    put(road, SECOND)
    await process.notify("a")
    put(road, FIRST + b"\na: eight")
    await process.ring()


async def adopt(road: Road, process: Road) -> None:
    """It is written again with the same bytes."""
    put(road, FIRST)
    await process.notify("a")


async def change_owner(road: Road, process: Road) -> None:
    """It is given to another organization."""
    road.bucket.describe("a", organization_id="second")
    await process.notify("a", "OBJECT_METADATA_UPDATE")


async def delete(road: Road, process: Road) -> None:
    """It is deleted."""
    road.bucket.remove("a")
    await process.notify("a", "OBJECT_DELETE")


async def fail(road: Road, process: Road) -> None:
    """It is overwritten, and the model refuses the key."""
    put(road, SECOND)
    await process.notify("a")
    road.embedder.errors = [AuthenticationError()]
    await process.ring()


async def fail_for_nobody(road: Road, process: Road) -> None:
    """A file of nobody is uploaded."""
    put(road, SECOND, organization_id="not a name!")
    await process.notify("a")


async def retry(road: Road, process: Road) -> None:
    """The model falls over once."""
    put(road, FIRST)
    await process.notify("a")
    road.embedder.errors = [DependencyUnavailable()]
    await process.ring()


async def defer(road: Road, process: Road) -> None:
    """The model asks us to wait."""
    put(road, FIRST)
    await process.notify("a")
    road.embedder.errors = [RateLimitError(retry_after_seconds=5)]
    await process.ring()


async def shut_down(road: Road, process: Road) -> None:
    """The worker is told to stop in the middle."""
    put(road, FIRST)
    await process.notify("a")
    road.embedder.errors = [asyncio.CancelledError()]  # type: ignore[list-item]
    with contextlib.suppress(asyncio.CancelledError):
        await process.ring()


async def retry_by_a_person(road: Road, process: Road) -> None:
    """A person retries the failed job."""
    job_id = await road.value("select id from document_processing_jobs")
    await process.directory.retry(job_id, Scope())  # type: ignore[arg-type]
    await process.ring()


async def recover(road: Road, process: Road) -> None:
    """A recover run takes the job back, and a worker runs it alone."""
    await process.recover()
    await process.ring(quarantined=True)


async def find_what_nobody_heard_of(road: Road, process: Road) -> None:
    """A recover run finds an overwrite by the listing, and a worker indexes it."""
    put(road, SECOND)
    await process.recover()
    await process.ring()


async def ring_again(road: Road, process: Road) -> None:
    """A recover run rings once more for a job whose bell was lost."""
    put(road, FIRST)
    await road.notify("a")
    await verdict.pass_time(road, 3600)
    await process.recover()


async def refuse(road: Road, process: Road) -> None:
    """A message comes that is no notification."""
    await process.ingest(delivery("uploads-ingest", b"?", {"eventType": "OBJECT_FINALIZE"}))


@dataclass(frozen=True)
class Scenario:
    """How it begins, what the process does that goes wrong, and how it must end."""

    act: Callable[[Road, Road], Awaitable[None]]
    begin: Callable[[Road], Awaitable[None]] = nothing
    ends: tuple[str, ...] = ("completed",)
    """What the jobs may have become, the newest last."""

    def __str__(self) -> str:
        return self.act.__name__ if self.begin is nothing else f"{self.act.__name__} when {self.begin.__name__}"


SCENARIOS = [
    Scenario(create),
    Scenario(overwrite, indexed, ends=("completed", "completed")),
    Scenario(overwrite_at_work, indexed, ends=("completed", "cancelled", "completed")),
    Scenario(adopt, indexed),
    Scenario(change_owner, indexed),
    Scenario(delete, indexed),
    Scenario(fail, indexed, ends=("completed", "failed")),
    Scenario(fail_for_nobody, ends=("failed",)),
    Scenario(retry),
    Scenario(defer),
    Scenario(shut_down),
    Scenario(retry_by_a_person, failed),
    Scenario(recover, silent_worker),
    Scenario(recover, hopeless_worker, ends=("failed",)),
    Scenario(find_what_nobody_heard_of, indexed, ends=("completed", "completed")),
    Scenario(ring_again),
    Scenario(refuse, ends=()),
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep logs from being written: each scenario runs a hundred times."""
    with structlog.testing.capture_logs():
        yield


def put(road: Road, content: bytes, **metadata: str) -> None:
    """Write a generation and remember what it held."""
    live = road.bucket.put("a", content, **metadata)
    road.contents["a", live.generation] = content  # type: ignore[attr-defined]


async def run(road: Road, scenario: Scenario, at: int | None, fault: Fault) -> list[str]:
    """Run a scenario with a fault at one point, recover, and hold the end to be right; return the points passed."""
    await verdict.wipe(road)
    road.contents = {}  # type: ignore[attr-defined]
    await scenario.begin(road)
    process, faults = faulty_road(road, at=at, fault=fault)
    with contextlib.suppress(Died, HeadraceError):  # whoever asked is told, or hears nothing more
        await scenario.act(road, process)
    passed = list(faults.passed)
    assert (faults.fired is None) == (at is None), "the scenario passes other points than it did undisturbed"
    if not faults.dead and at is not None and scenario.act is refuse:
        await scenario.act(road, road)
    road.embedder.errors.clear()
    await verdict.settle(road)
    return passed


async def judge(road: Road, scenario: Scenario, at: int | None, fault: Fault) -> None:
    """Hold the end to be right."""
    contents = road.contents  # type: ignore[attr-defined]
    await verdict.all_is_well(road, contents, defaultdict(lambda: {"acme", "second"}))
    assert verdict.paid_again(road, {"a": 2 if scenario.act is change_owner else 1}) <= (0 if at is None else BATCH)
    jobs = await road.fetch("select * from document_processing_jobs order by created_at, id")
    # A death is charged to nobody; a cut connection may fail an attempt, and so may the scenario itself.
    charged = 1 + (fault is Fault.CUT and at is not None) + (scenario.act is retry)
    rescues = (at is not None) + (scenario.begin is silent_worker) + 5 * (scenario.begin is hopeless_worker)
    assert all(job["attempts"] <= charged and job["rescue_count"] <= rescues for job in jobs), [
        (job["status"], job["attempts"], job["rescue_count"]) for job in jobs
    ]
    letters = await road.fetch("select failures, state from dead_letters")
    assert len(letters) <= 1
    # A message that is brought again, because nobody knew that it was kept, is counted again.
    assert all(letter["failures"] <= 1 + (scenario.act is refuse) for letter in letters)
    if at is None:
        assert tuple(job["status"] for job in jobs) == scenario.ends


QUICK = {(create, Fault.DIES), (fail, Fault.DIES), (delete, Fault.CUT)}
CASES = [
    pytest.param(
        scenario,
        fault,
        id=f"{fault} in {scenario}",
        marks=[] if (scenario.act, fault) in QUICK else [pytest.mark.slow],
    )
    for fault in (Fault.DIES, Fault.CUT)
    for scenario in SCENARIOS
]


@pytest.mark.parametrize(("scenario", "fault"), CASES)
async def test_the_end_is_right_from_every_point(road: Road, scenario: Scenario, fault: Fault) -> None:
    """Wherever it dies or loses its connection: the index equals the bucket, nothing is paid twice but one batch."""
    road.embedder = HashEmbedder(batch_size=BATCH)
    road.__post_init__()
    await verdict.open_clock(road)
    await run(road, scenario, None, fault)  # makes the embedding space, which all others find
    points = await run(road, scenario, None, fault)
    await judge(road, scenario, None, fault)
    assert points
    for at, point in enumerate(points):
        if fault is Fault.DIES and point.startswith("before") and at:
            continue  # the world is as it was after the point before
        try:
            await run(road, scenario, at, fault)
            await judge(road, scenario, at, fault)
        except AssertionError as error:
            raise AssertionError(f"{fault} {point} (point {at} of {len(points)}): {error}") from error
