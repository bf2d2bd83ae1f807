"""How a scheduler asks for a run."""

from aiohttp.test_utils import TestClient, TestServer

from services.recover import http
from shared.errors import DependencyUnavailable
from tests.plugins.road import Road

DUTIES = {"intake", "replay_topic", "rescue", "ring_due", "ring_stuck", "replays", "reconcile", "publish"}


async def test_a_run_is_asked_for_in_every_way_schedulers_know(road: Road) -> None:
    """POST / and POST or GET /api/v1/cron/jobs run now and answer the summary; /health answers without a run."""
    async with TestClient(TestServer(http.routes(road.recover))) as client:
        for method, path in (("POST", "/"), ("POST", "/api/v1/cron/jobs"), ("GET", "/api/v1/cron/jobs")):
            response = await client.request(method, path)
            summary = await response.json()
            assert response.status == 200
            assert summary["ok"] is True
            assert set(summary["duties"]) == DUTIES
        assert await road.value("select count(*) from recover_runs") == 3
        assert (await (await client.get("/health")).json())["status"] == "ok"
        assert await road.value("select count(*) from recover_runs") == 3


async def test_a_duty_that_fails_is_named_and_does_not_stop_the_others(road: Road) -> None:
    """One duty's failure is a 500 with its code in the summary; the others have run."""
    road.bucket.put("a.txt", b"text")

    async def away(*_: object, **__: object) -> None:
        raise DependencyUnavailable

    road.recover._duties["rescue"] = away
    async with TestClient(TestServer(http.routes(road.recover))) as client:
        response = await client.post("/")
        summary = await response.json()
    assert response.status == 500
    assert summary["errors"] == {"rescue": "DEPENDENCY_UNAVAILABLE"}
    assert summary["duties"]["reconcile"]["missing"] == 1
    await road.work_off()
    assert await road.in_step()


async def test_one_objects_failure_does_not_stop_the_comparison(road: Road) -> None:
    """An object that Storage refuses to tell about is counted; the others come home."""
    for name in ("a.txt", "b.txt", "c.txt"):
        road.bucket.put(name, name.encode())
    stat = road.bucket.stat

    async def moody(ref):
        if ref.name == "b.txt":
            raise DependencyUnavailable
        return await stat(ref)

    road.bucket.stat = moody
    counts = (await road.recover())["duties"]["reconcile"]
    assert (counts["missing"], counts["errors"]) == (3, 1)
    await road.work_off()
    assert await road.visible("a.txt") == ["a.txt"]
    assert await road.visible("c.txt") == ["c.txt"]


async def test_a_failed_job_is_counted_as_drift_and_left_alone(road: Road) -> None:
    """No verdict is undone by a schedule: the class `failed` is reported only."""
    road.bucket.put("a.txt", b"")
    await road.notify("a.txt")
    await road.work_off()
    for _ in range(2):
        counts = (await road.recover())["duties"]["reconcile"]
        assert (counts["failed"], counts["missing"], counts["stale"]) == (1, 0, 0)
    assert await road.work_off() == 0


async def test_a_run_without_time_left_stops_between_batches(road: Road) -> None:
    """When the budget is spent, duties end and the summary says so."""
    road.bucket.put("a.txt", b"text")
    road.recover._settings = road.recover._settings.model_copy(
        update={"function_timeout_seconds": 1.0, "function_timeout_buffer_seconds": 1.0}
    )

    class Fast:
        def __init__(self) -> None:
            self.seconds = 0.0

        def now(self):
            from datetime import UTC, datetime

            return datetime.fromtimestamp(self.seconds, UTC)

        def monotonic(self) -> float:
            self.seconds += 10
            return self.seconds

        async def sleep(self, seconds: float) -> None:
            return None

    road.recover._clock = Fast()
    summary = await road.recover()
    assert summary["budget_spent"] is True
    assert summary["duties"]["reconcile"]["unfinished"] == 1
    assert await road.value("select count(*) from document_processing_jobs") == 0
