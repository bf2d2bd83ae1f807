"""Folders that consoles, mounts and copying tools make as objects of 0 bytes: no files, so nothing to index."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import UnprocessableContent
from shared.model.decision import Owner
from shared.worker.drift import DriftClass
from tests.plugins.road import Road
from tests.services.recover.test_drift import check_of

JOBS = "select count(*) from document_processing_jobs"
LETTERS = "select state from dead_letters"


async def worked(road: Road, name: str) -> None:
    """Tell of an object, and let the work be done."""
    await road.notify(name)
    await road.work_off()


@pytest.mark.parametrize("owner", [Owner(organization_id="acme"), None], ids=["somebody's", "nobody's"])
async def test_a_folder_makes_no_job_and_no_letter(road: Road, owner: Owner | None) -> None:
    """Neither its notification nor a comparison of bucket and index finds anything to do, whoever it belongs to."""
    road.synchroniser.owner_of = lambda _: owner
    road.bucket.put("docs/", b"")
    assert (await road.notify("docs/")).name == "duplicate"
    report = await check_of(road).run(repair=True)
    assert (report.compared, dict(report.found)) == (1, {})
    assert await road.value(JOBS) == 0
    assert await road.fetch("select * from documents") == await road.fetch(LETTERS) == []


async def test_only_the_name_and_no_bytes_make_a_folder(road: Road) -> None:
    """An empty file is a failure that somebody should know of; what has content is a file, whatever its name is."""
    road.bucket.put("docs/x.txt", b"")
    road.bucket.put("docs/", b"alpha")
    for name in ("docs/x.txt", "docs/"):
        await worked(road, name)
    assert await road.visible("docs/") == ["alpha"]
    assert await road.value("select status from document_processing_jobs where name = 'docs/x.txt'") == "failed"
    assert [row["state"] for row in await road.fetch(LETTERS)] == ["open"]
    assert dict((await check_of(road).run(repair=True)).found) == {DriftClass.FAILED: 1}


async def test_a_file_that_becomes_a_folder_is_removed(road: Road) -> None:
    """Its passages are found no more; with content it is a file again."""
    road.bucket.put("docs/", b"alpha")
    await worked(road, "docs/")
    road.bucket.put("docs/", b"")
    await worked(road, "docs/")
    assert await road.visible("docs/") == []
    assert not (await check_of(road).run(repair=False)).found
    road.bucket.put("docs/", b"beta")
    await worked(road, "docs/")
    assert await road.visible("docs/") == ["beta"]


@pytest.mark.parametrize("by", ["a hint", "the comparison"])
@pytest.mark.parametrize("code", ["EMPTY", "TENANT_UNKNOWN"])
async def test_a_folder_that_failed_as_a_file_once_is_taken_back(road: Road, code: str, by: str) -> None:
    """An older release made failed jobs of folders: their letters are closed as those of files that are gone."""
    if code == "TENANT_UNKNOWN":
        road.synchroniser.owner_of = lambda _: None
    road.bucket.put("docs/", b"as if it were a file")
    road.embedder.errors.append(UnprocessableContent("The file is empty (0 bytes).", code="EMPTY"))
    await worked(road, "docs/")
    assert await road.value("select error_code from document_processing_jobs where status = 'failed'") == code
    live, _ = road.bucket.objects["docs/"]
    road.bucket.objects["docs/"] = (replace(live, size_bytes=0), b"")
    if by == "a hint":
        assert (await road.notify("docs/")).name == "done"
    else:
        report = await check_of(road).run(repair=True)
        assert (dict(report.found), report.repaired) == ({DriftClass.ORPHAN: 1}, 1)
    assert [row["state"] for row in await road.fetch(LETTERS)] == ["resolved"]
    assert not (await check_of(road).run(repair=True)).found
    assert await road.value(JOBS) == 1
