"""What is published at once, in which order, and what is left when the broker stores only some of it."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence

import pytest

from shared.ports.broker import Message
from shared.ports.outbox import Sent
from shared.postgres import outbox
from tests.plugins.road import Road
from tests.services.recover.rows import flood

STAGES = frozenset({"stages"})


class Broker:
    """Stores what it is given but for the messages of `refused`, and remembers each batch."""

    def __init__(self, refused: frozenset[tuple[str, int]] = frozenset()) -> None:
        self.refused = refused
        self.batches: list[list[Message]] = []

    async def __call__(self, messages: Sequence[Message]) -> list[bool]:
        """Answer one batch, after others had a turn."""
        self.batches.append(list(messages))
        await asyncio.sleep(0)
        return [(message.ordering_key, seq_of(message)) not in self.refused for message in messages]

    @property
    def told(self) -> dict[str, list[int]]:
        """The numbers of the stage events of each job, in the order in which they came."""
        told: defaultdict[str, list[int]] = defaultdict(list)
        for message in (message for batch in self.batches for message in batch if message.topic == "stages"):
            told[message.ordering_key].append(seq_of(message))
        return dict(told)


def seq_of(message: Message) -> int:
    """Return the number of a stage event; 0 for other messages."""
    text = message.data.decode()
    return int(text.split('"seq":')[1].split(",")[0]) if '"seq":' in text else 0


async def jobs_with_lines(road: Road, jobs: int, lines: int) -> list[str]:
    """Write jobs that have so many lines to publish each, and nothing else; return their ids."""
    await flood(road, jobs)
    await road.fetch("delete from job_events")
    await road.fetch("delete from outbox")
    await road.fetch(
        "insert into job_events (job_id, seq, organization_id, attempt, status, stage, occurred_at) "
        "select id, seq, organization_id, 0, 'pending', 'pending', now() - interval '1 hour' + seq * interval '1 s' "
        "from document_processing_jobs, generate_series(1, $1) seq",
        lines,
    )
    return [str(row["id"]) for row in await road.fetch("select id from document_processing_jobs")]


async def left(road: Road) -> int:
    """Count the lines that are still to be published."""
    count: int = await road.value("select count(*) from job_events where published_at is null")  # type: ignore[assignment]
    return count


async def test_lines_of_many_jobs_go_in_one_batch_and_in_order(road: Road) -> None:
    """50 jobs with 3 lines each are one batch, in which each job's lines stand in their order."""
    ids = await jobs_with_lines(road, 50, 3)
    broker = Broker()
    assert await road.outbox.send(broker, limit=200) == Sent(published=150)
    assert [len(batch) for batch in broker.batches] == [150]
    assert broker.told == {job_id: [1, 2, 3] for job_id in ids}
    assert await road.outbox.send(broker, limit=200) == Sent()


async def test_a_batch_that_ends_within_a_job_is_gone_on_with_where_it_ended(road: Road) -> None:
    """With room for 7 lines at a time, 4 jobs with 5 lines are told completely, once and in order."""
    ids = await jobs_with_lines(road, 4, 5)
    broker = Broker()
    while (await road.outbox.send(broker, limit=7)).published:
        pass
    assert max(len(batch) for batch in broker.batches) == 7
    assert broker.told == {job_id: [1, 2, 3, 4, 5] for job_id in ids}


async def test_one_jobs_failed_line_holds_back_what_follows_it_and_no_other_job(road: Road) -> None:
    """What comes after a line that was not stored is sent again, after it; the other jobs' lines are done."""
    ids = await jobs_with_lines(road, 3, 4)
    broker = Broker(frozenset({(ids[1], 2)}))
    assert await road.outbox.send(broker, limit=200) == Sent(published=9, failed=3, refused=STAGES)
    broker.refused = frozenset()
    assert await road.outbox.send(broker, limit=200) == Sent(published=3)
    assert broker.told == {ids[0]: [1, 2, 3, 4], ids[1]: [1, 2, 3, 4, 2, 3, 4], ids[2]: [1, 2, 3, 4]}


async def test_senders_at_once_share_the_jobs(road: Road) -> None:
    """Four senders tell each line once, and no job's lines in another order than their own."""
    ids = await jobs_with_lines(road, 40, 5)
    broker = Broker()

    async def send() -> None:
        while await left(road):
            await road.outbox.send(broker, limit=12)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(send())
    assert broker.told == {job_id: [1, 2, 3, 4, 5] for job_id in ids}


async def test_messages_of_many_megabytes_go_a_few_at_a_time(road: Road) -> None:
    """Replayed messages of 1.5 MB: two fit into a batch; one that is larger than a batch goes alone."""
    sizes = [1_500_000] * 5 + [5_000_000, 10]
    for size in sizes:
        await road.fetch("insert into outbox (topic, data) values ('work', $1)", bytes(size))
    broker = Broker()
    while (await road.outbox.send(broker, limit=200)).published:
        pass
    batches = [[len(message.data) for message in batch] for batch in broker.batches]
    assert [size for batch in batches for size in batch] == sizes
    assert batches[:3] == [[1_500_000] * 2, [1_500_000] * 2, [1_500_000]]
    assert all(len(batch) == 1 or sum(batch) <= outbox.BATCH_BYTES for batch in batches)


async def test_a_topic_that_refuses_holds_up_no_other(road: Road) -> None:
    """However many dead letters cannot be told, and older than the bell: the bell is, at once."""
    await road.fetch("insert into outbox (topic) select 'dead-letters' from generate_series(1, 250)")
    await road.fetch("insert into outbox (topic) values ('work'), ('uploads')")
    topics: list[str] = []

    async def broker(messages: Sequence[Message]) -> list[bool]:
        topics.extend(message.topic for message in messages)
        return [message.topic != "dead-letters" for message in messages]

    sent = await road.outbox.send(broker, limit=200)
    assert sent == Sent(published=2, failed=200, refused=frozenset({"dead-letters"}))
    assert topics[0] == "work"
    assert await road.outbox.send(broker, limit=200, without=sent.refused) == Sent()


async def test_what_a_topic_refuses_is_not_read_for_another(road: Road) -> None:
    """With very much waiting for a topic that refuses, the bells are found through the index, and nothing is sorted."""
    await road.fetch("insert into outbox (topic) select 'dead-letters' from generate_series(1, 20000)")
    await road.fetch("insert into outbox (topic) select 'work' from generate_series(1, 300)")
    await road.fetch("analyze outbox")
    plan = await road.fetch(
        "explain select id from outbox where published_at is null and topic = 'work' order by id limit 200"
    )
    assert "using outbox_unsent_of_topic" in plan[1][0], plan
    assert [row[0] for row in plan if "Sort" in row[0]] == []


class Choosy:
    """A broker that refuses messages that are named as these, and remembers what it stored."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.stored: list[str] = []

    async def __call__(self, messages: Sequence[Message]) -> list[bool]:
        """Store what is not refused."""
        named = [f"{message.topic} {message.data.decode()}" for message in messages]
        self.stored += [name for name in named if name not in self.refused]
        return [name not in self.refused for name in named]


def by_topic(messages: list[str]) -> list[str]:
    """Return them as they are told: bells first, and those of a topic in their order."""
    return sorted(messages, key=lambda message: not message.startswith("work"))


@pytest.mark.parametrize("topic", ["work", "dead-letters"])
@pytest.mark.parametrize("refused", [0, 1, 3])
async def test_a_message_that_was_refused_is_the_only_one_that_goes_again(road: Road, topic: str, refused: int) -> None:
    """Among bells and dead letters, the one that the broker did not store stays, and is told with the next batch."""
    places = ["work", "dead-letters"] * 4
    messages = [f'{place} {{"n": {number}}}' for number, place in enumerate(places)]
    for number, place in enumerate(places):
        await road.fetch("insert into outbox (topic, body) values ($1, $2)", place, {"n": number})
    one = [message for message in messages if message.startswith(topic)][refused]
    broker = Choosy(one)
    assert await road.outbox.send(broker, limit=200) == Sent(published=7, failed=1, refused=frozenset({topic}))
    assert broker.stored == [message for message in by_topic(messages) if message != one]
    unsent = await road.fetch("select topic, body from outbox where published_at is null")
    assert [f"{row['topic']} {json.dumps(row['body'])}" for row in unsent] == [one]
    # Refused again: it is still not lost; then it is told, once, and nothing is left.
    assert await road.outbox.send(broker, limit=200) == Sent(failed=1, refused=frozenset({topic}))
    broker.refused = ()
    assert await road.outbox.send(broker, limit=200) == Sent(published=1)
    assert await road.outbox.send(broker, limit=200) == Sent()
    assert sorted(broker.stored) == sorted(messages)


async def test_a_refused_stage_event_stays_with_what_follows_it(road: Road) -> None:
    """The refused line and the later ones of its job are unsent, exactly those, and go with the next batch in order."""
    ids = await jobs_with_lines(road, 3, 3)
    broker = Broker(frozenset({(ids[0], 3), (ids[2], 1)}))
    assert await road.outbox.send(broker, limit=200) == Sent(published=5, failed=4, refused=STAGES)
    unsent = await road.fetch("select job_id, seq from job_events where published_at is null order by seq")
    assert {(str(row["job_id"]), row["seq"]) for row in unsent} == {(ids[0], 3), *((ids[2], seq) for seq in (1, 2, 3))}
    assert await road.outbox.send(broker, limit=200) == Sent(failed=4, refused=STAGES)
    broker.refused, broker.batches = frozenset(), []
    assert await road.outbox.send(broker, limit=200) == Sent(published=4)
    assert broker.told == {ids[0]: [3], ids[2]: [1, 2, 3]}
    assert await left(road) == 0
