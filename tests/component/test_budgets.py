"""What jobs cost and save is told; a budget holds among many workers, and puts off what it cannot pay till tomorrow."""

from __future__ import annotations

import asyncio

import pytest

from services.process.document import IndexDocument
from shared.clock import SystemClock
from shared.errors import BudgetExhausted, DependencyUnavailable
from shared.model.job import Status
from shared.model.price import Prices
from shared.ports.stores import JobFilter, Scope
from shared.postgres import budgets as postgres_budgets
from shared.postgres.budgets import PostgresBudgets
from tests.fakes import LineExtractor
from tests.plugins.road import Road

DAY_SECONDS = 86_400
PRICE = Prices({"hash": 1_000_000.0})
"""A token costs 1: a million millionths."""
ONE = 1_000_000


def paid(road: Road, *, default: int | None = None) -> PostgresBudgets:
    """Let the road's work cost something; return its budgets."""
    budgets = PostgresBudgets(road.database, default_micros=None if default is None else default * ONE)
    road.work = IndexDocument(
        queue=road.queue,
        storage=road.bucket,
        extractor=LineExtractor(),
        embedder=road.embedder,
        tracing=road.tracing,
        metrics=road.metrics,
        clock=SystemClock(),
        max_object_bytes=1 << 20,
        prices=PRICE,
        spending=budgets,
    )
    road.process = road.worker("worker")
    return budgets


async def put(road: Road, name: str, *lines: str) -> None:
    """Upload lines, each a chunk of as many tokens as it has words."""
    road.bucket.put(name, "\n".join(lines).encode())
    await road.notify(name)


async def test_a_job_says_what_it_cost_and_what_was_saved(road: Road) -> None:
    """In its row, its ledger, the counts of all jobs and the metrics; a copy saves what the first one cost."""
    paid(road)
    await put(road, "a.txt", "one two three", "four five")
    await road.work_off()
    await put(road, "b.txt", "one two three", "four five", "six")
    await road.work_off()
    page = await road.directory.page(JobFilter(), Scope(), cursor=None, limit=9)
    copy, first = page.jobs
    assert (first.model_calls, first.tokens_used, first.tokens_saved) == (1, 5, 0)
    assert (first.cost_micros, first.cost_saved_micros) == (5 * ONE, 0)
    assert (copy.model_calls, copy.tokens_used, copy.tokens_saved) == (1, 1, 5)
    assert (copy.cost_micros, copy.cost_saved_micros) == (ONE, 5 * ONE)
    end = (await road.directory.ledger(copy.id, Scope()))[-1].detail
    assert (end["tokens_saved"], end["cost_micros"], end["cost_saved_micros"]) == (5, ONE, 5 * ONE)
    assert (await road.directory.stats(Scope())).models == {
        "calls": 2, "tokens_used": 6, "tokens_saved": 5, "cost_micros": 6 * ONE, "cost_saved_micros": 5 * ONE,
    }  # fmt: skip
    assert 'headrace_model_tokens_total{kind="saved",model="hash"' in road.metrics.text()


async def test_what_a_budget_cannot_pay_waits_for_the_next_day_however_long(road: Road) -> None:
    """It is deferred with its reason, uncharged, day after day; cached text completes; then it goes on by itself."""
    budgets = paid(road, default=1)
    await put(road, "a.txt", "one two three")  # the last one may go beyond
    await put(road, "b.txt", "four five six")
    await put(road, "c.txt", "one two three")
    await road.work_off()
    assert await statuses(road) == {"a.txt": "completed", "b.txt": "pending", "c.txt": "completed"}
    stats = await road.directory.stats(Scope())
    assert stats.by_deferred_reason == {"BUDGET_EXHAUSTED": 1}
    (today,) = await budgets.today()
    assert (today.organization_id, today.amount_micros, today.spent_micros, today.waiting_jobs) == (
        "acme",
        None,
        3 * ONE,
        1,
    )
    assert "headrace_budget_refusals_total" in road.metrics.text()
    for day in range(1, 4):  # somebody else is first on each of three days: longer than any other job may wait
        await road.shift_clock(day * DAY_SECONDS)
        await budgets.reserve("acme", 2 * ONE)
        assert await road.ring() is not None
        (job,) = await waiting(road)
        assert (job["attempts"], job["deferred_since"], job["deferred_reason"]) == (0, None, "BUDGET_EXHAUSTED")
    midnight = await road.value(
        "select next_attempt_at = date_trunc('day', next_attempt_at at time zone 'UTC') at time zone 'UTC' or "
        "next_attempt_at - headrace_now() <= interval '1 day 2 seconds' from document_processing_jobs "
        "where status = 'pending'"
    )
    assert midnight
    await road.shift_clock(4 * DAY_SECONDS)
    await road.work_off()
    assert await statuses(road) == {"a.txt": "completed", "b.txt": "completed", "c.txt": "completed"}


async def test_a_larger_budget_lets_the_jobs_go_on_at_once(road: Road) -> None:
    """Its own budget stands above the default; none of its own is the default again."""
    budgets = paid(road, default=0)
    await put(road, "a.txt", "one two three")
    await road.work_off()
    assert await statuses(road) == {"a.txt": "pending"}
    await budgets.set("acme", 10 * ONE)
    await road.work_off()
    assert await statuses(road) == {"a.txt": "completed"}
    await budgets.set("acme", None)
    with pytest.raises(BudgetExhausted):
        await budgets.reserve("acme", 1)


async def out_of_money(road: Road, *, files: int) -> None:
    """Let so many jobs wait for the next day."""
    for file in range(files):
        await put(road, f"{file}.txt", f"text-{file}")
    await road.work_off()
    reasons = await road.fetch("select distinct deferred_reason, next_attempt_at > now() from document_processing_jobs")
    assert reasons == [("BUDGET_EXHAUSTED", True)]


async def test_however_many_wait_all_go_on_with_a_larger_budget(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """More jobs wait than one statement brings back: none is left to wait for the next day."""
    monkeypatch.setattr(postgres_budgets, "RESUMED_AT_ONCE", 2)
    budgets = paid(road, default=0)
    await out_of_money(road, files=5)
    await budgets.set("acme", 100 * ONE)
    assert await road.work_off() == 5
    assert set((await statuses(road)).values()) == {"completed"}


async def test_a_budget_is_set_even_if_not_all_that_wait_can_be_brought_back(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The amount stands, and those that were brought back go on; the others do at their time, or when asked again."""
    monkeypatch.setattr(postgres_budgets, "RESUMED_AT_ONCE", 2)
    budgets = paid(road, default=0)
    await out_of_money(road, files=5)
    await road.fetch(
        """create function takes_too_long() returns trigger language plpgsql as $$ begin
           if (select count(*) from document_processing_jobs where next_attempt_at <= headrace_now()) > 2 then
             raise query_canceled; end if;
           return null; end $$"""
    )
    await road.fetch(
        "create trigger slow after update of next_attempt_at on document_processing_jobs"
        " for each statement execute function takes_too_long()"
    )
    with pytest.raises(DependencyUnavailable):
        await budgets.set("acme", 100 * ONE)
    (today,) = await budgets.today("acme")
    assert (today.amount_micros, today.waiting_jobs) == (100 * ONE, 3)
    await road.fetch("drop trigger slow on document_processing_jobs")
    await budgets.set("acme", 100 * ONE)
    await road.work_off()
    assert set((await statuses(road)).values()) == {"completed"}


async def test_what_failed_calls_may_have_cost_is_on_the_job_and_in_the_budget(road: Road) -> None:
    """Three tries without an answer: their tokens are counted as spent, and not as the file's own."""
    budgets = paid(road, default=100)
    lost = DependencyUnavailable()
    lost.calls, lost.input_tokens = 3, 9
    road.embedder.errors = [lost]
    await put(road, "a.txt", "one two three")
    await road.work_off()
    (job,) = await waiting(road)
    assert (job["model_calls"], job["tokens_used"], job["cost_micros"]) == (3, 9, 9 * ONE)
    (today,) = await budgets.today()
    assert today.spent_micros == 9 * ONE
    await road.shift_clock(60)
    await road.work_off()
    assert await statuses(road) == {"a.txt": "completed"}
    (today,) = await budgets.today()
    assert today.spent_micros == 12 * ONE


async def test_eight_workers_overspend_by_less_than_one_batch(road: Road) -> None:
    """Each file has ten texts of a token; batches are of four, and twenty may be spent."""
    road.embedder = type(road.embedder)(batch_size=4)
    budgets = paid(road)
    await budgets.set("acme", 20 * ONE)
    for file in range(16):
        await put(road, f"{file}.txt", *(f"text-{file}-{line}" for line in range(10)))
    workers = [road.worker(f"worker-{number}") for number in range(8)]

    async def work(number: int) -> None:
        road.process = workers[number]
        while (await road.ring()).name != "nothing_due":
            pass

    async with asyncio.timeout(120), asyncio.TaskGroup() as running:
        for number in range(8):
            running.create_task(work(number))
    assert 20 <= len(road.embedder.texts) <= 20 + 3
    (today,) = await budgets.today()
    assert today.spent_micros == len(road.embedder.texts) * ONE
    assert today.waiting_jobs > 0


async def test_a_call_that_failed_costs_nothing(road: Road) -> None:
    """What was reserved for it is given back; a call that billed other than was expected counts as billed."""
    budgets = paid(road, default=5)
    road.embedder.errors = [DependencyUnavailable()]
    await put(road, "a.txt", "one two three")
    await road.work_off()
    (today,) = await budgets.today()
    assert today.spent_micros == 0
    reservation = await budgets.reserve("acme", 7 * ONE)
    await budgets.settle(reservation, 2 * ONE)
    (today,) = await budgets.today("acme")
    assert today.spent_micros == 2 * ONE
    assert await budgets.today("globex") == []


async def statuses(road: Road) -> dict[str, str]:
    """Return each file's status."""
    found = await road.fetch("select name, status from document_processing_jobs")
    return {row["name"]: row["status"] for row in found}


async def waiting(road: Road) -> list:
    """Return the jobs that are pending."""
    return await road.fetch("select * from document_processing_jobs where status = $1", Status.PENDING.value)
