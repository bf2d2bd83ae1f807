"""What surrounds every route: the description, the page, spans, counts, unknown paths."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from services.api.openapi import VERSION, describe
from services.api.schemas import JobDetail, JobList, JobView, Problem, SearchAnswer, StatsView
from shared.model.job import Stage
from tests.services.api.conftest import ApiUnderTest
from tests.services.api.fakes import a_hit, a_job, a_ledger


async def document(api: ApiUnderTest) -> dict[str, Any]:
    """Return the API's own description."""
    async with api.session.get(api.url("/openapi.json")) as answer:
        body: dict[str, Any] = await answer.json()
        return body


async def test_every_route_answers_and_is_described(api: ApiUnderTest) -> None:
    """The description names exactly the routes that exist: each of its operations is routed, and nothing else."""
    described = {
        (method.upper(), path) for path, methods in (await document(api))["paths"].items() for method in methods
    }
    for method, path in described:
        concrete = path.replace("{id}", "00000000-0000-0000-0000-000000000000")
        async with api.session.request(method, api.url(concrete)) as answer:
            assert answer.status != 405
            assert answer.status != 404 or ((await answer.json())["code"] == "NOT_FOUND" and "{id}" in path)
    assert len(described) == 12


async def test_answers_are_what_the_description_says(api: ApiUnderTest) -> None:
    """Each answer has exactly the fields that its schema in the description lists."""
    job = a_job()
    api.directory.jobs[job.id] = job
    api.directory.ledgers[job.id] = a_ledger(job, Stage.PENDING, Stage.DOWNLOADING)
    api.index.hits = [a_hit()]
    described = await document(api)
    schemas = described["components"]["schemas"]
    asked: dict[tuple[str, str], Any] = {
        ("get", "/api/v1/jobs/{id}"): JobDetail,
        ("get", "/api/v1/admin/jobs"): JobList,
        ("get", "/api/v1/admin/jobs/stats"): StatsView,
        ("delete", "/api/v1/admin/jobs/{id}"): JobView,
        ("post", "/api/v1/admin/jobs/{id}/retry"): JobView,
        ("post", "/api/v1/search"): SearchAnswer,
    }
    for (method, path), model in asked.items():
        operation = described["paths"][path][method]
        reference = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        assert reference == f"#/components/schemas/{model.__name__}"
        body = {"json": {"query": "gate"}} if method == "post" and "search" in path else {}
        async with api.session.request(method, api.url(path.replace("{id}", str(job.id))), **body) as answer:
            assert answer.status == 200, path
            said = await answer.json()
        assert said.keys() == schemas[model.__name__]["properties"].keys()
        model.model_validate(said)


async def test_all_references_in_the_description_lead_somewhere(api: ApiUnderTest) -> None:
    """A generator of clients finds every schema that is referred to."""
    described = await document(api)
    found = set(re.findall(r"#/components/schemas/(\w+)", str(described)))
    assert found <= described["components"]["schemas"].keys()
    assert {"SearchBody", "Problem", "JobDetail"} <= found


async def test_parameters_are_described_where_they_stand(api: ApiUnderTest) -> None:
    """Ids are in the path and required, filters are in the query with their limits."""
    paths = (await document(api))["paths"]
    (job_id,) = paths["/api/v1/admin/jobs/{id}"]["delete"]["parameters"]
    assert (job_id["in"], job_id["required"], job_id["schema"]["format"]) == ("path", True, "uuid")
    limit = next(entry for entry in paths["/api/v1/admin/jobs"]["get"]["parameters"] if entry["name"] == "limit")
    assert (limit["in"], limit["schema"]["maximum"]) == ("query", 200)


def test_the_version_is_the_packages() -> None:
    """The description and the package carry one version."""
    project = tomllib.loads(Path(__file__).parents[3].joinpath("pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert describe([])["info"]["version"] == VERSION


async def test_the_page_names_the_routes_and_loads_nothing(api: ApiUnderTest) -> None:
    """People who open the address see what there is, without any request elsewhere."""
    async with api.session.get(api.url("/")) as answer:
        page = await answer.text()
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for path in (await document(api))["paths"]:
        assert path == "/" or path in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


async def test_errors_of_the_router_are_problems_too(api: ApiUnderTest) -> None:
    """Unknown paths and methods answer in the same form as everything else."""
    for method, path, status in (("GET", "/nowhere", 404), ("PUT", "/api/v1/search", 405)):
        async with api.session.request(method, api.url(path)) as answer:
            assert (answer.status, answer.content_type) == (status, "application/problem+json")
            Problem.model_validate(await answer.json())
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_requests_are_traced_and_counted_by_pattern(api: ApiUnderTest) -> None:
    """A span and a duration carry the route's pattern, never the path, and go on with the caller's trace."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    async with api.session.get(api.url("/api/v1/jobs/nobody-but-me"), headers=headers) as answer:
        assert answer.status == 400
    (span,) = api.spans.get_finished_spans()
    assert span.name == "GET /api/v1/jobs/{id}"
    assert span.context is not None
    assert format(span.context.trace_id, "032x") == trace
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 400
    async with api.session.get(api.url("/metrics")) as answer:
        text = await answer.text()
    assert 'route="/api/v1/jobs/{id}"' in text
    assert "nobody-but-me" not in text
