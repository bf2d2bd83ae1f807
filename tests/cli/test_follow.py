"""How the ends of uploads are noticed: by their jobs, or by bucket and index being in step without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from io import StringIO

import pytest
from aiohttp.test_utils import TestServer

from cli import follow, look
from cli.board import Row
from cli.client import Api
from cli.commands.upload import watch
from cli.follow import COMPARED_SECONDS, UNNOTICED_SECONDS, Upload, until_ended
from services.api.callers import HeaderCallers
from services.api.routes.admin_jobs import AdminJobEndpoints
from services.api.routes.drift import DriftEndpoints
from services.api.web import application
from shared.clock import SystemClock
from shared.errors import DependencyUnavailable
from shared.model.job import Stage, Status
from tests.cli.conftest import Timeline
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road
from tests.services.api.conftest import api_under_test
from tests.services.api.fakes import NOON, a_job
from tests.services.recover.test_drift import HastyClock, Unsteady, check_of


@pytest.fixture
async def client(road: Road) -> AsyncIterator[Api]:
    """Give a client of an api that serves the jobs of the road, and compares its bucket with its index."""
    routes = [
        *AdminJobEndpoints(road.directory).routes(),
        *DriftEndpoints(check_of(road, HastyClock()), SystemClock()).routes(),
    ]
    callers = HeaderCallers(default_organization_id="acme")
    app = application(routes, callers, tracing=road.tracing, metrics=road.metrics)
    async with TestServer(app) as server, Api(str(server.make_url("")).rstrip("/")) as opened:
        yield opened


def an_upload(name: str, generation: int) -> Upload:
    """Return something that was just written."""
    return Upload(name, generation, Row(name, 1, NOON))


def uploaded(road: Road, name: str, content: bytes) -> Upload:
    """Write a file of which nobody was told yet."""
    return an_upload(name, road.bucket.put(name, content).generation)


async def noticed(road: Road, *names: str) -> None:
    """Tell of files, and let the work be done."""
    for name in names:
        await road.notify(name)
    await road.work_off()


async def followed(client: Api, clock: ManualClock, *uploads: Upload) -> int:
    """Watch to the end as the command does; return its exit code."""
    return await watch(look.console(StringIO()), client, uploads, clock)


async def test_uploads_are_followed_to_their_ends() -> None:
    """Only the job of the very generation that was written counts, and changes are told."""
    old = a_job("d/a.txt", generation=1, status=Status.FAILED, stage=Stage.FAILED, error_code="CORRUPT")
    new = a_job("d/a.txt", generation=2)
    upload, seen = an_upload("d/a.txt", 2), list[str]()
    async with api_under_test() as api, Api(api.address) as client:
        api.directory.jobs = {job.id: job for job in (new, old)}

        def changed() -> None:
            assert upload.row.job is not None
            seen.append(upload.row.job.status.value)
            if len(seen) == 2:
                api.directory.jobs[new.id] = replace(new, status=Status.COMPLETED, stage=Stage.COMPLETED)

        await until_ended(client, [upload], Timeline(), changed=changed)
    assert seen == ["pending", "pending", "completed"]
    assert not upload.row.failed


async def test_other_bytes_that_nobody_has_looked_at_yet_are_waited_for(road: Road, client: Api) -> None:
    """That an older version is indexed says nothing of the new one: its own job does, however late it is made."""
    road.bucket.put("report.pdf", b"old")
    await noticed(road, "report.pdf")
    upload = uploaded(road, "report.pdf", b"")
    clock = Timeline({10.0: lambda: noticed(road, "report.pdf")})
    assert await followed(client, clock, upload) == 1
    assert (upload.row.failed, upload.row.unchanged) == (True, False)


async def test_bytes_that_are_indexed_already_are_unchanged(road: Road, client: Api) -> None:
    """A generation that was adopted has no job and never will: bucket and index are in step, which is an end."""
    road.bucket.put("a.txt", b"alpha")
    await noticed(road, "a.txt")
    upload = uploaded(road, "a.txt", b"alpha")
    decided_seconds = 3 * COMPARED_SECONDS
    clock = Timeline({decided_seconds: lambda: noticed(road, "a.txt")})
    assert await followed(client, clock, upload) == 0
    assert (upload.row.unchanged, upload.row.job) == (True, None)
    assert clock.monotonic() >= decided_seconds, "until then the index knew the former generation only"


async def test_a_newer_version_that_is_worked_on_is_waited_for(road: Road, client: Api) -> None:
    """Overwritten before anybody looked, a generation never has a job; the file is searchable once its successor is."""
    upload = uploaded(road, "a.txt", b"mine")
    road.bucket.put("a.txt", b"theirs")
    await road.notify("a.txt")
    worked = Timeline({20.0: road.work_off})
    assert await followed(client, worked, upload) == 0
    assert worked.monotonic() >= 20


async def test_many_names_are_compared_in_stretches(road: Road, client: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands between them, each name is found to be in step or not by itself."""
    monkeypatch.setattr(follow, "STRETCH", 2)
    names = ["1", "10", "2", "a/1", "a/10", "a/2", "a/é", "b", "\ue000", "😀"]
    for name in (*names, "0", "a/11", "a/12", "a/13", "c"):
        road.bucket.put(name, name.encode())
    await noticed(road, *names)
    uploads = [uploaded(road, name, name.encode()) for name in names]
    late = {"10", "a/2", "😀"}
    for name in set(names) - late:
        await road.notify(name)
    clock = Timeline({COMPARED_SECONDS + 2: lambda: noticed(road, *late)})
    unchanged: set[str] = set()

    def changed() -> None:
        if clock.monotonic() < COMPARED_SECONDS + 2:
            unchanged.update(upload.name for upload in uploads if upload.row.unchanged)

    await until_ended(client, uploads, clock, changed=changed)
    assert unchanged == set(names) - late
    assert all(upload.row.unchanged for upload in uploads)


async def test_a_comparison_that_fails_is_made_again(road: Road, client: Api) -> None:
    """A bucket that cannot be listed for a while says nothing about an upload."""
    road.bucket.put("a.txt", b"alpha")
    await noticed(road, "a.txt")
    upload = uploaded(road, "a.txt", b"alpha")
    refusals: list[Exception] = [DependencyUnavailable() for _ in range(8)]
    Unsteady(road, {"a.txt": refusals})
    await road.notify("a.txt")
    assert await followed(client, Timeline(), upload) == 0
    assert (upload.row.unchanged, refusals) == (True, [])


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_file_that_nobody_notices_is_an_error_in_the_end(road: Road, client: Api, deleted: bool) -> None:
    """The wait for a job is bounded by more than a recover run takes, also if the file is gone by then."""
    upload, clock = uploaded(road, "d/a.txt", b"text"), Timeline()
    if deleted:
        road.bucket.remove("d/a.txt")
    with pytest.raises(DependencyUnavailable) as failure:
        await until_ended(client, [upload], clock, changed=lambda: None, poll_seconds=UNNOTICED_SECONDS / 5)
    assert failure.value.code == "NOT_NOTICED"
