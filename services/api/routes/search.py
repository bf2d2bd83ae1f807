"""A question in words becomes passages with their places."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.api.route import Call, Route
from services.api.schemas import Hit, NoParams, SearchAnswer, SearchBody
from shared.errors import AuthenticationError, Conflict, DependencyUnavailable
from shared.ports.models import Embedder
from shared.ports.stores import ChunkIndex, SearchRequest


class SearchEndpoint:
    """Searches the caller's own organization, administrators too: a passage is content, not operation."""

    def __init__(
        self,
        index: ChunkIndex,
        embedder: Embedder,
        *,
        timeout_seconds: float,
        searched: Callable[[], Awaitable[Embedder]] | None = None,
    ) -> None:
        """`timeout_seconds` bounds one search, the embedding of the question included.

        `searched` gives the model of the space that is searched at present, where that is not always `embedder`'s.
        """
        self._searched = searched
        self._index = index
        self._embedder = embedder
        self._timeout_seconds = timeout_seconds

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the endpoint."""
        return (
            Route(
                method="POST",
                path="/api/v1/search",
                summary="The passages that answer a question best, each with its file and its place in it",
                params=NoParams,
                body=SearchBody,
                answer=SearchAnswer,
                handler=self.search,
                errors=(503,),
            ),
        )

    async def search(self, call: Call[NoParams, SearchBody]) -> SearchAnswer:
        """Answer with passages, best first."""
        asked = call.body
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while True:
                    embedder = self._embedder if self._searched is None else await self._searched()
                    try:
                        return await self._answer(embedder, asked, call.caller.organization_id)
                    except Conflict as error:
                        # Between two looks at the database another space became the searched one.
                        if self._searched is None or error.code != "SPACE_SWITCHED":
                            raise
        except TimeoutError:
            raise DependencyUnavailable(
                f"The search took longer than {self._timeout_seconds:g} s; try again.", code="SEARCH_TIMED_OUT"
            ) from None

    async def _answer(self, embedder: Embedder, asked: SearchBody, organization_id: str) -> SearchAnswer:
        vector = await self._vector(embedder, asked.query)
        hits = await self._index.search(
            SearchRequest(
                text=asked.query,
                vector=vector,
                space=embedder.space,
                organization_id=organization_id,
                limit=asked.limit,
                name_prefix=asked.prefix,
                media_types=tuple(asked.media_types),
            )
        )
        return SearchAnswer(hits=[Hit.of(hit) for hit in hits], space=embedder.space.key)

    async def _vector(self, embedder: Embedder, query: str) -> Sequence[float]:
        try:
            answer = await embedder.embed([query], purpose="query")
        except AuthenticationError as error:  # ours were refused, which is no fault of the caller's
            raise DependencyUnavailable(
                f"The embedding model refused this service's credentials: {error.message}", code=error.code
            ) from error
        return answer.vectors[0]
