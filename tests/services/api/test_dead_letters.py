"""Dead letters over HTTP, on a real database: list, causes, replay, discard, and who may do it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from services.api.app import callers
from services.api.openapi import describe
from services.api.routes.dead_letters import DeadLetterEndpoints
from services.api.settings import ApiSettings
from services.api.web import application
from shared.clock import SystemClock
from shared.errors import UnprocessableContent
from shared.ports.dead_letters import ReplayRules
from shared.postgres.dead_letters import PostgresLetterDirectory
from shared.postgres.replays import PostgresReplayStore
from shared.runtime.app import Service, running
from shared.settings import load
from shared.worker.replay import Replays
from tests.plugins.road import Road
from tests.services.api.conftest import SETTINGS

PATH = "/api/v1/admin/dead-letters"
NOBODY = "00000000-0000-7000-8000-000000000000"


@dataclass
class Desk:
    """A road on which files fail, and the api in front of their letters."""

    road: Road
    address: str
    session: aiohttp.ClientSession

    async def fail(self, *names: str, code: str = "CORRUPT") -> list[str]:
        """Let a job for each name fail; return the ids of the letters."""
        for name in names:
            self.road.bucket.put(name, name.encode())
            await self.road.notify(name)
            self.road.embedder.errors = [UnprocessableContent("it is broken.", code=code)]
            await self.road.ring()
        found = await self.road.fetch(
            "select l.id from dead_letters l join document_processing_jobs j on j.id = l.job_id "
            "where name = any ($1) order by array_position($1, name)",
            list(names),
        )
        return [str(row["id"]) for row in found]

    async def ask(self, method: str, path: str, *, role: str = "admin", **options: Any) -> tuple[int, Any]:
        """Ask the api."""
        headers = {"X-Headrace-Organization": "acme", "X-Headrace-Role": role, "X-Headrace-User": "rosa"}
        async with self.session.request(method, self.address + PATH + path, headers=headers, **options) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def desk(road: Road) -> AsyncIterator[Desk]:
    """Give a desk on a fresh road."""
    settings = load(ApiSettings, SETTINGS)
    letters = PostgresLetterDirectory(road.database)
    store = PostgresReplayStore(road.database, ReplayRules(topics={"uploads-ingest": "uploads"}))
    routes = DeadLetterEndpoints(letters, Replays(store, letters, clock=SystemClock())).routes()
    app = application(list(routes), callers(settings), tracing=road.tracing, metrics=road.metrics)
    async with (
        running(Service(name="api", application=app, metrics=road.metrics), settings, drain_seconds=5) as address,
        aiohttp.ClientSession() as session,
    ):
        yield Desk(road, address, session)


async def test_letters_are_listed_in_pages_and_filtered(desk: Desk) -> None:
    """Newest first; filters hold together; the cursor goes on where the page ended, whatever arrives meanwhile."""
    corrupt = await desk.fail("a.txt", "b.txt", "c.txt")
    (other,) = await desk.fail("d.txt", code="ENCRYPTED")
    status, body = await desk.ask("GET", "", params={"limit": "2"})
    assert (status, len(body["letters"])) == (200, 2)
    seen = [letter["id"] for letter in body["letters"]]
    await desk.fail("late.txt")
    _, rest = await desk.ask("GET", "", params={"limit": "2", "cursor": body["next_cursor"]})
    assert rest["next_cursor"] is None
    assert sorted(seen + [letter["id"] for letter in rest["letters"]]) == sorted([*corrupt, other])
    said = {"code": "ENCRYPTED", "stage": "embedding", "origin": "job", "state": "open", "organization_id": "acme"}
    _, body = await desk.ask("GET", "", params=said | {"since": "2020-01-01T00:00:00Z"})
    assert [letter["id"] for letter in body["letters"]] == [other]
    assert body["letters"][0]["file_path"] == "gs://uploads/d.txt"
    for wrong in ({"stage": "storing"}, {"since": "2999-01-01T00:00:00Z"}, {"state": "discarded"}):
        assert (await desk.ask("GET", "", params=said | wrong))[1]["letters"] == []


async def test_causes_are_counted_and_can_be_noted(desk: Desk) -> None:
    """Code and stage, the most frequent first, with the newest example and what people wrote; a note can go."""
    corrupt = await desk.fail("a.txt", "b.txt")
    await desk.fail("c.txt", code="ENCRYPTED")
    note = {"code": "CORRUPT", "stage": "embedding", "note": "the scanner in Lyon"}
    status, body = await desk.ask("PUT", "/groups", json=note)
    assert status == 200
    assert [(group["code"], group["count"], group["note"]) for group in body["groups"]] == [
        ("CORRUPT", 2, "the scanner in Lyon"),
        ("ENCRYPTED", 1, None),
    ]
    assert body["groups"][0]["newest_id"] == corrupt[-1]
    await desk.ask("PUT", "/groups", json=note | {"note": " "})
    assert (await desk.ask("GET", "/groups"))[1]["groups"][0]["note"] is None


async def test_one_letter_is_shown_replayed_and_refused_a_second_time(desk: Desk) -> None:
    """The second request meets a replay that is on its way; after the outcome it meets a letter that has ended."""
    (letter,) = await desk.fail("a.txt")
    status, body = await desk.ask("POST", f"/{letter}/replay", json={})
    assert (status, body["sent"], body["requested_by"]) == (200, 1, "rosa")
    status, problem = await desk.ask("POST", f"/{letter}/replay", json={"force": True})
    assert (status, problem["code"]) == (409, "REPLAY_OUTSTANDING")
    assert (await desk.ask("GET", f"/{letter}"))[1]["state"] == "replaying"
    await desk.road.work_off()
    _, shown = await desk.ask("GET", f"/{letter}")
    assert (shown["state"], shown["replays"], shown["payload"]) == ("resolved", 1, None)
    assert (await desk.ask("POST", f"/{letter}/replay", json={}))[1]["code"] == "LETTER_ENDED"
    assert (await desk.ask("GET", f"/replays/{body['id']}"))[1]["resolved"] == 1


async def test_many_are_replayed_as_one_batch(desk: Desk) -> None:
    """A dry run changes nothing; the batch says what became of each; it can be stopped."""
    await desk.fail("a.txt", "b.txt", "c.txt")
    asked = {"code": "CORRUPT", "stage": "embedding", "canary": True, "limit": 2}
    status, body = await desk.ask("POST", "/replay", json=asked | {"dry_run": True})
    assert (status, body["replayable"], body["batch"]) == (200, 2, None)
    assert (await desk.ask("GET", "/replays"))[1]["batches"] == []
    batch = (await desk.ask("POST", "/replay", json=asked))[1]["batch"]
    assert (batch["state"], batch["sent"], batch["staged"]) == ("canary", 1, 1)
    status, batch = await desk.ask("POST", f"/replays/{batch['id']}/stop")
    assert (status, batch["state"], batch["reason"], batch["dropped"]) == (200, "stopped", "stopped by rosa", 1)
    assert [found["id"] for found in (await desk.ask("GET", "/replays"))[1]["batches"]] == [batch["id"]]
    assert (await desk.ask("POST", "/replay", json={"code": "NOTHING_SUCH"}))[1]["batch"] is None


async def test_letters_are_discarded_with_a_reason(desk: Desk) -> None:
    """One, or all that match; who and why stay with them; one that has ended is refused."""
    first, _, _ = await desk.fail("a.txt", "b.txt", "c.txt")
    status, body = await desk.ask("POST", f"/{first}/discard", json={"reason": "a test file"})
    assert (status, body["state"], body["resolution"]) == (200, "discarded", "rosa: a test file")
    status, problem = await desk.ask("POST", f"/{first}/discard", json={"reason": "again"})
    assert (status, problem["code"]) == (409, "LETTER_ENDED")
    assert (await desk.ask("POST", "/discard", json={"all": True, "reason": "old"}))[1] == {"discarded": 2}


WRONG = (
    ("/replay", {}), ("/replay", {"all": True, "code": "X"}), ("/replay", {"ids": []}),
    ("/replay", {"all": True, "rate": 0}), ("/replay", {"all": True, "limit": 0}), ("/replay", {"code": "x'--"}),
    ("/replay", {"all": True, "since": "now"}), ("/discard", {"all": True}), ("/discard", {"reason": "why"}),
    (f"/{NOBODY}/discard", {}), ("/replay", {"all": True, "surprise": 1}),
    ("/replay", {"all": True, "rate": 1e-300}), ("/replay", {"all": True, "rate": 1001}),
)  # fmt: skip


async def test_wrong_requests_are_refused(desk: Desk) -> None:
    """Nothing is understood by accident: no selection is not everything."""
    await desk.fail("a.txt")
    for path, body in WRONG:
        status, problem = await desk.ask("POST", path, json=body)
        assert (status, problem["code"]) == (400, "INVALID_REQUEST"), body
    assert await desk.road.value("select state from dead_letters") == "open"


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"])
async def test_a_time_that_no_letter_has_is_refused(desk: Desk, since: str) -> None:
    """What the database cannot compare with is the caller's fault, and nothing is written down of it."""
    assert (await desk.ask("GET", "", params={"since": since}))[0] == 400
    for path, more in (("/replay", {}), ("/replay", {"dry_run": True}), ("/discard", {"reason": "old"})):
        status, problem = await desk.ask("POST", path, json={"since": since} | more)
        assert (status, problem["code"]) == (400, "INVALID_REQUEST"), path
    assert await desk.road.value("select count(*) from replay_batches") == 0


async def test_what_is_not_there_is_not_found(desk: Desk) -> None:
    """Unknown letters and batches are 404."""
    for method, path, body in (
        ("GET", f"/{NOBODY}", None),
        ("GET", f"/replays/{NOBODY}", None),
        ("POST", f"/replays/{NOBODY}/stop", None),
        ("POST", f"/{NOBODY}/replay", {}),
        ("POST", f"/{NOBODY}/discard", {"reason": "why"}),
    ):
        status, problem = await desk.ask(method, path, **({} if body is None else {"json": body}))
        assert (status, problem["code"]) == (404, "NOT_FOUND"), path


async def test_only_administrators_may(desk: Desk) -> None:
    """Members are refused on every route, and each is described as one for administrators."""
    routes = DeadLetterEndpoints(None, None).routes()  # type: ignore[arg-type]
    for route in routes:
        path = route.path.removeprefix(PATH).replace("{id}", NOBODY)
        assert (await desk.ask(route.method, path, role="member", json={}))[0] == 403
    described = describe(list(routes))["paths"]
    assert all("403" in operation["responses"] for methods in described.values() for operation in methods.values()
               if operation.get("tags") == ["admin"])  # fmt: skip
