"""Embedding spaces: fill another one from stored text, compare, switch, drop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.api.route import Call, Route
from services.api.schemas import NoParams
from services.api.space_schemas import (
    CheckAnswer,
    CheckBody,
    FillAnswer,
    FillBody,
    SpaceList,
    SpaceParams,
    SpaceView,
    SwitchBody,
)
from shared.errors import InvalidRequest, NotFound
from shared.model.job import JobType
from shared.model.space import EmbeddingSpace, SpaceState
from shared.ports.models import Embedders
from shared.ports.spaces import KnownSpace, SpaceStore
from shared.ports.tasks import NewTask, TaskStore

PATH = "/api/v1/admin/spaces"


class SpaceEndpoints:
    """Needs the role of an administrator: a space holds the vectors of all organizations."""

    def __init__(self, store: SpaceStore, tasks: TaskStore, embedders: Embedders) -> None:
        self._store, self._tasks, self._embedders = store, tasks, embedders

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the endpoints."""
        return (
            Route(
                method="GET",
                path=PATH,
                summary="Embedding spaces: which is searched, and how far others are filled",
                params=NoParams,
                answer=SpaceList,
                handler=self.list,
                admin=True,
            ),
            Route(
                method="POST",
                path=PATH,
                summary="Fill a space from stored text, made if it is new; no file is read again",
                params=NoParams,
                body=FillBody,
                answer=FillAnswer,
                handler=self.fill,
                admin=True,
            ),
            Route(
                method="POST",
                path=f"{PATH}/{{id}}/check",
                summary="Compare a space with the searched one by neighbours of stored passages; calls no model",
                params=SpaceParams,
                body=CheckBody,
                answer=CheckAnswer,
                handler=self.check,
                admin=True,
                errors=(404,),
            ),
            Route(
                method="POST",
                path=f"{PATH}/{{id}}/switch",
                summary="Search this space from now on, if nothing is missing in it",
                params=SpaceParams,
                body=SwitchBody,
                answer=SpaceList,
                handler=self.switch,
                admin=True,
                errors=(404,),
            ),
            Route(
                method="DELETE",
                path=f"{PATH}/{{id}}",
                summary="Remove a space that is not searched, with its vectors",
                params=SpaceParams,
                answer=SpaceList,
                handler=self.drop,
                admin=True,
                errors=(404,),
            ),
        )

    async def list(self, _: Call[NoParams, None]) -> SpaceList:
        """Answer with all spaces."""
        return await self._listed()

    async def fill(self, call: Call[NoParams, FillBody]) -> FillAnswer:
        """Have new text embedded into the space first, then ask for the texts that are there already."""
        space = self._meant(call.body)
        if (refusal := self._embedders.refusal(space)) is not None:
            raise InvalidRequest(refusal, code="UNKNOWN_SPACE")
        if await self._store.find(space) is not SpaceState.ACTIVE:
            await self._store.fill(space)
        added = [
            await self._tasks.add(
                NewTask(
                    job_type=JobType.EMBEDDING_GENERATION,
                    organization_id=organization,
                    entity_type="space",
                    entity_id=space.key,
                    user_id=call.caller.user_id,
                )
            )
            for organization in await self._store.organizations()
        ]
        row = next(known for known in await self._store.known() if known.space == space)
        return FillAnswer(
            id=row.id,
            space=space.key,
            jobs=[job_id for job_id, _ in added],
            started=sum(is_new for _, is_new in added),
        )

    async def check(self, call: Call[SpaceParams, CheckBody]) -> CheckAnswer:
        """Answer with how much the two agree."""
        return await self._compared(await self._known(call.params.id), call.body)

    async def switch(self, call: Call[SpaceParams, SwitchBody]) -> SpaceList:
        """Switch, after the comparison if one is asked for."""
        known = await self._known(call.params.id)
        least = call.body.min_overlap
        if least is not None and known.state is not SpaceState.ACTIVE:
            found = await self._compared(known, call.body)
            if found.mean is None or found.mean < least:
                said = "nothing could be compared" if found.mean is None else f"the overlap is {found.mean:.2f}"
                raise InvalidRequest(f"{said}, and at least {least:.2f} is asked for.", code="OVERLAP_TOO_SMALL")
        await self._store.switch(known.space)
        return await self._listed()

    async def drop(self, call: Call[SpaceParams, None]) -> SpaceList:
        """Drop, and answer with what is left."""
        await self._store.drop((await self._known(call.params.id)).space)
        return await self._listed()

    async def _compared(self, known: KnownSpace, asked: CheckBody) -> CheckAnswer:
        active = await self._store.active()
        if active is None:
            raise NotFound("nothing is searched yet.", code="UNKNOWN_SPACE")
        found = await self._store.overlap(active, known.space, nearest=asked.nearest, sample=asked.sample)
        return CheckAnswer.of(known.space.key, active.key, found)

    async def _listed(self) -> SpaceList:
        return SpaceList(spaces=[SpaceView.of(known) for known in await self._store.known()])

    async def _known(self, space_id: int) -> KnownSpace:
        for known in await self._store.known():
            if known.id == space_id:
                return known
        raise NotFound("there is no such embedding space.", code="UNKNOWN_SPACE")

    def _meant(self, asked: FillBody) -> EmbeddingSpace:
        if (asked.space is None) == (asked.model is None):
            raise InvalidRequest("name a space, or a model; one of the two.")
        if asked.space is not None:
            try:
                return EmbeddingSpace.parse(asked.space)
            except ValueError as error:
                raise InvalidRequest(f"{error}.") from None
        default = self._embedders.default
        if asked.dimensions is None and asked.model != default.model:
            raise InvalidRequest("the number of dimensions is missing.")
        return EmbeddingSpace(model=asked.model or "", dimensions=asked.dimensions or default.dimensions)
