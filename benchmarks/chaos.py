"""Chaos: the whole stack with real processes, everything in it killed at random, and a count of what went wrong.

    ./headrace dev python benchmarks/chaos.py [--files 500] [--seed N] [--out FILE]
    ./headrace dev python benchmarks/chaos.py --storm [--minutes 5]

Services are killed with kill -9 and started again as a platform would; broker and Postgres are restarted, all database
connections cut, and the model answers with 429 storms, 500s, silence and half answers. Files come, are overwritten and
deleted meanwhile. Then recover runs until all is quiet. The exit code is 0 only if every zero of the table is zero.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from shared.clock import SystemClock
from shared.errors import DependencyUnavailable
from shared.local.process import ChildProcess
from shared.telemetry.logs import configure_logs
from tests.plugins.model_server import ModelServer, good, hang, model_server, server_error, truncated
from tests.plugins.stack import ROOT, Site, new_site_with_postgres

WORKERS = 3
IN_FLIGHT = 40
"""Files that are uploaded and not done, at most, so that trouble meets them in every stage."""
LEAST_SECONDS = 40.0
"""For which files come, however few they are."""
RESTART_SECONDS = 15.0
"""Between two restarts of one server: the stack gives up one that ends too often."""
QUIET_SECONDS = 240.0
STORM_PER_SECOND = 5
RETRY_DELAYS = {"RETRY_DELAYS_SECONDS": "[0, 5, 15, 40]"}
SETTINGS: dict[str, object] = {
    "LEASE_SECONDS": 10,
    "HEARTBEAT_SECONDS": 3,
    "RECOVER_EVERY_SECONDS": 2,
    "RECONCILE_EVERY_SECONDS": 10,
    "STUCK_JOB_THRESHOLD_MINUTES": 0.05,
    "DATABASE_POOL_TIMEOUT_SECONDS": 3,
}

AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

clock = SystemClock()


class Crew:
    """Service processes that are started again whenever they end, as every platform does."""

    def __init__(self, site: Site, said: Mapping[str, object]) -> None:
        self._site, self._said = site, said
        self.members: dict[str, ChildProcess] = {}
        self.starts: Counter[str] = Counter()

    @asynccontextmanager
    async def working(self, services: Mapping[str, str]) -> AsyncIterator[None]:
        """Keep these (name: module) running for the length of the block."""
        async with asyncio.TaskGroup() as group:
            started = [asyncio.Event() for _ in services]
            keepers = [
                group.create_task(self._keep(name, module, event))
                for (name, module), event in zip(services.items(), started, strict=True)
            ]
            await asyncio.gather(*(event.wait() for event in started))
            try:
                yield
            finally:
                for keeper in keepers:
                    keeper.cancel()

    async def kill(self, name: str) -> bool:
        """Kill -9; False if it is not up at this moment."""
        child = self.members.get(name)
        if child is None or child.returncode is not None:
            return False
        await child.kill9()
        return True

    async def _keep(self, name: str, module: str, started: asyncio.Event) -> None:
        said = RETRY_DELAYS | SETTINGS | dict(self._said) | {"WORKER_NAME": name}
        child = ChildProcess(
            name,
            [sys.executable, "-m", module],
            log_path=self._site.folder / f"{name}.log",
            ready=_has_started,
            env=self._site.process_environment(said),
        )
        try:
            while True:
                try:
                    await child.start()
                except DependencyUnavailable:  # the database is away; a platform tries again too
                    await clock.sleep(0.3)
                    continue
                self.members[name] = child
                self.starts[name] += 1
                started.set()
                await child.wait_ended()
        finally:
            await child.stop()


@dataclass
class Run:
    """One run: what is in the bucket, what was done to the stack, and what was found in the end."""

    site: Site
    model: ModelServer
    dice: random.Random
    files: int
    contents: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of each object that is to be there: its version, and how many passages it has."""
    faults: Counter[str] = field(default_factory=Counter)
    uploads: int = 0

    async def feed(self) -> None:
        """Upload all files, overwrite some and delete some, never many ahead of what is done."""
        pause_seconds = max(LEAST_SECONDS / self.files, 0.5)
        for number in range(self.files):
            await clock.sleep(self.dice.uniform(0, 2 * pause_seconds))
            while await self.open_jobs() > IN_FLIGHT:
                await clock.sleep(0.2)
            await self._put(f"file-{number:04}.md")
            if self.contents and self.dice.random() < 0.08:
                await self._put(self.dice.choice(list(self.contents)))
            if len(self.contents) > 5 and self.dice.random() < 0.04:
                name = self.dice.choice(list(self.contents))
                del self.contents[name]
                await self.site.delete(name)

    async def misbehave(self) -> None:
        """Let the model answer well, and then not, in turns, until cancelled."""
        moods = {"500s": server_error, "silence": hang, "half answers": truncated}
        while True:
            await clock.sleep(self.dice.uniform(2, 5))
            mood = self.dice.choice([*moods, "429 storm"])
            self.faults[f"model: {mood}"] += 1
            if mood == "429 storm":
                self.model.allowance_per_second = STORM_PER_SECOND
                await clock.sleep(self.dice.uniform(3, 8))
                self.model.allowance_per_second = None
                continue
            self.model.answer = moods[mood]
            await clock.sleep(self.dice.uniform(1, 2.5))
            self.model.answer = good
            if self.dice.random() < 0.7:  # else the calls that hang do so until the client gives up
                self.model.released.set()
                self.model.released = asyncio.Event()

    async def break_things(self, crew: Crew) -> None:
        """Kill, restart and cut, until cancelled."""
        restarted = {"broker": 0.0, "postgres": 0.0}
        while True:
            await clock.sleep(self.dice.uniform(1, 4))
            fault = self.dice.choices(["kill", "cut", "broker", "postgres"], [5, 2, 1, 2])[0]
            now = clock.monotonic()
            if fault == "kill":
                name = self.dice.choice(list(crew.members))
                if await crew.kill(name):
                    self.faults[f"kill -9: {name.split('-')[0]}"] += 1
            elif fault == "cut":
                self.faults["connections cut"] += await _cut(self.site)
            elif now - restarted[fault] > RESTART_SECONDS:
                restarted[fault] = now
                if fault == "broker":
                    self.faults["broker restarts"] += 1
                    await self.site.servers.broker.kill9()
                else:
                    self.faults["Postgres restarts"] += 1
                    postgres = self.site.servers.postgres
                    await (postgres.kill9() if self.dice.random() < 0.5 else postgres.stop())

    async def quiet(self) -> None:
        """Let recover run until every job has ended and nothing differs; at most `QUIET_SECONDS`."""
        deadline, shifted = clock.monotonic() + QUIET_SECONDS, 0.0
        while clock.monotonic() < deadline:
            summary = await self.site.recover_here(**SETTINGS)
            states = await self.site.rows(
                "select status, count(*) as count, min(next_attempt_at - headrace_now()) as due"
                " from document_processing_jobs where status in ('pending', 'processing') group by status"
            )
            found = summary["duties"].get("reconcile", {})
            if summary["ok"] and not states and not any(found.get(kind, 1) for kind in ("missing", "stale", "orphan")):
                return
            if [row["status"] for row in states] == ["pending"] and states[0]["due"].total_seconds() > 0:
                shifted += states[0]["due"].total_seconds()
                await self.site.shift_clock(shifted)
            await clock.sleep(0.5)

    async def _put(self, name: str) -> None:
        version = self.contents.get(name, (0, 0))[0] + 1
        passages = 80 if self.dice.random() < 0.05 else self.dice.randint(1, 4)
        text = "\n\n".join(f"# Valve {n}\n\n{_mark(name, version, n)} opens at {n} bar." for n in range(passages))
        await self.site.upload(name, text.encode())
        self.contents[name] = (version, passages)
        self.uploads += 1

    async def open_jobs(self) -> int:
        """Count the jobs that have not ended."""
        try:
            count: int = await self.site.value(
                "select count(*) from document_processing_jobs where status in ('pending', 'processing')"
            )
        except AWAY:
            return IN_FLIGHT + 1  # it is away; so many may be open
        return count

    async def findings(self) -> dict[str, int]:
        """Compare what is found with what was uploaded; every figure is to be zero."""
        rows = await self.site.rows(
            "select d.name, c.text from documents d join chunks c on c.job_id = d.live_job_id order by 1, c.ordinal"
        )
        texts: dict[str, str] = {}
        for row in rows:
            texts[row["name"]] = texts.get(row["name"], "") + "\n" + row["text"]
        lost = doubled = 0
        for name, (version, passages) in self.contents.items():
            found = Counter(re.findall(r"Valve \d+ of \S+ in version \d+", texts.get(name, "")))
            wanted = {_mark(name, version, number) for number in range(passages)}
            lost += bool(wanted - found.keys())
            doubled += bool(found.keys() - wanted) or max(found.values(), default=0) > 1
        doubled += len(texts.keys() - self.contents.keys())
        doubled += await self.site.value(
            "select count(*) from (select job_id from job_events where status = 'completed'"
            " group by job_id having count(*) > 1) twice"
        )
        stuck = await self.site.value(
            "select count(*) from document_processing_jobs where status in ('pending', 'processing')"
        )
        failed = await self.site.value("select count(*) from document_processing_jobs where status = 'failed'")
        return {"lost": lost, "doubled": doubled, "stuck": stuck, "failed for a transient cause": failed}


def _mark(name: str, version: int, number: int) -> str:
    return f"Valve {number} of {name} in version {version}"


async def _cut(site: Site) -> int:
    try:
        await site.rows("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'headrace'")
    except AWAY:
        return 0  # it is away already
    return 1


async def _has_started(child: ChildProcess) -> bool:
    return "service.started" in child.log_path.read_text()


async def chaos(files: int, seed: int) -> tuple[str, bool]:
    """Make one run; return its table, and whether every zero is zero."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(model_server())
        site = await stack.enter_async_context(new_site_with_postgres())
        run = Run(site, model, random.Random(seed), files)
        crew = Crew(site, model.environment())
        services = {"ingest": "services.ingest", "recover": "services.recover"}
        services |= {f"process-{number}": "services.process" for number in range(WORKERS)}
        started = clock.monotonic()
        async with crew.working(services):
            async with asyncio.TaskGroup() as group:
                trouble = [group.create_task(run.misbehave()), group.create_task(run.break_things(crew))]
                await run.feed()
                while await run.open_jobs() > IN_FLIGHT // 4:
                    await clock.sleep(0.5)
                for task in trouble:
                    task.cancel()
            model.answer, model.allowance_per_second = good, None
            model.released.set()
            await run.quiet()
        seconds = clock.monotonic() - started
        findings = await run.findings()
        rescues = await site.value("select coalesce(sum(rescue_count), 0) from document_processing_jobs")
        failures = await site.rows(
            "select name, error_code, attempts, rescue_count from document_processing_jobs where status = 'failed'"
        )
    lines = ["| | |", "|---|---|", f"| files (uploads) | {files} ({run.uploads}) |"]
    lines += [f"| **{what}** | **{count}** |" for what, count in findings.items()]
    answers = ", ".join(f"{status or 'no answer'}: {count}" for status, count in sorted(model.statuses().items()))
    lines += [
        f"| calls of the model | {len(model.calls)} ({answers}) |",
        f"| texts paid for | {sum(model.paid.values())}, of these again: {sum(model.repeated.values())} |",
        f"| rescues | {rescues} |",
    ]
    lines += [f"| {fault} | {count} |" for fault, count in sorted(run.faults.items())]
    lines += [f"| starts of services | {sum(crew.starts.values())} |", f"| duration | {seconds:.0f} s |"]
    lines += [f"\nfailed: {dict(row)}" for row in failures]
    return "\n".join(lines) + "\n", not any(findings.values())


async def storm(minutes: float) -> tuple[str, bool]:
    """Let the model allow so many calls a second and no more, for so long, with more files than it can take."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(model_server())
        site = await stack.enter_async_context(new_site_with_postgres())
        model.allowance_per_second = STORM_PER_SECOND
        crew = Crew(site, model.environment())
        services = {"ingest": "services.ingest"} | {f"process-{n}": "services.process" for n in range(WORKERS)}
        await stack.enter_async_context(crew.working(services))
        started, names = clock.monotonic(), []
        while (now := clock.monotonic()) - started < minutes * 60:
            if len(names) < (now - started) * STORM_PER_SECOND + 4 * IN_FLIGHT:
                names.append(f"file-{len(names):05}.md")
                await site.upload(names[-1], f"{_mark(names[-1], 1, 0)} opens.".encode())
            else:
                await clock.sleep(0.1)
        ended = clock.monotonic()
        calls = [call for call in model.calls if call.at <= ended]
        allowed, answers = model.allowed(calls[0].at, ended), Counter(call.status for call in calls)
        model.allowance_per_second = None
        jobs = await site.ended(*names, within_seconds=QUIET_SECONDS)
        attempts = max(job["attempts"] for job in jobs)
        unfinished = sum(job["status"] != "completed" for job in jobs)
    lines = ["| | |", "|---|---|", f"| storm | {minutes:g} min, {STORM_PER_SECOND} calls a second allowed |"]
    lines += [
        f"| files | {len(names)}, not completed: **{unfinished}** |",
        f"| attempts of a job, at most | **{attempts}** |",
        f"| calls | {len(calls)} = allowed × **{len(calls) / allowed:.2f}** |",
        f"| answered 200, 429 | {answers[200]}, {answers[429]} |",
    ]
    return "\n".join(lines) + "\n", unfinished == 0 and attempts == 1 and len(calls) <= allowed * 1.1


def main() -> int:
    """Run what is asked for, print its table, and say with the exit code whether it is as it must be."""
    parser = argparse.ArgumentParser(description="Kill everything at random, and count what went wrong.")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--storm", action="store_true", help="a storm of 429s instead, and nothing else")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the storm lasts")
    parser.add_argument("--out", type=Path, help="also write the table here")
    asked = parser.parse_args()
    configure_logs("ERROR", "console")
    table, right = asyncio.run(storm(asked.minutes) if asked.storm else chaos(asked.files, asked.seed))
    said = f"--storm --minutes {asked.minutes:g}" if asked.storm else f"--files {asked.files} --seed {asked.seed}"
    text = f"`benchmarks/chaos.py {said}`, {datetime.now(UTC):%Y-%m-%d}\n\n{table}"
    print(text)
    if asked.out:
        with asked.out.open("a", encoding="utf-8") as out:
            out.write(text + "\n")
    return 0 if right else 1


if __name__ == "__main__":
    assert (ROOT / "benchmarks").is_dir()
    sys.exit(main())
