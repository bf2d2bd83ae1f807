"""Asking for work about many files: by administrators, once, with what belongs to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from services.api.app import callers
from services.api.routes.tasks import TaskEndpoints
from services.api.settings import ApiSettings
from services.api.web import application
from shared.model.job import JobType, Lane
from shared.ports.stores import Scope
from shared.postgres.directory import PostgresJobDirectory
from shared.postgres.tasks import PostgresTaskStore
from shared.runtime.app import Service, running
from shared.settings import load
from tests.plugins.road import Road
from tests.services.api.conftest import SETTINGS

PATH = "/api/v1/admin/jobs"


class Asking:
    """Asks the api as an administrator, or with other headers."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address, self._session = address, session

    async def __call__(self, body: Any, **headers: str) -> tuple[int, Any]:
        """Return status and answer."""
        async with self._session.post(self._address + PATH, json=body, headers=headers) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def ask(road: Road) -> AsyncIterator[Asking]:
    """Give an api on the road's database."""
    settings = load(ApiSettings, SETTINGS)
    routes = TaskEndpoints(PostgresTaskStore(road.database), PostgresJobDirectory(road.database)).routes()
    app = application(routes, callers(settings), tracing=road.tracing, metrics=road.metrics)
    async with (
        running(Service(name="api", application=app), settings) as address,
        aiohttp.ClientSession() as session,
    ):
        yield Asking(address, session)


async def test_a_backfill_is_asked_for_once(road: Road, ask: Asking) -> None:
    """The same question is answered with the same job; another organization's is another one."""
    status, job = await ask({"job_type": "bulk_import", "prefix": "old/"})
    assert (status, job["status"], job["lane"], job["organization_id"]) == (200, "pending", "bulk", "?")
    assert (await ask({"job_type": "bulk_import", "prefix": "old/"}))[1]["id"] == job["id"]
    _, other = await ask({"job_type": "bulk_import", "prefix": "old/", "organization_id": "acme"})
    assert (other["id"] != job["id"], other["organization_id"]) == (True, "acme")
    row = await road.directory.get(UUID(other["id"]), Scope())
    assert row is not None
    assert (row.job_type, row.payload) == (JobType.BULK_IMPORT, {"prefix": "old/", "organization_id": "acme"})


async def test_a_cleanup_has_an_age(road: Road, ask: Asking) -> None:
    """Without one it is the default; there is one cleanup at a time."""
    _, job = await ask({"job_type": "audit_cleanup"})
    row = await road.directory.get(UUID(job["id"]), Scope())
    assert row is not None
    assert (row.payload, row.lane) == ({"older_than_days": 90}, Lane.BULK)
    assert (await ask({"job_type": "audit_cleanup", "older_than_days": 1}))[1]["id"] == job["id"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"job_type": "document_processing"},
        {"job_type": "bulk_import", "older_than_days": 3},
        {"job_type": "audit_cleanup", "prefix": "a"},
        {"job_type": "audit_cleanup", "older_than_days": 0},
        {"job_type": "bulk_import", "organization_id": "?"},
        {"job_type": "bulk_import", "prefix": "a\x00"},
    ],
)
async def test_what_makes_no_sense_is_refused(ask: Asking, body: dict[str, Any]) -> None:
    """With the name of the field, and nothing is written."""
    status, problem = await ask(body)
    assert (status, problem["code"]) == (400, "INVALID_REQUEST")


async def test_members_may_not(ask: Asking) -> None:
    """Only administrators ask for work about many files."""
    member = {"X-Headrace-Organization": "acme", "X-Headrace-Role": "member"}
    assert (await ask({"job_type": "bulk_import", "prefix": ""}, **member))[0] == 403
