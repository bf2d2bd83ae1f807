"""What the API says and accepts about embedding spaces."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from services.api.schemas import Answer, Request, Text
from shared.model.space import SpaceState
from shared.ports.spaces import KnownSpace, Overlap

Key = Annotated[Text, Field(min_length=1, max_length=256, description="Such as MODEL/768/cosine/RETRIEVAL_DOCUMENT/n1")]
Share = Annotated[float, Field(ge=0, le=1)]


class FillBody(Request):
    """A space by its key, or by its model with the number of dimensions."""

    space: Key | None = None
    model: Annotated[Text, Field(min_length=1, max_length=128)] | None = None
    dimensions: Annotated[int, Field(ge=1, le=4000)] | None = None


class FillAnswer(Answer):
    """The tasks that fill the space, one for each organization; `started` of them are new."""

    id: int
    space: str
    jobs: list[UUID]
    started: int


class SpaceParams(Request):
    """One space."""

    id: Annotated[int, Field(ge=1, le=32_767)]


class CheckBody(Request):
    """How closely two spaces are compared."""

    nearest: Annotated[int, Field(ge=1, le=50)] = 10
    sample: Annotated[int, Field(ge=1, le=500)] = 100


class CheckAnswer(Answer):
    """Of the passages nearest to a stored one in the searched space, the share that is nearest in the other one too."""

    space: str
    against: str
    nearest: int
    compared: int
    mean: float | None
    worst: float | None

    @classmethod
    def of(cls, space: str, against: str, found: Overlap) -> Self:
        """Return a comparison as it is sent."""
        return cls(
            space=space,
            against=against,
            nearest=found.nearest,
            compared=found.compared,
            mean=found.mean,
            worst=found.worst,
        )


class SwitchBody(CheckBody):
    """With `min_overlap` the spaces are compared first, and a smaller mean refuses the switch."""

    min_overlap: Share | None = None


class SpaceView(Answer):
    """A space; `vectors` is an estimate. `jobs` counts what fills it, by status."""

    id: int
    space: str
    state: SpaceState
    vectors: int
    texts_done: int
    texts_total: int
    jobs: dict[str, int]
    created_at: datetime
    activated_at: datetime | None

    @classmethod
    def of(cls, known: KnownSpace) -> Self:
        """Return a space as it is sent."""
        return cls(
            id=known.id,
            space=known.space.key,
            state=known.state,
            vectors=known.vectors,
            texts_done=known.fill.texts_done,
            texts_total=known.fill.texts_total,
            jobs=known.fill.by_status,
            created_at=known.created_at,
            activated_at=known.activated_at,
        )


class SpaceList(Answer):
    """All spaces, oldest first."""

    spaces: list[SpaceView]
