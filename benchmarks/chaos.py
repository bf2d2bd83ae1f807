"""Chaos: the whole stack with real processes, everything in it killed at random, and a count of what went wrong.

    ./headrace dev python benchmarks/chaos.py [--files 500] [--seed N] [--out FILE]
    ./headrace dev python benchmarks/chaos.py --storm [--minutes 5]
    ./headrace dev python benchmarks/chaos.py --restart

Services are killed with kill -9 and started again as a platform would; broker and Postgres are restarted, all database
connections cut, and the model answers with 429 storms, 500s, silence and half answers. Files come, are overwritten and
deleted meanwhile. Then recover runs until all is quiet. What the model was paid for twice is held against what was
in hand when something died: one batch of that job, no more. The exit code is 0 only if every zero of the table is zero.
`--restart` does nothing but restart Postgres and cut connections under load, and says when the work goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from crew import AWAY, SETTINGS, WORKERS, Crew, cut_connections
from restart import restart

from shared.clock import SystemClock
from shared.telemetry.logs import configure_logs
from tests.plugins.model_server import ModelServer, good, hang, model_server, server_error, truncated
from tests.plugins.stack import ROOT, Site, new_site_with_postgres

IN_FLIGHT = 40
"""Files that are uploaded and not done, at most, so that trouble meets them in every stage."""
LEAST_SECONDS = 40.0
"""For which files come, however few they are."""
RESTART_SECONDS = 15.0
"""Between two restarts of one server: the stack gives up one that ends too often."""
QUIET_SECONDS = 240.0
STORM_PER_SECOND = 5
TEXTS_PER_BATCH = 32
"""Of the model's adapter; who dies between the model's answer and the commit pays for so many again at most."""
clock = SystemClock()


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
    most_passages: Counter[str] = field(default_factory=Counter)
    """Of each object ever, the length of its longest version."""
    may_repeat: Counter[str] = field(default_factory=Counter)
    """Of each object, how many texts may be paid for again because of what was done while its job was in hand."""

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
                    await self._charge(name)
            elif fault == "cut":
                await self._charge()
                self.faults["connections cut"] += await cut_connections(self.site)
            elif now - restarted[fault] > RESTART_SECONDS:
                restarted[fault] = now
                if fault == "broker":
                    self.faults["broker restarts"] += 1
                    await self.site.servers.broker.kill9()
                else:
                    self.faults["Postgres restarts"] += 1
                    await self._charge()
                    postgres = self.site.servers.postgres
                    await (postgres.kill9() if self.dice.random() < 0.5 else postgres.stop())

    async def _charge(self, owner: str | None = None) -> None:
        """Note which jobs are in hand (of this worker): each may lose the batch that is paid for and not committed.

        While the database is away nothing is noted: what is in hand then was in hand when it went.
        """
        try:
            rows = await self.site.rows(
                "select name from document_processing_jobs"
                " where status = 'processing' and ($1::text is null or lease_owner = $1)",
                owner,
            )
        except AWAY:
            return
        for row in rows:
            self.may_repeat[row["name"]] += min(TEXTS_PER_BATCH, self.most_passages[row["name"]])

    def unexplained(self) -> int:
        """Count the texts that were paid for again beyond what was in hand, file by file."""
        again: Counter[str] = Counter()
        for text, count in self.model.repeated.items():
            said = _MARK.search(text)
            again[said["name"] if said else text] += count
        return sum(max(0, count - self.may_repeat[name]) for name, count in again.items())

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
        self.most_passages[name] = max(passages, self.most_passages[name])
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
            found = Counter(match[0] for match in _MARK.finditer(texts.get(name, "")))
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
        return {
            "lost": lost,
            "doubled": doubled,
            "stuck": stuck,
            "failed for a transient cause": failed,
            "texts paid for again beyond one batch of the job in hand": self.unexplained(),
        }


_MARK = re.compile(r"Valve \d+ of (?P<name>\S+) in version \d+")


def _mark(name: str, version: int, number: int) -> str:
    return f"Valve {number} of {name} in version {version}"


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
        f"| texts paid for | {sum(model.paid.values())} |",
        f"| of these again | {sum(model.repeated.values())} (most allowed: {sum(run.may_repeat.values())}) |",
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
    parser.add_argument("--restart", action="store_true", help="only restarts of Postgres and cuts, under load")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the storm lasts")
    parser.add_argument("--out", type=Path, help="also write the table here")
    asked = parser.parse_args()
    configure_logs("ERROR", "console")
    if asked.restart:
        said, run = "--restart", restart()
    elif asked.storm:
        said, run = f"--storm --minutes {asked.minutes:g}", storm(asked.minutes)
    else:
        said, run = f"--files {asked.files} --seed {asked.seed}", chaos(asked.files, asked.seed)
    table, right = asyncio.run(run)
    text = f"`benchmarks/chaos.py {said}`, {datetime.now(UTC):%Y-%m-%d}\n\n{table}"
    print(text)
    if asked.out:
        with asked.out.open("a", encoding="utf-8") as out:
            out.write(text + "\n")
    return 0 if right else 1


if __name__ == "__main__":
    assert (ROOT / "benchmarks").is_dir()
    sys.exit(main())
