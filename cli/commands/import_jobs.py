"""An older table of jobs, taken over row by row, with a report of what became of them and of what was refused."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli import look
from services import address
from services.laptop import DEFAULTS
from shared.errors import ConfigurationError
from shared.model.decision import UNKNOWN_ORGANIZATION
from shared.model.old_jobs import OldJob, RefusedRow, read_old_job
from shared.postgres.iam import AccessTokens
from shared.postgres.old_jobs import OldTable, PostgresHistory, open_table
from shared.postgres.pool import open_database
from shared.settings import DatabaseSettings, environment, load

EXAMPLES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where the rows go, and what they are about."""

    settings: DatabaseSettings
    bucket: str
    organization_id: str


@dataclass(slots=True)
class Report:
    """What became of the rows. `anew` of the new ones are looked at anew; `refused` has examples of ids by reason."""

    counts: Counter[str] = field(default_factory=lambda: Counter(read=0, new=0, history=0, anew=0, already_here=0))
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, row: RefusedRow) -> None:
        """Count a row that cannot be imported."""
        self.refused[row.reason] += 1
        named = self.examples.setdefault(row.reason, [])
        if len(named) < EXAMPLES and row.source_id:
            named.append(row.source_id)


def target(data_dir: Path, bucket: str | None) -> Target:
    """Return where to write: what the environment says, else the stack that runs on this directory.

    Raises:
        ConfigurationError: nobody says which database, or which bucket.
    """
    said, stack = environment(), address.find(data_dir)
    url = said.get("DATABASE_URL") or (stack.database if stack is not None else None)
    bucket = bucket or said.get("BUCKET") or (stack.bucket if stack is not None else None)
    if not url:
        raise ConfigurationError("set DATABASE_URL to the database of this product, or start it here: ./headrace up")
    if not bucket:
        raise ConfigurationError("say which bucket is indexed: --bucket, or BUCKET")
    laptops = None if stack is None else DEFAULTS["DEFAULT_ORGANIZATION_ID"]
    return Target(
        settings=load(DatabaseSettings, {**said, "DATABASE_URL": url}),
        bucket=bucket,
        organization_id=said.get("DEFAULT_ORGANIZATION_ID") or laptops or UNKNOWN_ORGANIZATION,
    )


async def run(console: Console, to: Target, source: str, table: str, *, dry_run: bool, as_json: bool) -> int:
    """Import, or say what an import would do; return the exit code: 1 when rows were refused."""
    password = AccessTokens() if to.settings.database_iam_auth else None
    async with (
        open_database(to.settings.database_url.get_secret_value(), password=password, size=2) as database,
        open_table(source, table) as rows,
    ):
        report = await _import(console, to, rows, PostgresHistory(database), dry_run=dry_run, quiet=as_json)
    if as_json:
        said = {**report.counts, "refused": dict(report.refused), "examples": report.examples, "dry_run": dry_run}
        console.print(json.dumps(said, indent=2), markup=False, soft_wrap=True)
    else:
        _print(console, report, dry_run=dry_run)
    return 1 if report.refused else 0


async def _import(
    console: Console, to: Target, table: OldTable, history: PostgresHistory, *, dry_run: bool, quiet: bool
) -> Report:
    report, last = Report(), ""
    columns = (TextColumn("{task.completed:,} rows"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        async with aclosing(table.batches()) as batches:
            async for batch in batches:
                jobs: list[OldJob] = []
                for row in batch:
                    read = read_old_job(row, bucket=to.bucket, default_organization_id=to.organization_id)
                    if isinstance(read, OldJob) and read.source_id == last:
                        read = RefusedRow(source_id=last, reason="its id occurs twice")
                    if isinstance(read, RefusedRow):
                        report.refuse(read)
                        continue
                    last = read.source_id
                    jobs.append(read)
                report.counts["read"] += len(batch)
                await _add(report, history, table.name, jobs, dry_run=dry_run)
                bar.update(task, advance=len(batch))
    return report


async def _add(report: Report, history: PostgresHistory, source: str, jobs: list[OldJob], *, dry_run: bool) -> None:
    if dry_run:
        known = await history.known(source, jobs)
        new = [job for job in jobs if job.source_id not in known]
        rows, hints = len(new), sum(job.anew for job in new)
    else:
        added = await history.add(source, jobs)
        rows, hints = added.rows, added.hints
    report.counts.update(new=rows, history=rows - hints, anew=hints, already_here=len(jobs) - rows)


def _print(console: Console, report: Report, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    counts = report.counts
    console.print(Text.assemble(("✓ ", "good"), f"{look.count(counts['read'], 'row')} read"))
    rows: list[tuple[str, Text | str]] = [
        (f"{would}kept as history", f"{counts['history']:,}"),
        (f"{would}looked at anew", f"{counts['anew']:,}"),
        ("here already", f"{counts['already_here']:,}"),
    ]
    for reason, number in report.refused.most_common():
        named = ", ".join(report.examples[reason])
        rows.append(("refused", Text(f"{number:,}  {reason}" + (f": id {named}" if named else ""), style="failed")))
    console.print(look.facts(rows))
    if counts["history"] and not dry_run:
        console.print("History is not searched: headrace bulk-import '' indexes what is in the bucket.", style="minor")
