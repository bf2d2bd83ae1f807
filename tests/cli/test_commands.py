"""The commands, each against a running api."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer

from cli import look
from cli.app import app, run
from cli.commands.watch import newest
from shared.errors import DependencyUnavailable
from shared.model.job import Job, Stage, Status
from tests.cli.conftest import CommandLine, Timeline
from tests.services.api.fakes import NOON, a_hit, a_job, a_ledger

FAILED = {
    "status": Status.FAILED,
    "stage": Stage.FAILED,
    "error_code": "CORRUPT",
    "error_message": "It is cut in half.",
}
ROAD = (Stage.PENDING, Stage.DOWNLOADING, Stage.PROCESSING, Stage.EMBEDDING, Stage.STORING, Stage.COMPLETED)


def put(headrace: CommandLine, *jobs: Job) -> None:
    """Make the api know these jobs."""
    headrace.api.directory.jobs |= {job.id: job for job in jobs}


def every_command(group: typer.Typer, *before: str) -> list[tuple[str, ...]]:
    """Return the words of all commands and groups."""
    found = [before]
    for command in group.registered_commands:
        assert command.callback is not None
        found.append((*before, command.name or command.callback.__name__))
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        found += every_command(inner.typer_instance, *before, str(inner.name))
    return found


@pytest.mark.parametrize("words", every_command(app), ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` and `-h` print the use and what it is for, and end well."""
    for option in ("--help", "-h"):
        assert run([*words, option]) == 0
        assert "Usage: headrace" in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["search"], ["search", "x", "--limit", "0"], ["jobs", "retry"], ["upload", "there/is/no/such"],
     ["jobs", "list", "--status", "done"], ["jobs", "retry", "x", "--error-code", "Y"]],
)  # fmt: skip
def test_wrong_use_ends_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that cannot be understood is answered with the use, code 2 and no stack trace."""
    assert run(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_without_a_stack_the_way_to_start_one_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with a code and what to do, and exit code 1."""
    assert run(["stats", "--data", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error NOT_RUNNING: ")
    assert "./headrace up" in error
    assert error.count("\n") == 1


async def test_a_stack_that_is_gone_is_noticed(headrace: CommandLine) -> None:
    """A file that a killed stack left behind is not believed."""
    path = headrace.data_dir / "headrace.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"pid": 2**22 - 3}))
    code, _, error = await headrace("stats")
    path.write_text(json.dumps(said))
    assert (code, error.partition(":")[0]) == (1, "error NOT_RUNNING")


async def test_search_prints_passages_with_their_places(headrace: CommandLine) -> None:
    """File, place, score and the words around what was asked."""
    headrace.api.index.hits = [
        a_hit(text="word " * 200 + "The intake gate opens at dawn. " + "word " * 200),
        a_hit("x.md"),
    ]
    code, out, _ = await headrace("search", "when does the intake gate open?")
    assert code == 0
    assert re.search(r"1 acme/handbook\.pdf  page 3 +score 0\.90", out)
    assert "The intake gate opens at dawn." in out
    assert " 2 x.md" in out


async def test_search_as_json_is_the_answer_of_the_api(headrace: CommandLine) -> None:
    """Scripts get what the api says, unbroken by the width of anything."""
    headrace.api.index.hits = [a_hit(text="long " * 300)]
    code, out, _ = await headrace("search", "gate", "--json")
    assert code == 0
    assert json.loads(out)["hits"][0]["label"] == "page 3"


async def test_search_without_a_result_ends_with_one(headrace: CommandLine) -> None:
    """Nothing found is said, and scripts can tell."""
    code, out, _ = await headrace("search", "gate")
    assert (code, out.splitlines()[0]) == (1, "Nothing found. `headrace stats` says how much is indexed.")


async def test_errors_of_the_api_are_one_line(headrace: CommandLine) -> None:
    """Code and sentence of the api's answer arrive in the command line's form."""
    headrace.api.embedder.failure = DependencyUnavailable("The model is away.", code="MODEL_AWAY")
    code, _, error = await headrace("search", "gate")
    assert (code, error) == (1, "error MODEL_AWAY: The model is away.\n")


async def test_jobs_are_listed_with_what_became_of_them(headrace: CommandLine) -> None:
    """Each job is one line: state or error, file, type, size, time, age and id."""
    done = a_job(
        "acme/a.pdf", status=Status.COMPLETED, stage=Stage.COMPLETED, media_type="application/pdf", size_bytes=12_400,
        started_at=NOON, completed_at=NOON + timedelta(seconds=2.5),
    )  # fmt: skip
    put(
        headrace,
        done,
        a_job("acme/b.pdf", **FAILED),
        a_job("acme/c.pdf", status=Status.PROCESSING, stage=Stage.EMBEDDING),
    )
    code, out, _ = await headrace("jobs", "list")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 4
    assert re.match(rf"✓ completed +acme/a\.pdf +PDF +12 kB +2\.5 s .* {done.id}", lines[1])
    assert lines[2].startswith("✗ CORRUPT")
    assert lines[3].startswith("▸ embedding")


async def test_a_long_list_is_fetched_in_pages(headrace: CommandLine) -> None:
    """More jobs than one request gives are listed, each once."""
    put(headrace, *(a_job(f"acme/{number}.txt") for number in range(450)))
    _, out, _ = await headrace("jobs", "list", "--limit", "430", "--json")
    names = [json.loads(line)["file_path"] for line in out.splitlines()]
    assert names == [f"gs://uploads/acme/{number}.txt" for number in range(430)]


async def test_a_job_is_shown_with_its_ledger(headrace: CommandLine) -> None:
    """The end of an id is enough, and each stage has its line."""
    job = a_job(status=Status.COMPLETED, stage=Stage.COMPLETED)
    put(headrace, job)
    headrace.api.directory.ledgers[job.id] = a_ledger(job, *ROAD)
    code, out, _ = await headrace("jobs", "show", str(job.id)[-8:])
    assert code == 0
    assert f"job           {job.id}" in out
    stages = [line.split()[1] for line in out.splitlines() if re.match(r"^ *\d ", line)]
    assert stages == [stage.value for stage in ROAD]
    assert "waited 1.0 s, worked 4.0 s, together 5.0 s" in out


async def test_an_end_that_fits_two_jobs_is_not_guessed(headrace: CommandLine) -> None:
    """Ambiguous, unknown and too short ids are refused with what to do."""
    put(headrace, *(a_job(id=UUID(f"{number:08x}-0000-7000-8000-00000000abcd")) for number in range(2)))
    for text, code in (("abcd", "INVALID_REQUEST"), ("ffffff", "NOT_FOUND"), ("cd", "INVALID_REQUEST")):
        exit_code, _, error = await headrace("jobs", "cancel", text)
        assert (exit_code, error.partition(":")[0]) == (1, f"error {code}")


async def test_watching_a_job_prints_each_move_and_its_end(headrace: CommandLine) -> None:
    """The stream is followed to the end, and the exit code says how it ended."""
    job = a_job(**FAILED)
    put(headrace, job)
    headrace.api.directory.ledgers[job.id] = a_ledger(job, Stage.PENDING, Stage.DOWNLOADING, Stage.FAILED)
    code, out, _ = await headrace("jobs", "watch", str(job.id))
    assert code == 1
    assert [line.split()[1] for line in out.splitlines()[1:4]] == ["pending", "downloading", "failed"]
    assert out.splitlines()[4] == "CORRUPT: It is cut in half."


async def test_watching_a_job_whose_ledger_was_removed_ends(headrace: CommandLine) -> None:
    """There is no move to print any more; the row says how it ended, and why."""
    job = a_job(**FAILED)
    put(headrace, job)
    code, out, _ = await headrace("jobs", "watch", str(job.id))
    assert (code, out.splitlines()[1:]) == (1, ["CORRUPT: It is cut in half."])


async def test_watching_without_a_job_can_end_when_nothing_moves(headrace: CommandLine) -> None:
    """With `--until-idle` the newest jobs are said once each when all have ended."""
    put(headrace, a_job("acme/a.pdf", **FAILED))
    code, out, _ = await headrace("jobs", "watch", "--until-idle")
    assert code == 0
    assert len(out.splitlines()) == 1


async def test_nothing_is_idle_while_an_older_job_waits(headrace: CommandLine) -> None:
    """However many newer ones have ended, and are all that is shown, the watch goes on until none is left."""
    waiting = a_job("acme/waiting.pdf")
    put(headrace, *(a_job(f"acme/{number}.pdf", **FAILED) for number in range(25)), waiting)

    async def moved(**changes: Any) -> None:
        put(headrace, replace(waiting, **changes))

    clock = Timeline(
        {
            10.0: lambda: moved(status=Status.PROCESSING, stage=Stage.EMBEDDING),
            20.0: lambda: moved(status=Status.COMPLETED, stage=Stage.COMPLETED),
        }
    )
    await newest(look.console(StringIO()), headrace.api.address, until_idle=True, clock=clock)
    assert clock.monotonic() == 20.0


async def test_all_jobs_with_one_cause_are_retried_together(headrace: CommandLine) -> None:
    """Every failed job with that code goes back into the queue, and no other one."""
    broken = [a_job(f"acme/{number}.pdf", **FAILED) for number in range(250)]
    other = a_job("acme/other.pdf", **(FAILED | {"error_code": "ENCRYPTED"}))
    put(headrace, *broken, other)
    code, out, _ = await headrace("jobs", "retry", "--error-code", "CORRUPT")
    assert code == 0
    assert len(out.splitlines()) == 250
    assert {headrace.api.directory.jobs[job.id].status for job in broken} == {Status.PENDING}
    assert headrace.api.directory.jobs[other.id].status is Status.FAILED


async def test_one_refusal_does_not_stop_the_others(headrace: CommandLine) -> None:
    """Each job is told by itself; one that cannot be cancelled makes the exit code 1."""
    ended, waiting = a_job(**FAILED), a_job()
    put(headrace, ended, waiting)
    code, out, _ = await headrace("jobs", "cancel", str(ended.id), str(waiting.id))
    assert code == 1
    assert "NOT_CANCELLABLE_STATE" in out.splitlines()[0]
    assert headrace.api.directory.jobs[waiting.id].status is Status.CANCELLED


async def test_stats_are_grouped(headrace: CommandLine) -> None:
    """Index, queue, statuses and causes, with bars and without empty groups."""
    put(headrace, *(a_job(status=Status.COMPLETED, stage=Stage.COMPLETED) for _ in range(3)), a_job(**FAILED))
    code, out, _ = await headrace("stats")
    assert code == 0
    assert "4 documents, 40 passages" in out
    assert re.search(r"completed +3  ━+", out)
    assert re.search(r"CORRUPT +1  ━+", out)


async def test_the_doctor_names_what_is_wrong(headrace: CommandLine) -> None:
    """A running stack is found; each line is a finding with a sign."""
    _, out, _ = await headrace("doctor")
    assert re.search(r"✓ python +3\.", out)
    assert re.search(rf"✓ api +{headrace.api.address} is ready", out)


def test_the_data_directory_comes_from_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEADRACE_DATA is used where no --data is given."""
    monkeypatch.setenv("HEADRACE_DATA", str(tmp_path / "elsewhere"))
    assert run(["stats"]) == 1
    assert "elsewhere" in capsys.readouterr().err


async def test_a_job_of_another_file_is_not_touched_by_show(headrace: CommandLine) -> None:
    """Looking changes nothing."""
    job = a_job(**FAILED)
    put(headrace, job)
    await headrace("jobs", "show", str(job.id), "--json")
    assert headrace.api.directory.jobs[job.id] == replace(job)
