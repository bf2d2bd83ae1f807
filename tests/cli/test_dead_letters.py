"""`headrace dead-letters` in front of a real api on a real database."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.app import run
from cli.commands.dead_letters import moment
from services.address import Address, published
from shared.errors import InvalidRequest
from tests.plugins.road import Road
from tests.services.api.test_dead_letters import Desk
from tests.services.api.test_dead_letters import desk as desk  # noqa: PLC0414 - a fixture of that module

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)


class CommandLine:
    """Runs commands in a thread, as a process of their own would."""

    def __init__(self, desk: Desk, data_dir: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.desk, self.road = desk, desk.road
        self._data_dir, self._capture = data_dir, capture

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run one command; return exit code, stdout and stderr."""
        self._capture.readouterr()
        code = await asyncio.to_thread(run, ["dead-letters", *arguments, "--data", str(self._data_dir)])
        captured = self._capture.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
async def letters(
    desk: Desk, road: Road, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[CommandLine]:
    """Give a command line that finds the api."""
    address = Address(
        pid=os.getpid(), api=desk.address, recover=desk.address, storage="http://127.0.0.1:1", project="p", bucket="b"
    )  # fmt: skip
    with published(address, tmp_path):
        yield CommandLine(desk, tmp_path, capsys)


async def test_failures_are_listed_and_shown(letters: CommandLine) -> None:
    """Open ones unless others are asked for, filtered; one in full by the end of its id."""
    assert (await letters("list"))[1] == "No such dead letters.\n"
    corrupt, _ = [*await letters.desk.fail("a.txt"), *await letters.desk.fail("b.txt", code="ENCRYPTED")]
    code, out, _ = await letters("list", "--code", "CORRUPT", "--since", "1h")
    assert code == 0
    assert "a.txt" in out
    assert "b.txt" not in out
    assert len([json.loads(line) for line in (await letters("list", "--json"))[1].splitlines()]) == 2
    assert (await letters("list", "--state", "resolved"))[1] == "No such dead letters.\n"
    code, out, _ = await letters("show", corrupt[-8:])
    assert code == 0
    assert "CORRUPT: it is broken." in out
    code, _, error = await letters("show", "ffff")
    assert (code, error.partition(":")[0]) == (1, "error NOT_FOUND")


async def test_causes_are_counted_noted_and_replayed(letters: CommandLine) -> None:
    """The way of an operator: what is it, a note, a dry run, a replay, and what became of it."""
    await letters.desk.fail("a.txt", "b.txt")
    assert "CORRUPT" in (await letters("groups"))[1]
    assert "Lyon" in (await letters("groups", "--code", "CORRUPT", "--stage", "embedding", "--note", "Lyon"))[1]
    cause = ("--code", "CORRUPT", "--stage", "embedding")
    assert (await letters("replay", *cause, "--dry-run"))[1] == "2 letters would be replayed.\n"
    code, out, _ = await letters("replay", *cause)
    assert code == 0
    assert "running" in out
    assert await letters.road.work_off() == 2
    code, out, _ = await letters("replay", *cause)
    assert (code, out) == (1, "Nothing to replay.\n")
    batch = json.loads((await letters("batches", "--json"))[1])
    assert (batch["total"], batch["resolved"]) == (2, 2)
    assert "stopped by" in (await letters("batches", "--stop", batch["id"][-8:]))[1]


async def test_letters_are_discarded_by_their_ids(letters: CommandLine) -> None:
    """Only those that are named, with a reason."""
    first, second = await letters.desk.fail("a.txt", "b.txt")
    assert (await letters("discard", first[-8:], "--reason", "a test"))[1] == "1 letter discarded.\n"
    rows = await letters.road.fetch("select id::text, state from dead_letters")
    assert {row["id"]: row["state"] for row in rows} == {first: "discarded", second: "open"}


async def test_no_selection_is_not_everything(letters: CommandLine) -> None:
    """Replay and discard without saying what are refused; a note without its cause is wrong use."""
    assert (await letters("replay"))[2].startswith("error INVALID_REQUEST")
    assert (await letters("discard", "--reason", "why"))[2].startswith("error INVALID_REQUEST")
    assert (await letters("groups", "--note", "why"))[0] == 2


def test_times_are_said_as_people_say_them() -> None:
    """Minutes, hours and days ago, or a date; anything else is refused."""
    assert [moment(text, NOW).isoformat() for text in ("30m", "12h", "7d", "2026-01-02", "2026-01-02T03:04Z")] == [
        "2026-01-10T11:30:00+00:00",
        "2026-01-10T00:00:00+00:00",
        "2026-01-03T12:00:00+00:00",
        "2026-01-02T00:00:00+00:00",
        "2026-01-02T03:04:00+00:00",
    ]
    with pytest.raises(InvalidRequest):
        moment("yesterday", NOW)
