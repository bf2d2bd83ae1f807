"""The API from the other side: one method per question, answers as the API's own models, failures as our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import UUID

import aiohttp
from pydantic import BaseModel, ValidationError

from services.api.callers import ORGANIZATION_HEADER, USER_HEADER
from services.api.money_schemas import BudgetList, BudgetView, EstimateView
from services.api.schemas import DriftView, JobDetail, JobList, JobView, LedgerEntry, Problem, SearchAnswer, StatsView
from shared.errors import (
    AuthenticationError,
    DependencyUnavailable,
    HeadraceError,
    InvalidRequest,
    NotFound,
    RateLimitError,
)

CALL_SECONDS = 30.0
LONG = aiohttp.ClientTimeout(total=900, connect=5)
"""For what looks at everything that is searched."""
CONNECT_SECONDS = 5.0
EVENT_LIMIT_BYTES = 1 << 20

M = TypeVar("M", bound=BaseModel)


class Api:
    """A client of one running api service; an async context manager.

    Every method raises a `HeadraceError` with the API's code and sentence, and `DependencyUnavailable` when nothing
    answers there.
    """

    def __init__(self, address: str, *, organization: str | None = None, user: str | None = None) -> None:
        """`address` is such as `http://127.0.0.1:8080`; without names the API decides whose rows are meant."""
        self._address = address.rstrip("/")
        headers = {ORGANIZATION_HEADER: organization, USER_HEADER: user}
        self._headers = {name: value for name, value in headers.items() if value}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS, connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def ready(self) -> bool:
        """Say whether the service and everything behind it answers."""
        try:
            async with self._open("GET", "/readyz") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def job(self, job_id: UUID) -> JobDetail:
        """Return a job with its ledger."""
        return await self._ask("GET", f"/api/v1/jobs/{job_id}", JobDetail)

    async def jobs(self, *, cursor: str | None = None, limit: int = 50, **filters: str | None) -> JobList:
        """Return a page of jobs; filters are those of the API."""
        params = {name: value for name, value in (filters | {"cursor": cursor}).items() if value}
        return await self._ask("GET", "/api/v1/admin/jobs", JobList, params=params | {"limit": str(limit)})

    async def order(self, **body: str | int | None) -> JobView:
        """Ask for work about many files; fields are those of the API."""
        said = {name: value for name, value in body.items() if value is not None}
        return await self._ask("POST", "/api/v1/admin/jobs", JobView, json=said)

    async def retry(self, job_id: UUID) -> JobView:
        """Put a job back in the queue."""
        return await self._ask("POST", f"/api/v1/admin/jobs/{job_id}/retry", JobView)

    async def cancel(self, job_id: UUID) -> JobView:
        """Cancel a job."""
        return await self._ask("DELETE", f"/api/v1/admin/jobs/{job_id}", JobView)

    async def stats(self) -> StatsView:
        """Return counts."""
        return await self._ask("GET", "/api/v1/admin/jobs/stats", StatsView)

    async def budgets(self) -> BudgetList:
        """Return budgets and what is spent of them today."""
        return await self._ask("GET", "/api/v1/admin/budgets", BudgetList)

    async def set_budget(self, organization: str, amount: float | None) -> BudgetView:
        """Set what an organization may spend in a day; None: the default."""
        path = f"/api/v1/admin/budgets/{quote(organization, safe='')}"
        return await self._ask("PUT", path, BudgetView, json={"amount": amount})

    async def estimate(self, *, prefix: str, cursor: str | None) -> EstimateView:
        """Estimate a stretch of the bucket; the answer's `next_cursor` is where to go on."""
        params = {name: value for name, value in (("prefix", prefix), ("cursor", cursor)) if value}
        return await self._ask("GET", "/api/v1/admin/estimate", EstimateView, params=params)

    async def drift(self, *, repair: bool, cursor: str | None, examples: int, limit: int | None = None) -> DriftView:
        """Compare a stretch of bucket and index; the answer's `next_cursor` is where to go on."""
        said = {"cursor": cursor, "limit": limit and str(limit)}
        params = {"examples": str(examples)} | {name: value for name, value in said.items() if value}
        return await self._ask("POST" if repair else "GET", "/api/v1/admin/drift", DriftView, params=params)

    async def search(self, query: str, *, limit: int = 10, prefix: str | None = None) -> SearchAnswer:
        """Return the passages that answer a question best."""
        body = {"query": query, "limit": limit} | ({"prefix": prefix} if prefix else {})
        return await self._ask("POST", "/api/v1/search", SearchAnswer, json=body)

    async def moves(self, job_id: UUID) -> AsyncIterator[LedgerEntry]:
        """Yield a job's moves, past and to come, until it ends; a broken stream is taken up where it broke."""
        seen = 0
        while True:
            try:
                async with self._open(
                    "GET",
                    f"/api/v1/jobs/{job_id}/events",
                    headers={"Last-Event-ID": str(seen)},
                    timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=60),
                    read_bufsize=EVENT_LIMIT_BYTES,
                ) as response:
                    if response.status != 200:
                        raise await _failure(response)
                    async for name, data in _events(response):
                        if name == "end":
                            return
                        if name == "stage":
                            entry = LedgerEntry.model_validate_json(data)
                            seen = entry.seq
                            yield entry
            except aiohttp.ClientConnectorError:
                raise self._away() from None
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(1)

    async def _ask(self, method: str, path: str, kind: type[M], **options: Any) -> M:
        try:
            async with self._open(method, path, **options) as response:
                if response.status >= 400:
                    raise await _failure(response)
                return kind.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError):
            raise self._away() from None
        except ValidationError:
            raise DependencyUnavailable(
                f"{self._address} does not answer like a headrace api of this version.", code="STRANGE_ANSWER"
            ) from None

    def _open(self, method: str, path: str, **options: Any) -> aiohttp.client._RequestContextManager:
        assert self._session is not None, "the client is used inside its `async with`"
        return self._session.request(method, self._address + path, **options)

    def _away(self) -> DependencyUnavailable:
        return DependencyUnavailable(
            f"the api at {self._address} does not answer; look at `./headrace doctor`, or start it: ./headrace up"
        )


async def post_json(address: str, *, seconds: float) -> Mapping[str, Any]:
    """Ask another service of ours to do its work now, and return what it says of it, also of what it could not do."""
    timeout = aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(address) as response:
            if response.status >= 400 and response.content_type != "application/json":
                raise await _failure(response)
            answer: Mapping[str, Any] = await response.json()
            return answer
    except (aiohttp.ClientError, TimeoutError):
        raise DependencyUnavailable(f"{address} does not answer; look at `./headrace doctor`") from None


async def _failure(response: aiohttp.ClientResponse) -> HeadraceError:
    data = await response.read()
    try:
        problem = Problem.model_validate_json(data)
    except ValidationError:
        return DependencyUnavailable(f"{response.url.origin()} answered with status {response.status}.")
    kinds: dict[int, type[HeadraceError]] = {
        401: AuthenticationError,
        403: AuthenticationError,
        404: NotFound,
        429: RateLimitError,
    }
    fallback = DependencyUnavailable if response.status >= 500 else InvalidRequest
    return kinds.get(response.status, fallback)(problem.detail or f"{problem.title}.", code=problem.code)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str]]:
    """Yield (event, data) of a stream of server-sent events."""
    name, data = "message", ""
    async for raw in response.content:
        line = raw.decode().rstrip("\r\n")
        if not line:
            if data:
                yield name, data
            name, data = "message", ""
        elif line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data += line.removeprefix("data:").strip()
