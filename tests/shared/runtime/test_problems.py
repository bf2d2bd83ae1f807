"""What a caller is told when something fails."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from shared import errors
from shared.runtime.problems import problem, problems

Raise = Callable[[Exception], Awaitable[TestClient[web.Request, web.Application]]]


@pytest.fixture
async def raising() -> AsyncIterator[Raise]:
    """Make a client of an application whose `/{name}` raises a given error."""
    clients = []

    async def make(error: Exception) -> TestClient[web.Request, web.Application]:
        async def handler(_request: web.Request) -> web.Response:
            raise error

        application = web.Application(middlewares=[problems])
        application.router.add_get("/{name}", handler)
        client = TestClient(TestServer(application))
        clients.append(client)
        await client.start_server()
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequest("Write a number."), 400),
        (errors.AuthenticationError(), 401),
        (errors.AuthenticationError(code="FORBIDDEN"), 403),
        (errors.NotFound(), 404),
        (errors.Conflict(), 409),
        (errors.UnprocessableContent(), 422),
        (errors.RateLimitError(), 429),
        (errors.PoolExhausted(), 503),
        (errors.DependencyUnavailable(), 503),
        (errors.LeaseLost("the secret detail"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_each_error_has_its_status(raising: Raise, error: errors.HeadraceError, status: int) -> None:
    """The class of an error decides status and code; its sentence is for the caller unless the fault is ours."""
    answer = await (await raising(error)).get("/x")
    body = await answer.json(content_type="application/problem+json")
    assert answer.status == status
    assert (body["status"], body["code"]) == (status, error.code)
    assert body.get("detail") == (error.message if status != 500 else None)
    assert ("Retry-After" in answer.headers) == (status in {429, 503})
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


async def test_retry_after_is_rounded_up(raising: Raise) -> None:
    """A caller is told to wait at least as long as we were."""
    answer = await (await raising(errors.RateLimitError(retry_after_seconds=2.1))).get("/x")
    assert answer.headers["Retry-After"] == "3"


async def test_unknown_error_leaks_nothing(raising: Raise) -> None:
    """A bug is logged by its route, and told as a bare 500."""
    client = await raising(KeyError("the salaries"))
    with capture_logs() as logs:
        answer = await client.get("/salaries.pdf")
    assert answer.status == 500
    assert "salaries" not in await answer.text()
    [line] = logs
    assert (line["event"], line["path"], line["error_code"]) == ("http.failed", "/{name}", "INTERNAL")


async def test_the_frameworks_errors_are_problems_too(raising: Raise) -> None:
    """A missing route and a wrong method answer in the same form."""
    client = await raising(KeyError())
    missing, wrong = await client.get("/a/b"), await client.post("/x")
    assert (await missing.json(content_type="application/problem+json"))["code"] == "NOT_FOUND"
    assert (await wrong.json(content_type="application/problem+json"))["code"] == "METHOD_NOT_ALLOWED"
    assert "GET" in wrong.headers["Allow"]


async def test_redirects_pass(raising: Raise) -> None:
    """What is no error is left alone."""
    answer = await (await raising(web.HTTPFound("/elsewhere"))).get("/x", allow_redirects=False)
    assert answer.status == 302


def test_problem_carries_further_members() -> None:
    """A problem may say more than the standard members."""
    answer = problem(503, "NOT_READY", "Not ready", failed={"postgres": "TIMEOUT"})
    assert answer.content_type == "application/problem+json"
    assert '"failed": {"postgres": "TIMEOUT"}' in str(answer.text)
