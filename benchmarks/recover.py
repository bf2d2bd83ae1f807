"""How fast stuck jobs come back, and in how much memory: a real `python -m services.recover --once` on many of them.

    ./headrace dev python benchmarks/recover.py [--stuck 100000] [--out FILE]
    ./headrace dev python benchmarks/recover.py --publish 5000     # instead: stage events per second, before and after
    ./headrace dev python benchmarks/recover.py --plans 10000000   # instead: what its questions cost among so many rows

See README.md in this folder. Nothing here is a test, and no time is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import plans
import publishing
from road import machine

from shared.local.stack import LocalStack
from shared.postgres.migrate import migrate

ROOT = Path(__file__).resolve().parents[1]

# Without objects in the bucket: the comparison, which is part of the run, leaves documents alone that are known gone.
STUCK = """
with made as (
  insert into documents (id, bucket, name, organization_id, deleted_at)
  select gen_random_uuid(), $1::text, lpad(n::text, 8, '0'), 'acme', now() from generate_series(1, $2::int) n
  returning id, bucket, name, organization_id, name::bigint as generation)
insert into document_processing_jobs (id, document_id, bucket, name, generation, organization_id, document_revision,
  status, processing_stage, attempts, lease_owner, lease_until)
select gen_random_uuid(), id, bucket, name, generation, organization_id, 1, 'processing', 'embedding', 1, 'dead',
  now() - interval '1 hour' + generation * interval '1 millisecond' from made
"""


async def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description="Jobs rescued per second, and the peak memory of a recover run.")
    parser.add_argument("--stuck", type=int, default=100_000, help="jobs of dead workers (default: 100000)")
    parser.add_argument("--out", type=Path, help="also write the report here")
    parser.add_argument("--plans", type=int, help="only ask the questions of claim and recover, among so many rows")
    parser.add_argument("--publish", type=int, help="only publish stage events of so many jobs, in both ways")
    asked = parser.parse_args()
    if asked.plans:
        print(f"`benchmarks/recover.py --plans {asked.plans}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}\n")
        print(await plans.report(asked.plans))
        return
    if asked.publish:
        print(f"`benchmarks/recover.py --publish {asked.publish}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}\n")
        print(await publishing.report(STUCK, asked.publish))
        return
    rows = [
        "| stuck jobs | runs at once | rescued | seconds in the duty | jobs/s | whole run, seconds | peak memory MB |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for stuck, runs in ((20, 1), (1000, 2), (asked.stuck, 1), (asked.stuck, 2)):
        print(f"{stuck} stuck jobs, {runs} at once …", file=sys.stderr, flush=True)
        rows.append(await measured(stuck, runs))
    text = f"`benchmarks/recover.py --stuck {asked.stuck}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}\n\n"
    text += "\n".join(rows) + "\n"
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


async def measured(stuck: int, runs: int) -> str:
    """Make `runs` recover runs at once on so many stuck jobs, in processes of their own; return a row of the table."""
    with TemporaryDirectory(prefix="headrace-benchmark-") as folder:
        async with LocalStack(plans.opened(folder), durable=True) as servers:
            environment = servers.environment()
            await migrate(environment["DATABASE_URL"])
            connection = await asyncpg.connect(environment["DATABASE_URL"])
            try:
                await connection.execute("set statement_timeout = 0")
                await connection.fetch(STUCK, servers.bucket, stuck, timeout=1800)
                # Their ledger was published before their workers died.
                await connection.execute("update job_events set published_at = now()", timeout=1800)
                await connection.execute("vacuum analyze", timeout=1800)
                done = await asyncio.gather(*(one_run(environment) for _ in range(runs)))
                counts = await connection.fetchrow(
                    """select count(*) filter (where status = 'pending' and rescue_count = 1) as rescued,
                         max(rescue_count) as most from document_processing_jobs"""
                )
            finally:
                await connection.close()
    if counts["most"] != 1:
        raise SystemExit("a job was rescued twice")
    rescued = sum(run["duties"]["rescue"]["rescued"] for run in done)
    if rescued != counts["rescued"]:
        raise SystemExit(f"the summaries say {rescued}, the table {counts['rescued']}")
    seconds = max(run["rescue_seconds"] for run in done)
    whole = max(run["seconds"] for run in done)
    peak = max(run["peak_mb"] for run in done)
    return (
        f"| {stuck:,} | {runs} | {rescued:,} | {seconds:.1f} | {rescued / max(seconds, 0.001):,.0f} | {whole:.1f} "
        f"| {peak:.0f} |"
    )


async def one_run(environment: Mapping[str, str]) -> dict[str, Any]:
    """Make one run in a process of its own; return its summary, what it took, and its peak resident memory."""
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", _RUN),
        env=os.environ | dict(environment) | {"PYTHONPATH": str(ROOT), "DEFAULT_ORGANIZATION_ID": "acme"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()
    lines = [line for line in output.decode().splitlines() if line.startswith("{")]
    summary: dict[str, Any] = next(found for line in lines if "duties" in (found := json.loads(line)) and "ok" in found)
    return summary | json.loads(lines[-1]) | {"seconds": time.monotonic() - started}


# `python -m services.recover --once`, with the time of one duty and the memory of the process told at its end.
_RUN = """
import json, resource, sys, time
from services.recover import main as recover
from services.recover.run import RecoverRun
do, took = RecoverRun._do, {}
async def timed(self, name, *rest):
    started = time.monotonic()
    await do(self, name, *rest)
    took[name] = time.monotonic() - started
RecoverRun._do = timed
sys.argv = ["services.recover", "--once"]
code = recover.main()
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"rescue_seconds": took["rescue"], "peak_mb": peak_mb}))
sys.exit(code)
"""


if __name__ == "__main__":
    asyncio.run(main())
