"""Files behind a model's limit: they wait for as long as those before them take, and none fails of that."""

from __future__ import annotations

from aiohttp import web

from services.process.document import IndexDocument
from shared.clock import SystemClock
from shared.embedding.genai import GeminiEmbedder
from tests.fakes import LineExtractor
from tests.plugins.clock import ManualClock
from tests.plugins.desk import SDK_WARNING
from tests.plugins.model_server import DIMENSIONS, Call, ModelServer, good, rate_limited
from tests.plugins.road import Road

pytestmark = SDK_WARNING

WINDOW_SECONDS = 6 * 3600
FILES = 8


class Hurried(ManualClock):
    """Moves by itself where somebody sleeps."""

    async def sleep(self, seconds: float) -> None:
        """Be there at once."""
        self.advance(seconds)


async def test_a_backlog_longer_than_the_bound_on_waiting_is_completed(road: Road, model: ModelServer) -> None:
    """One answer in six hours for eight files: two days, in which the model answers all the time."""
    clock, answered = Hurried(), set[int]()

    async def answer(server: ModelServer, call: Call) -> web.StreamResponse:
        window, elapsed = divmod(clock.monotonic(), WINDOW_SECONDS)
        if int(window) in answered:
            return await rate_limited(WINDOW_SECONDS - elapsed)(server, call)
        answered.add(int(window))
        return await good(server, call)

    model.answer = answer
    async with GeminiEmbedder(api_key="k", base_url=model.url, dimensions=DIMENSIONS, clock=clock) as embedder:
        road.work = IndexDocument(
            queue=road.queue,
            storage=road.bucket,
            extractor=LineExtractor(),
            embedder=embedder,
            tracing=road.tracing,
            metrics=road.metrics,
            clock=SystemClock(),
            max_object_bytes=1 << 20,
        )
        road.process = road.worker("worker")
        for number in range(FILES):
            road.bucket.put(f"{number}.txt", f"text {number}".encode())
            await road.notify(f"{number}.txt")
        for window in range(FILES):
            await road.shift_clock(window * (WINDOW_SECONDS + 60))
            clock.advance(max(0.0, window * (WINDOW_SECONDS + 60) - clock.monotonic()))
            await road.work_off()
        jobs = await road.fetch("select status, attempts from document_processing_jobs")
    assert {(job["status"], job["attempts"]) for job in jobs} == {("completed", 1)}
    assert len(answered) == FILES
    assert len(model.calls) <= 2 * FILES
