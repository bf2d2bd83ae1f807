"""What goes by age, what stays, and that nobody loses what they need."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from services.recover.budget import Budget
from services.recover.duties import prune
from services.recover.duties.cursor import Cursor
from services.recover.duties.partly import PartlyDone
from shared.clock import SystemClock
from shared.errors import Conflict, DependencyUnavailable
from shared.model.job import Lane
from shared.ports.stores import Failure, Scope
from shared.postgres.prune import PostgresPruningStore
from shared.worker import pruning
from shared.worker.pruning import Keep
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road

KEEP = Keep(outbox_days=7, ledger_days=90, deleted_days=30, letters_days=60, replays_days=20)
DAY = 86_400


async def pruned(road: Road, *, cursor: Cursor | None = None, seconds: float = 60) -> dict[str, int]:
    """Prune once."""
    budget = Budget(SystemClock(), seconds)
    return dict(await prune.prune(PostgresPruningStore(road.database), budget, cursor or Cursor(), keep=KEEP))


async def indexed(road: Road, *names: str) -> None:
    """Put files in and work them off, everything published."""
    for name in names:
        road.bucket.put(name, name.encode())
        await road.notify(name)
    await road.work_off()
    await road.relay.flush()


async def test_what_is_young_stays(road: Road) -> None:
    """Right after the work nothing goes."""
    await indexed(road, "a", "b")
    road.bucket.remove("b")
    await road.notify("b", "OBJECT_DELETE")
    assert set((await pruned(road)).values()) == {0}


async def test_published_outbox_rows_go_after_their_time(road: Road) -> None:
    """After OUTBOX_KEEP_DAYS what was published goes, and what was not stays however old it is."""
    await indexed(road, "a")
    sent = await road.value("select count(*) from outbox")
    async with road.database.get_connection() as connection:
        await connection.execute("insert into outbox (topic) values ('work')")
    await road.shift_clock(7 * DAY - 60)
    assert (await pruned(road))["outbox"] == 0
    await road.shift_clock(7 * DAY + 60)
    assert (await pruned(road))["outbox"] == sent
    assert await road.value("select count(*) from outbox where published_at is null") == 1


async def test_published_moves_go_after_their_time(road: Road) -> None:
    """After LEDGER_KEEP_DAYS the moves of jobs go, but never one that is still to be published."""
    await indexed(road, "a")
    async with road.database.get_connection() as connection:
        await connection.execute("update job_events set published_at = null where seq = 3")
    moves = await road.value("select count(*) from job_events")
    await road.shift_clock(91 * DAY)
    assert (await pruned(road))["ledger"] == moves - 1
    assert await road.value("select array_agg(seq) from job_events") == [3]
    assert await road.visible("a") == ["a"]


async def test_summaries_of_old_runs_go(road: Road) -> None:
    """Summaries are kept for 30 days."""
    await road.recover()
    await road.shift_clock(31 * DAY)
    assert (await pruned(road))["runs"] == 1
    assert await road.value("select count(*) from recover_runs") == 0


async def test_a_gone_document_takes_its_jobs_along(road: Road) -> None:
    """After DELETED_KEEP_DAYS document, jobs and ledger are gone; the others have lost nothing."""
    await indexed(road, "a", "b")
    road.bucket.put("a", b"again")
    await road.notify("a")
    await road.work_off()
    road.bucket.remove("a")
    await road.notify("a", "OBJECT_DELETE")
    await road.relay.flush()
    await road.shift_clock(29 * DAY)
    assert (await pruned(road))["documents"] == 0
    await road.shift_clock(31 * DAY)
    assert (await pruned(road))["documents"] == 1
    assert [row["name"] for row in await road.fetch("select name from documents")] == ["b"]
    assert await road.value("select count(*) from document_processing_jobs where name = 'a'") == 0
    assert await road.visible("b") == ["b"]


async def test_a_name_that_was_pruned_can_come_back(road: Road) -> None:
    """A file that is uploaded again long after is indexed as a new one."""
    await indexed(road, "a")
    road.bucket.remove("a")
    await road.notify("a", "OBJECT_DELETE")
    await road.relay.flush()
    await road.shift_clock(31 * DAY)
    assert (await pruned(road))["documents"] == 1
    await indexed(road, "a")
    assert await road.in_step()


async def test_dead_letters_of_a_gone_document_stay_to_be_read(road: Road) -> None:
    """An open letter is discarded, since there is nothing left to replay, and keeps its code and sentence."""
    road.bucket.put("a", b"text")
    await road.notify("a")
    job = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    assert job is not None
    await road.queue.fail(job.lease, Failure(code="BOOM", message="It went wrong."))
    road.bucket.remove("a")
    await road.notify("a", "OBJECT_DELETE")
    await road.relay.flush()
    async with road.database.get_connection() as connection:  # such as one that failed after the removal
        await connection.execute("update dead_letters set state = 'open'")
    await road.shift_clock(31 * DAY)
    assert (await pruned(road))["documents"] == 1
    (letter,) = await road.fetch("select * from dead_letters")
    assert (letter["state"], letter["job_id"], letter["code"]) == ("discarded", None, "BOOM")


async def test_a_gone_document_with_something_to_publish_stays(road: Road) -> None:
    """As long as a move of its jobs was not published, a document is not removed."""
    road.publisher.failing = True
    road.bucket.put("a", b"a")
    await road.notify("a")
    road.bucket.remove("a")
    await road.notify("a", "OBJECT_DELETE")
    await road.shift_clock(31 * DAY)
    assert (await pruned(road))["documents"] == 0
    road.publisher.failing = False
    await road.relay.flush()
    assert (await pruned(road))["documents"] == 1


async def gone_with_jobs(road: Road, name: str, jobs: int) -> None:
    """Index a file over and over, then remove it long ago, everything published."""
    for number in range(jobs):
        road.bucket.put(name, b"%d" % number)
        await road.notify(name)
        await road.work_off()
    road.bucket.remove(name)
    await road.notify(name, "OBJECT_DELETE")
    await road.relay.flush()
    await road.shift_clock(31 * DAY)


async def test_the_jobs_of_a_gone_document_go_in_batches_and_it_goes_last(road: Road) -> None:
    """No statement removes more jobs than it is asked to, however many a document has; each batch stays done."""
    await gone_with_jobs(road, "a", 5)
    store = PostgresPruningStore(road.database)
    for left in (3, 1):
        assert await store.prune_jobs(keep_days=30, limit=2) == 2
        assert await road.value("select count(*) from document_processing_jobs") == left
        assert await road.value("select count(distinct job_id) from job_events") == left
        assert await store.prune_documents(keep_days=30, limit=10) == 0
    assert await store.prune_jobs(keep_days=30, limit=2) == 1
    assert await store.prune_documents(keep_days=30, limit=10) == 1
    assert await road.value("select count(*) from documents") == 0


async def test_one_run_works_off_more_jobs_than_a_batch(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch follows batch until the last job has gone, and then the document."""
    monkeypatch.setattr(pruning, "JOBS_AT_ONCE", 2)
    await gone_with_jobs(road, "a", 5)
    counts = await pruned(road)
    assert (counts["jobs"], counts["documents"]) == (5, 1)


async def test_a_gone_document_with_work_in_hand_stays(road: Road) -> None:
    """A job that somebody asked for again is not removed, and neither is its document."""
    await gone_with_jobs(road, "a", 1)
    road.bucket.put("b", b"")  # it has no text, and fails
    await road.notify("b")
    await road.work_off()
    (failed,) = await road.fetch("select id from document_processing_jobs where status = 'failed'")
    await road.directory.retry(failed["id"], Scope())
    await road.relay.flush()
    await road.fetch("update documents set generation = null, deleted_at = headrace_now() - interval '31 days'")
    counts = await pruned(road)
    assert (counts["jobs"], counts["documents"]) == (1, 1)
    assert [row["name"] for row in await road.fetch("select name from documents")] == ["b"]
    assert [row["status"] for row in await road.fetch("select status from document_processing_jobs")] == ["pending"]


async def test_what_cannot_be_removed_keeps_nothing_else(road: Road) -> None:
    """A kind that fails is named as the run's error, and the kinds behind it are removed all the same."""
    await indexed(road, "b")
    await gone_with_jobs(road, "a", 1)
    await letters(road, "resolved")
    await road.fetch("update dead_letters set resolved_at = now() - interval '9 years'")
    await road.shift_clock(91 * DAY)
    await road.fetch(
        """create function refuse() returns trigger language plpgsql as $$
           begin raise exception 'refused' using errcode = 'query_canceled'; end $$"""
    )
    await road.fetch(
        "create trigger refuse before delete on document_processing_jobs for each row execute function refuse()"
    )
    with pytest.raises(PartlyDone, match="DATABASE_TIMEOUT") as failed:
        await pruned(road)
    assert isinstance(failed.value.error, DependencyUnavailable)
    assert failed.value.counts["ledger"] > 0  # what was done is told as well
    assert await road.value("select count(*) from document_processing_jobs where name = 'a'") == 1
    for table in ("job_events", "dead_letters"):
        assert await road.value(f"select count(*) from {table}") == 0, table
    assert await road.value("select count(*) from embeddings") == 1
    await road.fetch("drop trigger refuse on document_processing_jobs")
    assert (await pruned(road))["documents"] == 1


async def test_vectors_go_on_where_they_failed(road: Road) -> None:
    """A page of vectors that fails is the run's error, and the next run begins at it."""
    start = {"space_id": 1, "organization_id": "acme", "text_hash": "ff"}
    cursor = Cursor(start)
    await road.fetch("alter table chunks rename to hidden")
    with pytest.raises(PartlyDone) as failed:
        await pruned(road, cursor=cursor)
    assert isinstance(failed.value.error, asyncpg.UndefinedTableError)
    assert cursor.stopped == start


async def test_vectors_that_no_chunk_uses_go_after_a_day(road: Road) -> None:
    """A removed file's vectors go after 24 hours; those that others use stay, also when the text is the same."""
    for name, content in (("a", b"only a\nboth"), ("b", b"both\nonly b")):
        road.bucket.put(name, content)
        await road.notify(name)
    await road.work_off()
    road.bucket.remove("a")
    await road.notify("a", "OBJECT_DELETE")
    assert await road.value("select count(*) from embeddings") == 3
    await road.shift_clock(DAY - 60)
    assert (await pruned(road))["vectors"] == 0
    await road.shift_clock(DAY + 60)
    assert (await pruned(road))["vectors"] == 1
    assert await road.in_step()


async def test_vectors_of_a_running_job_stay(road: Road) -> None:
    """A vector counts as used by the invisible chunks of a job that is not done yet."""
    await indexed(road, "a")
    road.bucket.remove("a")
    await road.notify("a", "OBJECT_DELETE")
    await road.shift_clock(2 * DAY)
    road.bucket.put("b", b"a")
    await road.notify("b")
    complete = road.queue.complete

    async def pruned_before_the_end(*arguments: object, **options: object) -> None:
        assert (await asyncio.create_task(pruned(road)))["vectors"] == 0
        await complete(*arguments, **options)

    road.queue.complete = pruned_before_the_end
    calls = len(road.embedder.calls)
    await road.work_off()
    assert len(road.embedder.calls) == calls
    assert await road.in_step()


async def test_adding_chunks_and_removing_vectors_exclude_each_other(road: Road) -> None:
    """While a worker's batch of chunks is not committed, no vector is removed; writers come first."""
    await indexed(road, "a")
    road.bucket.remove("a")
    await road.notify("a", "OBJECT_DELETE")
    await road.shift_clock(2 * DAY)
    store = PostgresPruningStore(road.database)
    async with road.database.transaction() as connection:
        await connection.execute("update chunks set organization_id = organization_id")
        with pytest.raises(Conflict):
            await asyncio.create_task(store.prune_vectors(keep_hours=24, limit=10, after=None))
    assert await road.value("select count(*) from embeddings") == 1
    assert (await pruned(road))["vectors"] == 1


async def test_all_vectors_are_looked_at_page_by_page(road: Road) -> None:
    """From page to page every vector is looked at once, and the pages end."""
    road.bucket.put("a", b"\n".join(b"line %d" % number for number in range(25)))
    await road.notify("a")
    await road.work_off()
    road.bucket.remove("a")
    await road.notify("a", "OBJECT_DELETE")
    await road.shift_clock(2 * DAY)
    store, after, seen, removed = PostgresPruningStore(road.database), None, 0, 0
    while True:
        page = await store.prune_vectors(keep_hours=24, limit=10, after=after)
        seen, removed, after = seen + page.seen, removed + page.removed, page.after
        if after is None:
            break
    assert (seen, removed) == (25, 25)


async def test_pruning_is_done_in_batches_until_nothing_is_left(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one batch of old rows goes in one run."""
    monkeypatch.setattr(pruning, "BATCH", 10)
    async with road.database.get_connection() as connection:
        await connection.execute(
            """insert into outbox (topic, published_at)
               select 'work', now() - interval '8 days' from generate_series(1, 35)"""
        )
    assert (await pruned(road))["outbox"] == 35


async def test_a_spent_budget_stops_pruning(road: Road) -> None:
    """Without time left nothing more is removed, and the summary says that it is unfinished."""
    clock = ManualClock(datetime.now(UTC))
    counts = await prune.prune(PostgresPruningStore(road.database), Budget(clock, 0), Cursor(), keep=KEEP)
    assert counts["unfinished"] == 1


async def test_a_run_prunes_at_most_once_an_hour(road: Road) -> None:
    """Pruning is a duty of the hour: the next run leaves it out."""
    recover = road.recover
    keep = prune.Keep(outbox_days=7, ledger_days=90, deleted_days=30, letters_days=60, replays_days=20)

    async def duty(budget: Budget, cursor: Cursor) -> object:
        return await prune.prune(PostgresPruningStore(road.database), budget, cursor, keep=keep)

    recover._hourly["prune"] = (duty, 3600.0)
    assert "prune" in (await recover())["duties"]
    assert "prune" not in (await recover())["duties"]
    await road.shift_clock(3601)
    assert "prune" in (await recover())["duties"]


async def letters(road: Road, *states: str) -> None:
    """Write a dead letter in each of these states, first seen long ago and ended now."""
    for state in states:
        await road.fetch(
            "insert into dead_letters (id, identity, origin, state, code, message, first_seen_at, last_seen_at, "
            "resolved_at) values (gen_random_uuid(), $1, 'message', $1, 'BOOM', 'boom', now() - interval '9 years', "
            "now() - interval '9 years', case when $1 in ('resolved', 'discarded') then headrace_now() end)",
            state,
        )


async def test_letters_that_ended_go_after_their_time_and_open_ones_never(road: Road) -> None:
    """What was resolved or discarded goes after LETTERS_KEEP_DAYS; what waits for a person stays for years."""
    await letters(road, "open", "replaying", "resolved", "discarded")
    await road.shift_clock(60 * DAY - 60)
    assert (await pruned(road))["letters"] == 0
    await road.shift_clock(60 * DAY + 60)
    assert (await pruned(road))["letters"] == 2
    await road.shift_clock(3650 * DAY)
    assert (await pruned(road))["letters"] == 0
    left = await road.fetch("select state from dead_letters order by state")
    assert [row["state"] for row in left] == ["open", "replaying"]


async def test_batches_of_replays_go_after_their_time_but_for_those_that_wait(road: Road) -> None:
    """Ended batches go with their replays after REPLAYS_KEEP_DAYS; one that runs, or waits for an outcome, stays."""
    await letters(road, "replaying")
    for batch_id, state in enumerate(("done", "stopped", "stopped", "running"), start=1):
        await road.fetch(
            "insert into replay_batches (id, state, requested_by, selection, rate_per_second, ended_at) "
            "values (lpad($1::int::text, 32, '0')::uuid, $2, 'x', '{}', 1, case when $2 <> 'running' then now() end)",
            batch_id,
            state,
        )
        await road.fetch(
            "insert into replays (batch_id, letter_id, state) "
            "select lpad($1::int::text, 32, '0')::uuid, id, case $1::int when 3 then 'sent' else 'failed' end "
            "from dead_letters",
            batch_id,
        )
    await road.shift_clock(20 * DAY - 60)
    assert (await pruned(road))["replays"] == 0
    await road.shift_clock(20 * DAY + 60)
    assert (await pruned(road))["replays"] == 2
    left = await road.fetch("select right(id::text, 1) as id from replay_batches order by 1")
    assert [row["id"] for row in left] == ["3", "4"]
    assert await road.value("select count(*) from replays") == 2
