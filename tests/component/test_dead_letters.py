"""Dead letters from both origins, and their replay: exactly once, each outcome on its own letter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.recover.budget import Budget
from services.recover.duties.intake import SOURCE, SOURCE_COUNT, SOURCE_TIME, intake
from services.recover.duties.replays import replays as replays_duty
from shared.errors import DependencyUnavailable, InvalidRequest, UnprocessableContent
from shared.events.catalogue import DeadLettered
from shared.ports.broker import Delivery, Message, Taken
from shared.ports.dead_letters import (
    UNDELIVERABLE,
    BatchState,
    LetterFilter,
    LetterState,
    Origin,
    ReplayBatch,
    ReplayRequest,
    ReplayRules,
)
from shared.ports.stores import Scope
from shared.postgres.dead_letters import PostgresLetterDirectory
from shared.postgres.replays import PostgresReplayStore
from shared.worker.replay import Replays, resolving
from tests.plugins.clock import SleepersClock
from tests.plugins.road import Road, delivery

TOPICS = {"uploads-ingest": "uploads", "work-interactive": "work", "work-bulk": "work"}
NAMES = {f"headrace-{name}": name for name in (*TOPICS, "replay-recover")}
EVERYTHING = LetterFilter()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Desk:
    """Everything about dead letters, on a road."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.clock = SleepersClock()
        self.store = PostgresReplayStore(road.database, ReplayRules(topics=TOPICS))
        self.letters = PostgresLetterDirectory(road.database)
        self.replays = Replays(self.store, self.letters, clock=self.clock)
        self.ingest = resolving(road.ingest, road.dead_letters)

    async def fail(self, *names: str, code: str = "CORRUPT") -> list[UUID]:
        """Let a job for each name fail, and return the letters in that order."""
        for name in names:
            self.road.bucket.put(name, name.encode())
            await self.road.notify(name)
            self.road.embedder.errors = [UnprocessableContent("it is broken.", code=code)]
            assert (await self.road.ring()).name == "failure_recorded"
        return [
            await self.road.value(
                "select l.id from dead_letters l join document_processing_jobs j on j.id = l.job_id where name = $1",
                name,
            )
            for name in names
        ]  # type: ignore[misc]

    async def break_again(self, number: int) -> None:
        """Let the next jobs fail."""
        self.road.embedder.errors = [UnprocessableContent("still.", code="CORRUPT") for _ in range(number)]

    async def take_in(self, *messages: Delivery) -> dict[str, int]:
        """Have these messages of the dead-letter topic taken in."""
        box = Box(messages)
        counts = await intake(box, self.road.dead_letters, self.budget(), subscriptions=NAMES, batch_size=2)
        assert box.acked == [message.message_id for message in messages]
        return {name: count for name, count in counts.items() if count}

    def budget(self) -> Budget:
        """Return more time than any test takes."""
        return Budget(self.clock, 500)

    async def ask(self, filters: LetterFilter = EVERYTHING, **options: Any) -> ReplayBatch:
        """Ask for a replay, at full speed unless the test says otherwise, without waiting."""
        request = ReplayRequest(filters=filters, by="test", **({"rate_per_second": 1000.0} | options))
        return await self.replays.request(request, patience_seconds=0)

    async def advance(self, batch: ReplayBatch) -> ReplayBatch:
        """Take all steps that can be taken at once, and look."""
        await self.replays.advance([batch.id], patience_seconds=0)
        return await self.look(batch)

    async def look(self, batch: ReplayBatch) -> ReplayBatch:
        """Return a batch as it is now."""
        found = await self.store.batch(batch.id)
        assert found is not None
        return found

    async def states(self) -> list[str]:
        """Return the states of all letters, the oldest first."""
        return [row["state"] for row in await self.road.fetch("select state from dead_letters order by id")]

    async def published(self) -> list[Message]:
        """Publish the outbox, and return what went to the topics of work."""
        await self.road.relay.drain()
        return [message for message in self.road.publisher.messages if message.topic in {"uploads", "work"}]


class Box:
    """An inbox with these messages."""

    def __init__(self, messages: Iterable[Delivery]) -> None:
        self.waiting = [Taken(delivery=message, ack_id=message.message_id) for message in messages]
        self.acked: list[str] = []
        self.nacked: list[str] = []
        self.failure: Exception | None = None

    async def take(self, *, limit: int, wait_seconds: float) -> Sequence[Taken]:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    async def ack(self, taken: Sequence[Taken]) -> None:
        if self.failure is not None:
            raise self.failure
        self.acked += [one.ack_id for one in taken]

    async def nack(self, taken: Sequence[Taken]) -> None:
        self.nacked += [one.ack_id for one in taken]


def undelivered(
    name: str, *, at: str = "2026-01-01T12:00:00.125Z", source: str = "headrace-uploads-ingest", **more: str
) -> Delivery:
    """Make a notification that Pub/Sub gave up on."""
    attributes = {
        "bucketId": "uploads", "objectId": name, "eventType": "OBJECT_FINALIZE", "googclient_traceparent": "00-old",
        SOURCE: source, SOURCE_TIME: at, SOURCE_COUNT: "10", "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
    }  # fmt: skip
    return replace(delivery("dead-letters-intake", b"{}", attributes | more), message_id=uuid4().hex)


def died_again(message: Message, *, at: datetime) -> Delivery:
    """Make what Pub/Sub forwards of a replayed message."""
    said = {SOURCE: "headrace-uploads-ingest", SOURCE_TIME: at.isoformat(), SOURCE_COUNT: "10"}
    return replace(
        delivery("dead-letters-intake", message.data, dict(message.attributes) | said), message_id=uuid4().hex
    )


@pytest.fixture
def desk(road: Road) -> Desk:
    """Give a desk on a fresh road."""
    return Desk(road)


async def test_a_letter_is_taken_in_once_with_its_first_source(desk: Desk) -> None:
    """Source, count, time, payload and attributes are kept; forwarded twice, in either form of time, it is one row."""
    first = undelivered("a.txt", at="2026-01-01T12:00:00.125+00:00")
    assert await desk.take_in(first) == {"new": 1}
    assert await desk.take_in(undelivered("a.txt"), first) == {"known": 2}
    (letter,) = (await desk.letters.page(EVERYTHING, cursor=None, limit=10)).letters
    assert (letter.origin, letter.state, letter.code) == (Origin.MESSAGE, LetterState.OPEN, UNDELIVERABLE)
    assert (letter.subscription, letter.deliveries, letter.failures) == ("uploads-ingest", 10, 1)
    assert letter.published_at == NOON + timedelta(milliseconds=125)
    assert letter.attributes[SOURCE] == "headrace-uploads-ingest"
    assert letter.body is None
    whole = await desk.letters.get(letter.id)
    assert whole is not None
    assert whole.body == b"{}"


async def test_other_messages_are_other_letters(desk: Desk) -> None:
    """Another time, another source or another content is another letter."""
    assert await desk.take_in(
        undelivered("a.txt"),
        undelivered("b.txt"),
        undelivered("a.txt", at="2026-01-01T12:00:01Z"),
        undelivered("a.txt", source="headrace-work-bulk"),
    ) == {"new": 4}


async def test_a_refused_message_that_is_forwarded_too_is_one_letter(desk: Desk) -> None:
    """The handler recorded the reason, its ack was lost, Pub/Sub gave up: the row with the reason stays."""
    said = {"eventType": "OBJECT_FINALIZE"}
    first = replace(delivery("uploads-ingest", b"x", said), published_at=NOON + timedelta(microseconds=125_789))
    assert (await desk.road.ingest(first)).name == "refused"
    forwarded = {SOURCE: "headrace-uploads-ingest", SOURCE_TIME: "2026-01-01T12:00:00.125Z"}
    assert await desk.take_in(delivery("dead-letters-intake", b"x", said | forwarded)) == {"known": 1}
    assert await desk.road.value("select code from dead_letters") == "MALFORMED_NOTIFICATION"


async def test_our_own_letters_only_confirm_their_rows(desk: Desk) -> None:
    """What a failed job publishes is about a row that is there already, whatever has become of it."""
    (letter_id,) = await desk.fail("a.txt")
    (message,) = [message for message in desk.road.publisher.messages if message.topic == "dead-letters"]
    assert message.attributes["event_type"] == DeadLettered.TYPE
    told = delivery("dead-letters-intake", message.data, dict(message.attributes))
    assert await desk.take_in(told) == {"confirmed": 1}
    await desk.letters.discard(LetterFilter(ids=[letter_id]), reason="known", limit=1)
    assert await desk.take_in(told) == {"confirmed": 1}
    assert await desk.states() == ["discarded"]


async def test_letters_that_nobody_understands_are_kept_all_the_same(desk: Desk) -> None:
    """No source, a forged id, a strange time, bytes that are no text: a row each, so that nothing loops."""
    strange = [
        delivery("dead-letters-intake", b"\xff\x00", {}),
        delivery("dead-letters-intake", b"1", {"dead_letter_id": str(uuid4())}),
        delivery("dead-letters-intake", b"2", {"dead_letter_id": "no id", "a\0b": "c\0d"}),
        undelivered("a.txt", at="yesterday", source="projects/p/subscriptions/elsewhere"),
    ]
    strange = [replace(message, message_id=str(number)) for number, message in enumerate(strange)]
    assert await desk.take_in(*strange) == {"new": 4}
    preview = await desk.store.preview(ReplayRequest(filters=EVERYTHING, by="test"))
    assert (preview.replayable, preview.not_replayable) == (0, 4)


async def test_a_crash_between_commit_and_ack_counts_nothing_twice(desk: Desk) -> None:
    """The letter comes again, and is known."""
    message = undelivered("a.txt")
    box = Box([message])
    box.failure = DependencyUnavailable("cut")
    with pytest.raises(DependencyUnavailable):
        await intake(box, desk.road.dead_letters, desk.budget(), subscriptions=NAMES, batch_size=10)
    assert await desk.take_in(message) == {"known": 1}
    assert await desk.road.value("select failures from dead_letters") == 1


async def test_one_letter_that_cannot_be_kept_does_not_keep_others_out(desk: Desk) -> None:
    """It is counted and goes back; the others are rows."""
    take_in = desk.road.dead_letters.take_in

    async def moody(message: Any) -> Any:
        if message.data == b"bad":
            raise ValueError("bad")
        return await take_in(message)

    desk.road.dead_letters.take_in = moody  # type: ignore[method-assign]
    bad = replace(undelivered("b.txt"), data=b"bad")
    box = Box([undelivered("a.txt"), bad, undelivered("c.txt")])
    counts = await intake(box, desk.road.dead_letters, desk.budget(), subscriptions=NAMES, batch_size=10)
    assert (counts["new"], counts["errors"], box.nacked) == (2, 1, [bad.message_id])


async def test_an_outage_of_ours_is_replayed_by_itself_once(desk: Desk) -> None:
    """A notification that died unrecorded goes back to its topic; handled, it is resolved; dead again, it waits."""
    desk.road.bucket.put("a.txt", b"text")
    await desk.take_in(undelivered("a.txt", self="not sendable", timeout="nor this"), undelivered("b.txt"))
    counts = await replays_duty(desk.replays, desk.budget(), batch_size=50)
    assert (counts["automatic"], counts["replayed"]) == (1, 2)
    one, two = await desk.published()
    letter_ids = [str(row["id"]) for row in await desk.road.fetch("select id from dead_letters order by id")]
    assert [message.attributes["dead_letter_id"] for message in (one, two)] == letter_ids
    assert dict(one.attributes) == {
        "bucketId": "uploads", "objectId": "a.txt", "eventType": "OBJECT_FINALIZE",
        "dead_letter_id": letter_ids[0], "replay_count": "1",
    }  # fmt: skip
    assert (one.topic, one.data) == ("uploads", b"{}")
    assert (await desk.ingest(delivery("uploads-ingest", one.data, dict(one.attributes)))).name == "done"
    await desk.take_in(died_again(two, at=NOON + timedelta(hours=1)))
    assert await desk.states() == ["resolved", "open"]
    for _ in range(2):
        counts = await replays_duty(desk.replays, desk.budget(), batch_size=50)
        assert (counts["automatic"], counts["replayed"]) == (0, 0)
    assert len([m for m in await desk.published() if m.topic == "uploads"]) == 2
    await desk.road.work_off()
    assert await desk.road.in_step()


async def test_a_message_that_dies_again_is_the_same_letter(desk: Desk) -> None:
    """Its count goes up once per death, however often the forwarded message comes; old news changes nothing."""
    await desk.take_in(undelivered("a.txt"))
    for death in range(1, 4):
        batch = await desk.ask()
        assert batch.tally.sent == 1
        message = (await desk.published())[-1]
        dead = died_again(message, at=NOON + timedelta(hours=death))
        assert await desk.take_in(dead, dead) == {"failed_again": 1, "known": 1}
        assert (await desk.advance(batch)).tally.failed == 1
    (row,) = await desk.road.fetch("select * from dead_letters")
    assert (row["failures"], row["replays"], row["state"]) == (4, 3, "open")
    await desk.letters.discard(EVERYTHING, reason="known", limit=10)
    assert await desk.take_in(undelivered("a.txt"), died_again(message, at=NOON + timedelta(hours=2))) == {"known": 2}
    assert await desk.states() == ["discarded"]


async def test_a_replayed_message_that_is_refused_reopens_its_own_row(desk: Desk) -> None:
    """The handler's reason stands on the letter; there is no second row, and no resolution."""
    await desk.take_in(undelivered("a.txt", bucketId="elsewhere"))
    await desk.ask()
    (message,) = await desk.published()
    outcome = await desk.ingest(delivery("uploads-ingest", message.data, dict(message.attributes)))
    assert outcome.name == "refused"
    (row,) = await desk.road.fetch("select * from dead_letters")
    assert (row["state"], row["code"], row["failures"]) == ("open", "MALFORMED_NOTIFICATION", 2)


async def test_a_failed_job_is_replayed_with_fresh_attempts_and_resolved_by_its_end(desk: Desk) -> None:
    """One bell, one more attempt, and the transaction that makes the chunks visible resolves the letter."""
    (letter_id,) = await desk.fail("a.txt")
    batch = await desk.replays.one(letter_id, by="test")
    assert (batch.state, batch.tally.sent) == (BatchState.RUNNING, 1)
    assert await desk.states() == ["replaying"]
    assert await desk.road.work_off() == 1
    assert await desk.states() == ["resolved"]
    batch = await desk.advance(batch)
    assert (batch.state, batch.tally.resolved) == (BatchState.DONE, 1)
    assert await desk.road.in_step()


async def test_a_job_that_fails_again_is_the_same_letter(desk: Desk) -> None:
    """Its row is open again with its count raised; the batch says so."""
    (letter_id,) = await desk.fail("a.txt")
    batch = await desk.replays.one(letter_id, by="test")
    await desk.break_again(1)
    await desk.road.work_off()
    batch = await desk.advance(batch)
    assert (batch.state, batch.tally.failed) == (BatchState.DONE, 1)
    (row,) = await desk.road.fetch("select * from dead_letters")
    assert (row["id"], row["state"], row["failures"], row["replays"]) == (letter_id, "open", 2, 1)


async def test_a_letter_whose_file_has_changed_is_resolved_as_superseded(desk: Desk) -> None:
    """Nothing is requeued for a generation that is not live; a deleted file ends its letter at once."""
    await desk.fail("a.txt", "b.txt")
    desk.road.bucket.put("a.txt", b"better")
    await desk.road.notify("a.txt")
    desk.road.bucket.remove("b.txt")
    await desk.road.notify("b.txt", "OBJECT_DELETE")
    assert sorted(await desk.states()) == ["open", "resolved"]
    batch = await desk.advance(await desk.ask())
    assert (batch.state, batch.tally.superseded) == (BatchState.DONE, 1)
    assert await desk.states() == ["resolved", "resolved"]
    assert await desk.road.work_off() == 1


async def test_after_three_replays_it_takes_force(desk: Desk) -> None:
    """The fourth replay is refused by name, and left out of batches, unless it is forced."""
    (letter_id,) = await desk.fail("a.txt")
    for _ in range(3):
        batch = await desk.replays.one(letter_id, by="test")
        await desk.break_again(1)
        await desk.road.work_off()
        await desk.advance(batch)
    with pytest.raises(InvalidRequest) as refused:
        await desk.replays.one(letter_id, by="test")
    assert refused.value.code == "REPLAYED_TOO_OFTEN"
    preview = await desk.store.preview(ReplayRequest(filters=EVERYTHING, by="test"))
    assert (preview.replayable, preview.need_force) == (0, 1)
    assert (await desk.ask()).tally.total == 0
    assert (await desk.replays.one(letter_id, by="test", force=True)).tally.sent == 1


async def test_at_most_one_replay_of_a_letter_is_outstanding(desk: Desk) -> None:
    """Ten ask at once for the same letter: one gets it, the others are told; the job runs once."""
    (letter_id,) = await desk.fail("a.txt")
    asked = await asyncio.gather(
        *(desk.replays.one(letter_id, by=f"person {number}") for number in range(10)), return_exceptions=True
    )
    assert sum(isinstance(answer, ReplayBatch) for answer in asked) == 1
    assert {answer.code for answer in asked if isinstance(answer, InvalidRequest)} == {"REPLAY_OUTSTANDING"}
    assert await desk.road.value("select count(*) from replays") == 1
    assert await desk.road.work_off() == 1


async def test_overlapping_batches_share_the_letters(desk: Desk) -> None:
    """Several batches over the same letters, advanced from several places at once: each letter is replayed once."""
    await desk.fail(*(f"{number}.txt" for number in range(6)))
    batches = await asyncio.gather(*(desk.ask() for _ in range(4)))
    await asyncio.gather(*(desk.replays.advance(patience_seconds=0) for _ in range(4)))
    assert sum([(await desk.look(batch)).tally.total for batch in batches]) == 6
    assert await desk.road.value("select sum(replays) from dead_letters") == 6
    assert await desk.road.work_off() == 6


async def test_a_canary_that_fails_stops_the_rest(desk: Desk) -> None:
    """One letter goes first; when it fails again, the others are open as before, not one was touched."""
    await desk.fail(*(f"{number}.txt" for number in range(5)))
    batch = await desk.ask(canary=True)
    assert (batch.state, batch.tally.sent, batch.tally.staged) == (BatchState.CANARY, 1, 4)
    assert (await desk.advance(batch)).tally.sent == 1
    await desk.break_again(1)
    assert await desk.road.work_off() == 1
    batch = await desk.advance(batch)
    assert (batch.state, batch.reason) == (BatchState.STOPPED, "the canary failed again")
    assert (batch.tally.failed, batch.tally.dropped) == (1, 4)
    assert await desk.states() == ["open"] * 5
    assert await desk.road.work_off() == 0


async def test_a_canary_that_succeeds_lets_the_rest_go(desk: Desk) -> None:
    """After its outcome the batch runs."""
    await desk.fail(*(f"{number}.txt" for number in range(3)))
    batch = await desk.ask(canary=True)
    await desk.road.work_off()
    batch = await desk.advance(batch)
    assert (batch.state, batch.tally.resolved, batch.tally.sent) == (BatchState.RUNNING, 1, 2)
    await desk.road.work_off()
    assert (await desk.advance(batch)).state is BatchState.DONE


async def test_a_canary_without_work_is_followed_by_another(desk: Desk) -> None:
    """A letter that is superseded proves nothing: the next one is the canary."""
    await desk.fail("a.txt", "b.txt", "c.txt")
    desk.road.bucket.put("a.txt", b"better")
    await desk.road.notify("a.txt")
    batch = await desk.ask(canary=True)
    assert (batch.tally.superseded, batch.tally.sent, batch.tally.staged) == (1, 1, 1)


async def test_too_many_failures_stop_a_batch(desk: Desk) -> None:
    """At five outcomes one failure is more than a tenth: what was not sent is open again."""
    await desk.fail(*(f"{number}.txt" for number in range(8)))
    batch = await desk.ask(rate_per_second=0.1)
    for sent in range(2, 7):
        await desk.road.shift_clock(11 * sent)
        batch = await desk.advance(batch)
        assert batch.tally.sent == sent
    await desk.break_again(1)
    await desk.road.work_off()
    batch = await desk.advance(batch)
    assert batch.state is BatchState.STOPPED
    assert batch.reason is not None
    assert "failed again" in batch.reason
    assert (batch.tally.failed, batch.tally.staged, batch.tally.sent) == (1, 0, 0)
    assert (await desk.states()).count("open") == 1 + batch.tally.dropped


async def test_the_rate_holds_across_runs(desk: Desk) -> None:
    """At one letter in ten seconds two are not sent at once, whoever asks and however often; later the next is."""
    await desk.fail("a.txt", "b.txt", "c.txt")
    batch = await desk.ask(rate_per_second=0.1)
    for _ in range(3):
        batch = await desk.advance(batch)
        assert batch.tally.sent == 1
    await desk.road.shift_clock(10)
    assert (await desk.advance(batch)).tally.sent == 2


async def test_a_limit_is_a_limit(desk: Desk) -> None:
    """Not more letters than that are taken, the oldest first."""
    letters = await desk.fail("a.txt", "b.txt", "c.txt")
    batch = await desk.ask(max_letters=2)
    assert batch.tally.sent == 2
    assert await desk.states() == ["replaying", "replaying", "open"]
    assert letters == sorted(letters)


async def test_stale_staging_resurrects_nothing(desk: Desk) -> None:
    """Staged letters that were resolved or discarded meanwhile are dropped, not sent."""
    first, second, third = await desk.fail("a.txt", "b.txt", "c.txt")
    batch = await desk.store.request(ReplayRequest(filters=EVERYTHING, by="test", rate_per_second=1000))
    assert await desk.store.stage(batch.id, limit=100) == 3
    await desk.letters.discard(LetterFilter(ids=[first]), reason="no", limit=1)
    job_id = await desk.road.value("select job_id from dead_letters where id = $1", second)
    await desk.road.directory.retry(job_id, Scope())  # type: ignore[arg-type]
    assert await desk.road.work_off() == 1
    batch = await desk.advance(batch)
    assert (batch.tally.dropped, batch.tally.sent) == (2, 1)
    assert await desk.states() == ["discarded", "resolved", "replaying"]
    assert await desk.road.work_off() == 1
    assert third is not None


async def test_a_stopped_batch_gives_back_what_was_not_sent(desk: Desk) -> None:
    """A person stops it, twice: staged letters are open, those on their way go on."""
    await desk.fail("a.txt", "b.txt")
    batch = await desk.ask(rate_per_second=0.1)
    for _ in range(2):
        batch = await desk.replays.stop(batch.id, by="somebody")
        assert (batch.state, batch.reason) == (BatchState.STOPPED, "stopped by somebody")
    assert await desk.states() == ["replaying", "open"]
    await desk.road.work_off()
    assert (await desk.look(batch)).tally.resolved == 1


async def test_what_is_never_heard_of_is_open_again(desk: Desk) -> None:
    """A replayed message that the broker lost is open after two hours, uncharged; a cancelled job's letter ends."""
    await desk.take_in(undelivered("a.txt"))
    (letter_id,) = await desk.fail("b.txt")
    batch = await desk.ask()
    assert batch.tally.sent == 2
    job_id = await desk.road.value("select job_id from dead_letters where id = $1", letter_id)
    await desk.road.directory.cancel(job_id, Scope())  # type: ignore[arg-type]
    await replays_duty(desk.replays, desk.budget(), batch_size=50)
    assert await desk.states() == ["replaying", "resolved"]
    await desk.road.shift_clock(2 * 3600 + 1)
    await replays_duty(desk.replays, desk.budget(), batch_size=50)
    batch = await desk.look(batch)
    assert (batch.state, batch.tally.unknown, batch.tally.superseded) == (BatchState.DONE, 1, 1)
    assert await desk.states() == ["open", "resolved"]
    assert await desk.road.value("select failures from dead_letters where origin = 'message'") == 1
