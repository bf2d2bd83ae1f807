"""An embedder that opens behind its service."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from shared.embedding.late import LateEmbedder
from shared.errors import DependencyUnavailable
from shared.ports.models import Embedder
from tests.fakes import HashEmbedder


class Model:
    """Counts how often it is opened and closed, and fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.opened, self.closed = failures, 0, 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Embedder]:
        if self.failures:
            self.failures -= 1
            raise DependencyUnavailable("no credentials yet")
        self.opened += 1
        yield HashEmbedder()
        self.closed += 1


def late(model: Model, load: Callable[[], object] = lambda: None) -> LateEmbedder:
    """Return a model that is opened late."""
    return LateEmbedder(model.open, load=load)


async def test_the_service_goes_on_while_the_model_is_loaded() -> None:
    """Entering returns though loading has not, and a search waits for the model instead of failing."""
    model, loaded = Model(), threading.Event()
    async with late(model, loaded.wait) as embedder:
        assert model.opened == 0
        with pytest.raises(RuntimeError, match="not open yet"):
            _ = embedder.space
        loaded.set()
        answer = await embedder.embed(["water"], purpose="query")
        assert len(answer.vectors) == 1
        assert embedder.space == HashEmbedder().space
    assert (model.opened, model.closed) == (1, 1)


async def test_it_is_opened_once_whoever_asks() -> None:
    """Readiness and searches share the one model."""
    model = Model()
    async with late(model) as embedder:
        await embedder.ready()
        await embedder.embed(["water"], purpose="query")
        await embedder.ready()
    assert (model.opened, model.closed) == (1, 1)


async def test_opening_that_failed_is_tried_again() -> None:
    """A model that could not be opened is open once what was missing is there."""
    model = Model(failures=1)
    async with late(model) as embedder:
        with suppress(DependencyUnavailable):  # or not: the try that is made by itself may come first
            await embedder.ready()
        await embedder.ready()
    assert (model.failures, model.opened, model.closed) == (0, 1, 1)


async def test_readiness_says_why_it_is_not_open() -> None:
    """What opening raises comes out to whoever asks, of `embed` as well."""
    async with late(Model(failures=3)) as embedder:
        with pytest.raises(DependencyUnavailable):
            await embedder.ready()
        with pytest.raises(DependencyUnavailable):
            await embedder.embed(["water"], purpose="query")


async def test_a_service_that_stops_at_once_leaves_nothing_open() -> None:
    """Leaving while the model is still being loaded closes what there is, and does not wait for it."""
    model, loaded = Model(), threading.Event()
    async with late(model, loaded.wait):
        pass
    loaded.set()
    assert model.opened == model.closed
