"""Jobs in a list, one job with its ledger, and what people may do to jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import look
from cli.client import Api
from services.api.schemas import JobDetail, JobView, LedgerEntry
from shared.clock import Clock, SystemClock
from shared.errors import InvalidRequest, NotFound
from shared.model.job import Status
from shared.model.price import shown

PAGE = 200
SHORT_ID = 8
_LOOKED_AT_MAX = 2000
_WIDE_COLUMNS = 140
_NAME_CELLS = 44


async def list_jobs(
    console: Console,
    api_address: str,
    filters: Mapping[str, str | None],
    *,
    limit: int,
    as_json: bool,
    clock: Clock | None = None,
) -> None:
    """Print jobs, newest first, in as many requests as it takes."""
    found: list[JobView] = []
    cursor: str | None = None
    async with Api(api_address) as api:
        while len(found) < limit:
            page = await api.jobs(cursor=cursor, limit=min(PAGE, limit - len(found)), **filters)
            found += page.jobs
            cursor = page.next_cursor
            if cursor is None:
                break
    if as_json:
        for job in found:
            console.print(job.model_dump_json(), markup=False, soft_wrap=True)
        return
    if not found:
        console.print("No such jobs.", style="minor")
        return
    console.print(table_of(found, (clock or SystemClock()).now(), console.width))
    if cursor is not None:
        console.print(f"… and older ones; show more with --limit {limit * 5}", style="minor")


def table_of(jobs: Sequence[JobView], now: datetime, width: int) -> Table:
    """Return jobs as a table that fits."""
    wide = width >= _WIDE_COLUMNS
    spare = 86 if wide else 60
    columns = ["status", "file", "type", "size", "took", "when", "id"]
    if width < 90:
        columns = ["status", "file", "took", "id"]
        spare = 38
    table = look.table(*columns, right=("size", "took"))
    for job in jobs:
        cells: dict[str, Text | str] = {
            "status": _state(job),
            "file": look.shortened(name_of(job), max(12, min(_NAME_CELLS, width - spare))),
            "type": look.kind(job.media_type, name_of(job)),
            "size": look.size(job.size_bytes),
            "took": look.duration(_took(job, now)),
            "when": Text(look.ago(job.created_at, now), style="minor"),
            "id": Text(str(job.id) if wide else str(job.id)[-SHORT_ID:], style="minor"),
        }
        table.add_row(*[cells[name] for name in columns])
    return table


def name_of(job: JobView) -> str:
    """Return what the job is about, in one word: the object's name, else the type of work."""
    return (job.file_path or "").removeprefix("gs://").partition("/")[2] or job.job_type.value


async def show(console: Console, api_address: str, text: str, *, as_json: bool, clock: Clock | None = None) -> None:
    """Print one job with its ledger."""
    async with Api(api_address) as api:
        job = await api.job(await resolve(api, text))
    if as_json:
        console.print(job.model_dump_json(indent=2), markup=False, soft_wrap=True)
        return
    console.print(_facts(job, (clock or SystemClock()).now()))
    if job.ledger:
        console.print()
        console.print(ledger_table(job.ledger, console.width))
        totals = job.totals
        console.print()
        console.print(
            f"waited {look.duration(totals.wait_ms / 1000)}, worked {look.duration(totals.work_ms / 1000)}, "
            f"together {look.duration(totals.elapsed_ms / 1000)}",
            style="minor",
        )


def ledger_table(ledger: Sequence[LedgerEntry], width: int) -> Table:
    """Return moves below each other, with their share of the time as bars."""
    longest = max((entry.duration_ms or 0 for entry in ledger), default=0)
    bars = max(0, min(30, width - 70))
    columns = ["#", "stage", "entered at", "took", *(["share"] if bars else []), "attempt"]
    table = look.table(*columns, right=("#", "took", "attempt"))
    for entry in ledger:
        cancelled = entry.status is Status.CANCELLED
        stage = Text(Status.CANCELLED.value if cancelled else entry.stage.value, style=entry.status.value)
        share = round(bars * (entry.duration_ms or 0) / longest) if longest else 0
        cells: list[Text | str] = [
            Text(str(entry.seq), style="minor"),
            stage,
            entry.occurred_at.strftime("%H:%M:%S.%f")[:-3],
            look.duration(None if entry.duration_ms is None else entry.duration_ms / 1000),
        ]
        if bars:
            cells.append(Text("━" * share, style=entry.status.value))
        table.add_row(*cells, Text(str(entry.attempt), style="minor"))
    return table


async def retry(console: Console, api_address: str, texts: Sequence[str], *, error_code: str | None) -> int:
    """Retry the jobs that are named, or all that failed with a code; return the exit code."""
    async with Api(api_address) as api:
        ids = [await resolve(api, text) for text in texts]
        if error_code is not None:
            ids = await _failed_with(api, error_code)
            if not ids:
                console.print(f"No job failed with {error_code}.", style="minor")
        return await _each(console, ids, api.retry, "back in the queue")


async def cancel(console: Console, api_address: str, texts: Sequence[str]) -> int:
    """Cancel the jobs that are named; return the exit code."""
    async with Api(api_address) as api:
        return await _each(console, [await resolve(api, text) for text in texts], api.cancel, "cancelled")


async def resolve(api: Api, text: str) -> UUID:
    """Return the id of the job that is meant: in full, or the end of one of the newest 2,000.

    Raises:
        NotFound: none ends so.
        InvalidRequest: several do, or it is too short to tell.
    """
    try:
        return UUID(text)
    except ValueError:
        pass
    ending = text.lower()
    if len(ending) < 4:
        raise InvalidRequest("give the whole id of a job, or at least its last 4 characters")
    matches: list[UUID] = []
    cursor: str | None = None
    for _ in range(_LOOKED_AT_MAX // PAGE):
        page = await api.jobs(cursor=cursor, limit=PAGE)
        matches += [job.id for job in page.jobs if str(job.id).endswith(ending)]
        cursor = page.next_cursor
        if cursor is None:
            break
    if not matches:
        raise NotFound(f"no recent job's id ends with {text!r}")
    if len(matches) > 1:
        raise InvalidRequest(f"{len(matches)} jobs' ids end with {text!r}; give more of it")
    return matches[0]


async def _failed_with(api: Api, error_code: str) -> list[UUID]:
    """Return the jobs that have failed with a code now; collected first, so that a new failure is not tried twice."""
    ids: list[UUID] = []
    cursor: str | None = None
    while True:
        page = await api.jobs(status="failed", error_code=error_code, cursor=cursor, limit=PAGE)
        ids += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            return ids


async def _each(console: Console, ids: Sequence[UUID], act: Callable[[UUID], Awaitable[JobView]], done: str) -> int:
    refused = 0
    for job_id in ids:
        try:
            job = await act(job_id)
        except (NotFound, InvalidRequest) as error:
            refused += 1
            console.print(Text.assemble(("✗ ", "bad"), f"{job_id}  {error.code}: {error.message}"), soft_wrap=True)
            continue
        # A file that was nobody's is looked at anew instead; the job says so.
        said = job.error.message if job.status is Status.FAILED and job.error is not None else done
        console.print(Text.assemble(("✓ ", "good"), f"{job_id}  {name_of(job)}  {said}"), soft_wrap=True)
    return 1 if refused else 0


def _state(job: JobView) -> Text:
    if job.status is Status.FAILED and job.error is not None:
        return Text(f"✗ {job.error.code}", style="failed")
    if job.status is Status.PROCESSING:
        return Text(f"▸ {job.processing_stage.value}", style="processing")
    return look.status(job.status)


def _took(job: JobView, now: datetime) -> float | None:
    if job.started_at is None:
        return None
    return ((job.completed_at or now) - job.started_at).total_seconds()


def _pages(job: JobDetail) -> list[tuple[str, Text | str]]:
    """Return what a model read, and which pages it refused, if one was asked."""
    if not job.pages_read:
        return []
    refused: Mapping[str, Sequence[int]] = (job.result or {}).get("refused_pages", {})
    said = [f"{look.count(job.pages_read, 'page')} read by a model for {shown(job.page_cost_micros)}"]
    said += [f"{code}: page {', '.join(map(str, pages))} by OCR instead" for code, pages in refused.items()]
    return [("pages", "; ".join(said))]


def _facts(job: JobDetail, now: datetime) -> Table:
    rows: list[tuple[str, Text | str]] = [
        ("job", Text(str(job.id))),
        ("file", Text(job.file_path or "–", style="heading")),
        ("status", look.status(job.status)),
    ]
    if job.error is not None:
        rows.append(("error", Text(f"{job.error.code}: {job.error.message or ''}", style="failed")))
    if job.status is Status.PENDING and job.next_attempt_at > now:
        reason = f" ({job.deferred_reason})" if job.deferred_reason else ""
        rows.append(("next attempt", look.ago(job.next_attempt_at, now) + reason))
    if job.progress.total:
        rows.append(("progress", f"{job.progress.done} of {job.progress.total} {job.progress.unit or ''}"))
    rows += [
        ("type", f"{job.media_type or '–'}, {look.size(job.size_bytes)}"),
        ("generation", job.generation or "–"),
        ("organization", job.organization_id + (f", user {job.user_id}" if job.user_id else "")),
        ("queue", f"{job.lane.value}, priority {job.priority}"),
        ("attempts", f"{job.attempts} of {job.max_attempts}, {look.count(job.rescue_count, 'rescue')}"),
        (
            "model",
            f"{look.count(job.model_calls, 'call')}, {job.tokens_used:,} tokens used, {job.tokens_saved:,} saved",
        ),
        ("cost", f"{shown(job.cost_micros)} spent, {shown(job.cost_saved_micros)} saved"),
        *_pages(job),
        ("created", look.ago(job.created_at, now)),
    ]  # fmt: skip
    if job.trace_id:
        rows.append(("trace", job.trace_id))
    return look.facts(rows)
