"""A document that is longer than a push may last: it goes on in the next delivery, and in the next."""

from __future__ import annotations

import pytest

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from tests.acceptance.pushing import push, push_settings
from tests.acceptance.test_kill import SECTIONS, TEXTS_PER_CALL, manual
from tests.plugins.model_server import ModelServer
from tests.plugins.stack import Site

# The SDK's own class, which we cannot change.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.slow,
]


async def test_a_long_document_is_completed_over_many_pushes(site: Site, model: ModelServer) -> None:
    """With the tiniest slices each push gets a batch further; Pub/Sub brings the next, and no text is paid twice."""
    said = model.environment() | push_settings(site, "process") | {"PUSH_SLICE_SECONDS": 0.001}
    async with (
        site.service(build_ingest, IngestSettings),
        site.service(build_process, ProcessSettings, **said) as address,
    ):
        await push(site, "work-interactive", address, service="process")
        await site.upload("valves.md", manual())
        (job,) = await site.ended("valves.md")
    assert (job["status"], job["attempts"], job["rescue_count"]) == ("completed", 1, 0)
    slices = await site.value("select count(*) from job_events where job_id = $1 and status = 'pending'", job["id"])
    assert slices >= SECTIONS / TEXTS_PER_CALL
    assert model.paid.total() == SECTIONS
    assert model.repeated == {}
    assert [ordinal for ordinal, _, _ in await site.chunks(job["id"])] == list(range(SECTIONS))
