"""What is counted of the calls to a model: each try, and nothing where no call was made."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from shared.clock import SystemClock
from shared.embedding.genai import GeminiEmbedder
from shared.embedding.metered import MeteredEmbedder
from shared.embedding.turns import ProcessTurns
from shared.errors import DependencyUnavailable, RateLimitError
from shared.telemetry.metrics import Metrics
from tests.fakes import HashEmbedder


@pytest.fixture
async def metrics() -> AsyncIterator[Metrics]:
    """Give counters of this test alone."""
    async with Metrics("test") as opened:
        yield opened


def counted(metrics: Metrics) -> dict[str, float]:
    """Return the calls that were counted, by outcome."""
    lines = re.findall(r'headrace_model_calls_total\{.*outcome="(\w+)".*\} ([\d.]+)', metrics.text())
    return {outcome: float(number) for outcome, number in lines}


async def test_a_turn_that_was_refused_is_no_call(metrics: Metrics) -> None:
    """While the model asks everybody to wait, a caller is told so without any request, and none is counted."""
    turns = ProcessTurns(SystemClock())
    await turns.refused("gemini-embedding-001", wait_seconds=3600)
    async with GeminiEmbedder(api_key="k", base_url="http://127.0.0.1:1", turns=turns) as model:
        metered = MeteredEmbedder(model, metrics=metrics, clock=SystemClock())
        with pytest.raises(RateLimitError):
            await metered.embed(["text"], purpose="document")
    assert counted(metrics) == {}
    assert "headrace_model_duration_seconds_count" not in metrics.text()


async def test_every_try_of_a_call_that_failed_is_counted(metrics: Metrics) -> None:
    """An adapter says how often it asked; one that does not asked once."""
    model = HashEmbedder()
    metered = MeteredEmbedder(model, metrics=metrics, clock=SystemClock())
    three = DependencyUnavailable()
    three.calls = 3
    for error in (three, DependencyUnavailable()):
        model.errors = [error]
        with pytest.raises(DependencyUnavailable):
            await metered.embed(["text"], purpose="document")
    await metered.embed(["text"], purpose="document")
    assert counted(metrics) == {"DEPENDENCY_UNAVAILABLE": 4.0, "ok": 1.0}
