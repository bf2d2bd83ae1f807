"""Bucket and index compared: what is found, what is repaired, and that it takes no memory."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

import pytest

from services.recover.duties.reconcile import reconcile
from services.recover.gauges import Gauges
from shared.clock import Clock
from shared.errors import AuthenticationError, DependencyUnavailable, InvalidRequest, RateLimitError
from shared.model.decision import Owner
from shared.model.document import ObjectMetadata, ObjectRef
from shared.model.job import Status
from shared.worker import drift
from shared.worker.drift import DriftCheck, DriftClass, differences
from tests.fakes import BUCKET
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road

NAMES = ["A", "a", "a b", "a/b", "z", "é", "ÿ", "\ud7ff", "\ue000", "𐀀", "😀", "😀/x"]
"""Their order by UTF-8 bytes is not their order by UTF-16 units, and not that of any language."""


class Side(NamedTuple):
    """As much of an object, and of a document, as a comparison looks at."""

    ref: ObjectRef
    generation: int = 1
    metageneration: int = 1
    organization_id: str = "acme"
    current_job_id: UUID | None = UUID(int=1)
    current_job_status: Status = Status.COMPLETED
    is_folder: bool = False


class Undecided:
    """Stands where a synchroniser would, for looks that decide nothing."""

    def owner_of(self, _live: object) -> None:
        return None


class Sides:
    """Both sides of a comparison, made while they are read."""

    def __init__(self, objects: Callable[[], AsyncIterator[str]], documents: Callable[[str, int], list[str]]) -> None:
        self._objects, self._documents = objects, documents

    async def list(self, bucket: str, prefix: str = "", *, start_after: str = "") -> AsyncIterator[Side]:
        async for name in self._objects():
            if name > start_after:
                yield Side(ObjectRef(bucket, name))

    async def documents(self, bucket: str, *, after: str, limit: int) -> list[Side]:
        return [Side(ObjectRef(bucket, name)) for name in self._documents(after, limit)]


def counted(total: int, *, without: int = 0) -> Sides:
    """Return equal sides of `total` names, but for every `without`-th document."""

    def kept(number: int) -> bool:
        return not without or number % without != 0

    async def objects() -> AsyncIterator[str]:
        for number in range(total):
            yield f"{number:09}"

    def documents(after: str, limit: int) -> list[str]:
        page: list[str] = []
        number = int(after) + 1 if after else 0
        while number < total and len(page) < limit:
            if kept(number):
                page.append(f"{number:09}")
            number += 1
        return page

    return Sides(objects, documents)


def check_of(road: Road, clock: Clock | None = None) -> DriftCheck:
    """Return the check as the services wire it."""
    from shared.postgres.recover import PostgresRecoverStore

    return DriftCheck(
        documents=PostgresRecoverStore(road.database),
        storage=road.bucket,
        synchroniser=road.synchroniser,
        bucket=BUCKET,
        clock=clock,
    )


class HastyClock(ManualClock):
    """Notes how long it was to wait, and moves on at once."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.advance(seconds)


class Unsteady:
    """A listing of a bucket that fails at a name, as often as there are errors for it."""

    def __init__(self, road: Road, errors: dict[str, list[Exception]]) -> None:
        self._list, self._errors = road.bucket.list, errors
        self.asked_from: list[str] = []
        road.bucket.list = self

    async def __call__(self, bucket: str, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectMetadata]:
        self.asked_from.append(start_after)
        async for live in self._list(bucket, prefix, start_after=start_after):
            if self._errors.get(live.ref.name):
                raise self._errors[live.ref.name].pop()
            yield live


async def a_drifted_bucket(road: Road) -> None:
    """Index six files, then change all but one behind our back."""
    for name in ("changed", "described", "gone", "same"):
        road.bucket.put(name, name.encode())
        await road.notify(name)
    for name in ("broken", "stopped"):
        road.bucket.put(name, b"" if name == "broken" else b"text")
        await road.notify(name)
        if name == "stopped":
            (job,) = await road.fetch("select id from document_processing_jobs where name = 'stopped'")
            from shared.ports.stores import Scope

            await road.directory.cancel(job["id"], Scope())
    await road.work_off()
    road.bucket.put("changed", b"other")
    road.bucket.describe("described", colour="blue")
    road.bucket.remove("gone")
    road.bucket.put("new", b"new")


async def test_each_class_is_what_the_design_says(road: Road) -> None:
    """Missing, stale (generation or metadata), orphan, and failed (or cancelled); what is the same is no drift."""
    await a_drifted_bucket(road)
    report = await check_of(road).run(repair=False, examples=5)
    named = {difference.value: [ref.name for ref in refs] for difference, refs in report.examples.items()}
    assert named == {
        "missing": ["new"],
        "stale": ["changed", "described"],
        "orphan": ["gone"],
        "failed": ["broken", "stopped"],
    }
    assert (report.compared, report.after) == (7, None)


async def test_a_look_changes_nothing(road: Road) -> None:
    """Without repair nothing is decided: not even Storage is asked about single objects."""
    await a_drifted_bucket(road)
    stats, rows = road.bucket.stats, await road.fetch("select * from documents order by id")
    await check_of(road).run(repair=False)
    assert road.bucket.stats == stats
    assert await road.fetch("select * from documents order by id") == rows


async def test_a_repair_leaves_only_what_failed(road: Road) -> None:
    """After a repair and the work it brings, the class `failed` is all that is left."""
    await a_drifted_bucket(road)
    report = await check_of(road).run(repair=True)
    assert (report.repaired, report.settled, report.errors) == (4, 0, 0)
    await road.work_off()
    again = await check_of(road).run(repair=True)
    assert dict(again.found) == {DriftClass.FAILED: 2}
    assert await road.visible("gone") == []
    assert await road.visible("changed") == ["other"]


async def test_a_file_that_is_known_and_neither_shown_nor_worked_on_is_found_and_repaired(road: Road) -> None:
    """The generation stands on passages of an older one, and these are gone, or are of other bytes."""
    for name in ("gone", "kept", "other"):
        for _ in range(2):  # The second one keeps the passages of the first, and has no job.
            road.bucket.put(name, name.encode())
            await road.notify(name)
            await road.work_off()
    await road.fetch("update documents set live_job_id = null where name = 'gone'")
    await road.fetch("update documents set indexed_md5 = 'x', indexed_crc32c = 'x' where name = 'other'")
    report = await check_of(road).run(repair=True, examples=5)
    named = {difference.value: [ref.name for ref in refs] for difference, refs in report.examples.items()}
    assert (named, report.repaired) == ({"missing": ["gone"], "stale": ["other"]}, 2)
    await road.work_off()
    assert [await road.visible(name) for name in ("gone", "kept", "other")] == [["gone"], ["kept"], ["other"]]
    assert not (await check_of(road).run(repair=True)).found
    assert await road.in_step()


async def test_a_file_of_nobody_is_found_and_repaired_when_the_settings_name_its_owner(road: Road) -> None:
    """With a default organization set since, no notification and no retry is needed; without one it stays `failed`."""
    road.synchroniser.owner_of = lambda _: None
    road.bucket.put("a", b"alpha")
    await road.notify("a")
    assert dict((await check_of(road).run(repair=True)).found) == {DriftClass.FAILED: 1}
    road.synchroniser.owner_of = lambda _: Owner(organization_id="acme")
    report = await check_of(road).run(repair=True)
    assert (dict(report.found), report.repaired) == ({DriftClass.STALE: 1}, 1)
    await road.work_off()
    assert await road.visible("a") == ["alpha"]
    assert not (await check_of(road).run(repair=True)).found


async def test_an_orphan_that_is_back_by_then_is_kept(road: Road) -> None:
    """An object that the listing did not show, but that is there when it is looked at, loses nothing."""
    for name in ("a", "b"):
        road.bucket.put(name, name.encode())
        await road.notify(name)
    await road.work_off()
    listed = road.bucket.list
    hidden = dict(road.bucket.objects)

    async def without_b(bucket: str, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectMetadata]:
        async for live in listed(bucket, prefix, start_after=start_after):
            if live.ref.name != "b":
                yield live

    road.bucket.list = without_b
    report = await check_of(road).run(repair=True)
    assert (report.found[DriftClass.ORPHAN], report.settled, report.repaired) == (1, 1, 0)
    assert road.bucket.objects == hidden
    assert await road.visible("b") == ["b"]


async def test_a_missing_object_that_is_gone_by_then_makes_no_job(road: Road) -> None:
    """An object that was removed between listing and repair is left alone."""
    road.bucket.put("a", b"a")
    objects = [live async for live in road.bucket.list(BUCKET)]
    road.bucket.remove("a")

    async def stale_listing(bucket: str, prefix: str = "", *, start_after: str = "") -> AsyncIterator[ObjectMetadata]:
        for live in objects:
            yield live

    road.bucket.list = stale_listing
    report = await check_of(road).run(repair=True)
    assert (report.found[DriftClass.MISSING], report.settled) == (1, 1)
    assert await road.value("select count(*) from document_processing_jobs") == 0


async def test_names_of_all_scripts_are_merged_in_byte_order(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names beyond ASCII stand in one order on both sides, across the index's pages: no false difference."""
    for name in NAMES:
        road.bucket.put(name, b"text")
        await road.notify(name)
    for name in ("ß", "\uffff", "😁"):
        road.bucket.put(name, b"missing")
    monkeypatch.setattr(drift, "PAGE", 3)
    report = await check_of(road).run(repair=False, examples=5)
    assert dict(report.found) == {DriftClass.MISSING: 3}
    assert [ref.name for ref in report.examples[DriftClass.MISSING]] == ["ß", "\uffff", "😁"]
    listed = [live.ref.name async for live in road.bucket.list(BUCKET)]
    merged = [
        ref.name async for ref, _ in differences(road.bucket, check_of(road)._documents, BUCKET, clock=ManualClock())
    ]
    assert merged == listed == sorted(listed, key=str.encode)


@pytest.mark.parametrize("total", [0, 1, drift.PAGE - 1, drift.PAGE, drift.PAGE + 1, 2 * drift.PAGE])
async def test_nothing_is_lost_at_the_edge_of_a_page(total: int) -> None:
    """However the number of documents falls on pages, every name is compared once and none differs."""
    sides = counted(total)
    seen = [(ref.name, difference) async for ref, difference in differences(sides, sides, BUCKET, clock=ManualClock())]
    assert seen == [(f"{number:09}", None) for number in range(total)]


async def test_a_comparison_goes_on_from_any_name() -> None:
    """From wherever it stopped, a comparison sees the rest and nothing twice."""
    sides = counted(1203, without=7)
    check = DriftCheck(documents=sides, storage=sides, synchroniser=Undecided(), bucket=BUCKET)
    whole = await check.run(repair=False)
    compared = missing = 0
    after: str | None = ""
    while after is not None:
        report = await check.run(repair=False, after=after, limit=100)
        compared, missing = compared + report.compared, missing + report.found[DriftClass.MISSING]
        after = report.after
    assert (compared, missing) == (1203, whole.found[DriftClass.MISSING]) == (1203, 172)


async def most_blocks(total: int) -> int:
    """Return how many more blocks of memory are in use at most while so many names are compared.

    Python counts them anyway; tracing each allocation would take minutes for what takes seconds.
    """
    sides = counted(total, without=100)
    check = DriftCheck(documents=sides, storage=sides, synchroniser=Undecided(), bucket=BUCKET)
    gc.collect()
    before, most = sys.getallocatedblocks(), 0

    def look() -> bool:
        nonlocal most
        most = max(most, sys.getallocatedblocks() - before)
        return False

    report = await check.run(repair=False, examples=10, stop=look)
    assert (report.compared, report.found[DriftClass.MISSING]) == (total, total // 100)
    return most


async def test_a_comparison_holds_a_page_of_each_side() -> None:
    """Comparing 20,000 names takes less than 2 MB at any time."""
    sides = counted(20_000, without=100)
    check = DriftCheck(documents=sides, storage=sides, synchroniser=Undecided(), bucket=BUCKET)
    tracemalloc.start()
    try:
        await check.run(repair=False, examples=10)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 << 20


async def test_memory_does_not_grow_with_the_bucket() -> None:
    """200,000 names take no more memory than 10,000."""
    assert await most_blocks(200_000) < await most_blocks(10_000) * 1.2


@pytest.mark.slow
async def test_memory_stays_flat_for_millions() -> None:
    """Two million names take no more memory than 10,000."""
    assert await most_blocks(2_000_000) < await most_blocks(10_000) * 1.2


async def test_an_unfinished_comparison_is_gone_on_with(road: Road) -> None:
    """A run whose time is over says so; the next ones go on where it stopped, and the last knows the whole count."""
    for number in range(10):
        road.bucket.put(f"{number}", b"text")
    clock = ManualClock(datetime.now(UTC))
    road.recover._clock = clock
    stat, looked_at = road.bucket.stat, []

    async def slow(ref: ObjectRef) -> ObjectMetadata | None:
        looked_at.append(ref.name)
        clock.advance(100)
        return await stat(ref)

    road.bucket.stat = slow
    road.recover._hourly = {"reconcile": (road.recover._hourly["reconcile"][0], 3600.0)}
    unfinished = 0
    while (summary := await road.recover())["duties"]["reconcile"].get("unfinished"):
        unfinished += 1
        assert "cursors" not in summary
    assert unfinished == 3
    assert looked_at == [str(number) for number in range(10)]
    assert summary["duties"]["reconcile"]["missing"] == summary["duties"]["reconcile"]["compared"] == 10
    assert "reconcile" not in (await road.recover())["duties"]


async def test_a_bucket_that_cannot_be_asked_ends_the_comparison(road: Road) -> None:
    """When no object can be decided on any more, the duty fails by name instead of counting for an hour."""
    for number in range(30):
        road.bucket.put(f"{number:02}", b"text")

    async def away(ref: ObjectRef) -> None:
        road.bucket.stats += 1
        raise DependencyUnavailable

    road.bucket.stat = away
    summary = await road.recover()
    assert summary["errors"] == {"reconcile": "DEPENDENCY_UNAVAILABLE"}
    assert road.bucket.stats == drift.FAILURES_IN_A_ROW


async def test_objects_that_always_fail_hide_no_upload(road: Road) -> None:
    """One that was missed, behind as many bad names as end a comparison, is found by the next run."""
    for number in range(drift.FAILURES_IN_A_ROW):
        road.bucket.put(f"bad-{number:02}", b"text")
    road.bucket.put("good", b"text")
    stat = road.bucket.stat

    async def refuses_some(ref: ObjectRef) -> ObjectMetadata:
        if ref.name.startswith("bad"):
            raise InvalidRequest
        return await stat(ref)

    road.bucket.stat = refuses_some
    assert (await road.recover())["errors"] == {"reconcile": "INVALID_REQUEST"}
    assert (await road.recover())["duties"]["reconcile"]["repaired"] == 1
    assert await road.value("select count(*) from documents where name = 'good'") == 1


async def an_indexed_bucket(road: Road, names: str) -> None:
    """Put files in step, each with a name of one letter."""
    for name in names:
        road.bucket.put(name, name.encode())
        await road.notify(name)
    await road.work_off()


async def test_a_page_that_fails_is_asked_for_again(road: Road) -> None:
    """A bucket that fails now and then is compared to its end all the same, each name once, from where it failed."""
    await an_indexed_bucket(road, "abcdef")
    road.bucket.remove("b")
    unsteady = Unsteady(road, {"c": [DependencyUnavailable()] * 3, "d": [OSError()], "f": [RateLimitError()]})
    clock = HastyClock()
    report = await check_of(road, clock).run(repair=False, examples=5)
    assert (report.compared, report.after, report.gave_up) == (6, None, None)
    assert report.examples == {DriftClass.ORPHAN: [ObjectRef(BUCKET, "b")]}
    assert unsteady.asked_from == ["", "a", "a", "a", "c", "e"]
    assert clock.waits == [1, 2, 4, 1, 1]


async def test_a_page_of_the_index_that_fails_is_asked_for_again(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side may fail as well; no file is taken for a missing one."""
    await an_indexed_bucket(road, "abcdef")
    monkeypatch.setattr(drift, "PAGE", 2)
    check = check_of(road, HastyClock())
    page, errors = check._documents.documents, [DependencyUnavailable(code="DATABASE_TIMEOUT")]

    async def documents(bucket: str, *, after: str, limit: int) -> list[object]:
        if after == "d" and errors:
            raise errors.pop()
        return await page(bucket, after=after, limit=limit)

    check._documents.documents = documents
    report = await check.run(repair=False)
    assert (errors, report.compared, report.found, report.after) == ([], 6, Counter(), None)


@pytest.mark.parametrize("error", [DependencyUnavailable(), AuthenticationError()], ids=["away", "refused"])
async def test_a_listing_that_stays_broken_undoes_nothing(road: Road, error: Exception) -> None:
    """The run says that it failed, keeps what it compared, and the next one begins where nothing is known any more."""
    await an_indexed_bucket(road, "abef")
    for name in "cdgh":
        road.bucket.put(name, b"missed")
    unsteady = Unsteady(road, {"e": [error] * 8})
    clock = HastyClock()
    road.recover._hourly = {"reconcile": (partial(reconcile, check_of(road, clock)), 3600.0)}
    known = await road.fetch("select * from documents where name in ('a', 'b', 'e', 'f') order by name")
    for _ in range(2):
        assert (await road.recover())["errors"] == {"reconcile": error.code}
    assert await road.fetch("select * from documents where name in ('a', 'b', 'e', 'f') order by name") == known
    assert await road.value("select count(*) from document_processing_jobs where status = 'pending'") == 2
    tries = len(drift.TRY_AGAIN_SECONDS) + 1 if isinstance(error, DependencyUnavailable) else 1
    assert unsteady.asked_from == ["", *(["d"] * (2 * tries - 1))]
    unsteady._errors.clear()
    done = (await road.recover())["duties"]["reconcile"]
    assert (done["compared"], done["missing"], done["orphan"], done["repaired"]) == (8, 4, 0, 4)
    assert "reconcile" not in (await road.recover())["duties"]
    await road.work_off()
    assert await road.in_step()


async def test_no_page_is_asked_for_again_when_the_time_is_over(road: Road) -> None:
    """A run that has none left ends with what it has, for others to go on."""
    await an_indexed_bucket(road, "abc")
    unsteady = Unsteady(road, {"c": [DependencyUnavailable()]})
    clock = HastyClock()
    asked = iter([False, False, True])
    report = await check_of(road, clock).run(repair=False, stop=lambda: next(asked))
    assert (report.compared, report.after, type(report.gave_up)) == (2, "b", DependencyUnavailable)
    assert (unsteady.asked_from, clock.waits) == ([""], [])


async def test_what_was_found_is_a_metric(road: Road) -> None:
    """The last complete comparison stands on /metrics, class by class."""
    await a_drifted_bucket(road)
    with road.recover.gauges.shown(road.metrics):
        await road.recover()
        text = road.metrics.text()
    for difference, number in {"missing": 1, "stale": 2, "orphan": 1, "failed": 2}.items():
        assert f'headrace_drift{{difference="{difference}"}} {number}.0' in text.replace("_object", "")
    gauges = Gauges()
    gauges.compared({"missing": 5, "unfinished": 1})
    assert gauges._found(DriftClass.MISSING)() == 0
