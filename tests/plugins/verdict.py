"""What must hold on the road: after every step, and when all is quiet. Raises `AssertionError` with what it saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import asyncpg

from shared.model.job import Lane, Stage, Status, move_is_legal
from shared.ports.broker import Message
from shared.ports.stores import Scope
from tests.plugins.road import Road, delivery

ROUNDS = 12
"""Recover runs after which everything must be quiet; each is more than the longest wait after the one before."""

ROUND_SECONDS = 4000.0

CAUSES = {
    *("NO_TEXT", "TENANT_UNKNOWN", "UNPROCESSABLE", "AUTHENTICATION_FAILED", "WORKER_LOST"),
    *("DEPENDENCY_UNAVAILABLE", "DATABASE_UNAVAILABLE"),  # in the last of all attempts
}
"""What a job may fail of on the road: what sequences do to it, and nothing of our own making."""

Contents = Mapping[tuple[str, int], bytes]
"""What every generation that ever lived held, by name and generation."""

Whose = Mapping[tuple[str, bytes], set[str]]
"""The organizations to which a name with these bytes ever belonged."""


class Told(list[Message]):
    """Messages of the broker, and how many each topic was ever sent, whoever has taken them since."""

    def __init__(self) -> None:
        super().__init__()
        self.ever: Counter[str] = Counter()

    def append(self, message: Message) -> None:
        self.ever[message.topic] += 1
        super().append(message)

    def clear(self) -> None:
        self.ever.clear()
        super().clear()


async def open_clock(road: Road) -> None:
    """Let the database's clock be moved by a row: replacing the function would make every statement be planned anew."""
    await road.fetch("create table test_clock (shifted interval not null)")
    await road.fetch("grant select on test_clock to public")
    await road.fetch("insert into test_clock values ('0')")
    await road.fetch(
        "create or replace function headrace_now() returns timestamptz language sql stable parallel safe "
        "as $$ select statement_timestamp() + (select shifted from test_clock) $$"
    )


async def pass_time(road: Road, seconds: float) -> None:
    """Move the clock of `open_clock` on."""
    await road.fetch("update test_clock set shifted = shifted + make_interval(secs => $1)", seconds)


async def wipe(road: Road) -> None:
    """Make the road as if nothing had ever been on it."""
    async with road.database.get_connection() as connection:
        await connection.execute(
            "delete from chunks; delete from embeddings; delete from embedding_claims; delete from job_events;"
            "delete from outbox; delete from dead_letters; delete from recover_runs;"
            "delete from document_processing_jobs; delete from documents; update test_clock set shifted = '0'"
        )
    road.bucket.objects.clear()
    road.bucket.downloads.clear()
    road.publisher.messages.clear()
    road.embedder.calls.clear()
    road.embedder.errors.clear()


async def settle(road: Road, *, once_more: bool = True) -> None:
    """Let time pass and recover run until nothing is left to do; of the broker's bells only those of each run help.

    With `once_more` the last run must have found nothing to do, so that what is well is also left alone.

    Raises:
        AssertionError: something is still to be done after `ROUNDS` runs.
    """
    for _ in range(ROUNDS):
        await pass_time(road, ROUND_SECONDS)
        take_bells(road)
        summary = await road.recover()
        assert summary["ok"], summary
        ran = 0
        while bells := take_bells(road):
            for bell in bells:
                told = delivery("work-interactive", bell.data, dict(bell.attributes))
                ran += (await road.process(told)).name != "nothing_due"
        found = summary["duties"]["reconcile"]
        did = ran or any(found[kind] for kind in ("missing", "stale", "orphan"))
        if not (did and once_more) and not await unfinished(road):
            return
    raise AssertionError(f"still to be done: {await unfinished(road)}")


async def start_over(road: Road) -> int:
    """Retry by hand, as people do when the cause is gone, each live job that failed but for what its content is."""
    failed = await road.fetch(
        "select j.id from document_processing_jobs j join documents d on d.current_job_id = j.id "
        "where j.status = 'failed' and j.error_code <> 'NO_TEXT' and d.generation = j.generation"
    )
    for row in failed:
        await road.directory.retry(row["id"], Scope())
    return len(failed)


def take_bells(road: Road) -> list[Message]:
    """Take all bells from the broker, in place: every process publishes to the same list."""
    messages = road.publisher.messages
    bells = road.publisher.of("work")
    messages[:] = [message for message in messages if message.topic != "work"]
    return bells


async def work_off(road: Road) -> int:
    """Ring until nothing is due; return how many jobs ran. Lanes in which nothing waits are not asked."""
    ran = 0
    while due := await road.fetch(
        "select distinct lane, quarantined from document_processing_jobs "
        "where status = 'pending' and next_attempt_at <= headrace_now() order by lane, quarantined desc"
    ):
        before = ran
        for group in due:
            while (await road.ring(Lane(group["lane"]), quarantined=group["quarantined"])).name != "nothing_due":
                ran += 1
        assert ran > before, ("due, but no bell is answered", due)
    return ran


async def unfinished(road: Road) -> list[asyncpg.Record]:
    """Return jobs that have not ended, and rows that were not told."""
    return await road.fetch(
        "select 'job' as what, id::text, status from document_processing_jobs where completed_at is null "
        "union all select 'outbox', id::text, topic from outbox where published_at is null "
        "union all select 'event', job_id::text, stage from job_events where published_at is null"
    )


async def nothing_mixed(road: Road, contents: Contents, whose: Whose) -> None:
    """Hold what is found of each name to be exactly one generation that lived there, by a completed job of its own.

    It is found by one organization, to which these very bytes belonged at some time.
    """
    found = await road.fetch(
        "select d.name, d.indexed_generation, d.organization_id, j.document_id = d.id as own, j.generation, j.status, "
        "  array(select text from chunks c where c.job_id = d.live_job_id order by ordinal) as texts, "
        "  array(select distinct organization_id from chunks c where c.document_id = d.id) as owners "
        "from documents d left join document_processing_jobs j on j.id = d.live_job_id "
        "where d.live_job_id is not null or exists (select from chunks where document_id = d.id)"
    )
    for row in found:
        assert set(row["owners"]) <= {row["organization_id"]}, dict(row)
        if row["status"] is None:
            continue  # chunks of work in hand, which nobody finds
        assert row["own"], dict(row)
        assert row["status"] == "completed", dict(row)
        assert row["texts"] == contents[row["name"], row["generation"]].decode().splitlines(), dict(row)
        content = contents[row["name"], row["generation"]]
        assert contents[row["name"], row["indexed_generation"]] == content, dict(row)
        assert row["organization_id"] in whose[row["name"], content], dict(row)


async def in_step_but_for_ends_by_verdict(road: Road) -> None:
    """Hold index and bucket equal; names whose live generation ended `failed` show nothing, those cancelled may be old.

    What is deleted is never found, and every text that is found has its vector.
    """
    rows = await road.fetch(
        "select d.*, j.status, j.generation as job_generation, j.error_code as job_error_code, "
        "  array(select text from chunks c where c.job_id = d.live_job_id order by ordinal) as texts "
        "from documents d left join document_processing_jobs j on j.id = d.current_job_id"
    )
    documents = {row["name"]: row for row in rows}
    assert {row["name"] for row in rows if row["generation"] is not None} == set(road.bucket.objects)
    for row in rows:
        if row["generation"] is None:
            assert row["live_job_id"] is None, dict(row)
    for name, (live, content) in road.bucket.objects.items():
        row = documents[name]
        assert row["generation"] == live.generation, dict(row)
        assert row["object_metadata"] == live.metadata, dict(row)
        match row["status"]:
            case "failed":
                assert row["job_generation"] == live.generation, dict(row)
                assert row["texts"] == [], dict(row)
                assert row["job_error_code"] in CAUSES, dict(row)
            case "cancelled":
                assert row["job_generation"] == live.generation, dict(row)
            case _:
                assert row["texts"] == content.decode().splitlines(), dict(row)
                assert row["indexed_generation"] == live.generation, dict(row)
    bare = await road.value(
        "select count(*) from chunks c join documents d on d.live_job_id = c.job_id where not exists ("
        "  select from embeddings e where e.organization_id = c.organization_id and e.text_hash = c.text_hash)"
    )
    assert bare == 0
    invisible = await road.value(
        "select count(*) from chunks c join documents d on d.id = c.document_id "
        "where d.live_job_id is distinct from c.job_id"
    )
    assert invisible == 0


async def ledgers_are_legal(road: Road) -> None:
    """Hold every job's ledger to be a path of legal moves without gaps, from pending to where the job is now."""
    moves = await road.fetch(
        "select e.job_id, e.seq, e.status, e.stage, j.status as job_status, j.processing_stage as job_stage "
        "from job_events e join document_processing_jobs j on j.id = e.job_id order by e.job_id, e.seq"
    )
    last: dict[object, asyncpg.Record] = {}
    for move in moves:
        before = last.get(move["job_id"])
        if before is None:
            assert (move["seq"], move["status"]) == (1, "pending"), dict(move)
        else:
            assert move["seq"] == before["seq"] + 1, dict(move)
            assert move_is_legal(
                Status(before["status"]), Stage(before["stage"]), Status(move["status"]), Stage(move["stage"])
            ), (dict(before), dict(move))
        last[move["job_id"]] = move
    for move in last.values():
        assert (move["status"], move["stage"]) == (move["job_status"], move["job_stage"]), dict(move)
    assert await road.value("select count(*) from document_processing_jobs") == len(last)


async def dead_letters_match(road: Road) -> None:
    """Hold each failed job of what is live to have one open dead letter, and each that ended well to have none open."""
    rows = await road.fetch(
        "select j.id, j.status, j.error_code, coalesce(bool_or(d.generation = j.generation), false) as live, "
        "  count(l.id) as letters, "
        "  count(l.id) filter (where l.state = 'open') as open, "
        "  count(l.id) filter (where l.state in ('open', 'replaying')) as unresolved, max(l.code) as code "
        "from document_processing_jobs j left join dead_letters l on l.job_id = j.id "
        "left join documents d on d.id = j.document_id group by j.id"
    )
    told = Counter(message.attributes.get("dead_letter_id") for message in road.publisher.of("dead-letters"))
    for row in rows:
        assert row["letters"] <= 1, dict(row)
        if row["status"] == "failed" and row["live"]:
            assert (row["open"], row["code"]) == (1, row["error_code"]), dict(row)
        if row["status"] == "completed":
            assert row["unresolved"] == 0, dict(row)
    letters = await road.fetch("select id from dead_letters where origin = 'job'")
    assert all(told[str(row["id"])] for row in letters), told


async def nothing_counts_as_told_that_was_not(road: Road) -> None:
    """Hold each row that is marked as published to have been published: before its mark, whoever died in between."""
    marked = await road.fetch(
        "select topic, count(*) from outbox where published_at is not null group by topic "
        "union all select 'stages', count(*) from job_events where published_at is not null"
    )
    told = road.publisher.messages
    if isinstance(told, Told):
        short = [dict(row) for row in marked if told.ever[row["topic"]] < row["count"]]
        assert not short, (short, told.ever)


async def attempts_are_sane(road: Road) -> None:
    """Hold every job within its bounds: attempts, rescues, and no lease on what does not run."""
    wrong = await road.fetch(
        "select * from document_processing_jobs where attempts > max_attempts or stalled_rescues > 5 "
        "or (status <> 'processing' and (lease_owner is not null or lease_until is not null)) "
        "or (status = 'completed' and attempts = 0)"
    )
    assert wrong == [], [dict(row) for row in wrong]


async def all_is_well(road: Road, contents: Contents, whose: Whose) -> None:
    """Hold everything at once, when all is quiet."""
    assert await unfinished(road) == []
    await nothing_mixed(road, contents, whose)
    await in_step_but_for_ends_by_verdict(road)
    await ledgers_are_legal(road)
    await dead_letters_match(road)
    await nothing_counts_as_told_that_was_not(road)
    await attempts_are_sane(road)


def paid_again(road: Road, owners: Mapping[str, int] | None = None) -> int:
    """Count texts that were sent to the model more often than they had owners; texts open with their file's name."""
    sent = Counter(road.embedder.texts)
    return sum(
        max(0, times - (1 if owners is None else owners.get(text.split(":")[0], 1))) for text, times in sent.items()
    )
