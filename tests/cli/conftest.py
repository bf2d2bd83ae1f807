"""A command line in front of a real api, whose ports are small stand-ins."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.app import run
from services.address import Address, published
from tests.plugins.clock import ManualClock
from tests.services.api.conftest import ApiUnderTest, api_under_test
from tests.services.api.fakes import NOON


@dataclass
class CommandLine:
    """Runs commands in a thread, as a process of their own would: with an event loop of their own."""

    api: ApiUnderTest
    data_dir: Path
    capture: pytest.CaptureFixture[str]

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run one command line; return exit code, stdout and stderr."""
        self.capture.readouterr()
        code = await asyncio.to_thread(run, [*arguments, "--data", str(self.data_dir)])
        captured = self.capture.readouterr()
        return code, captured.out, captured.err


class Timeline(ManualClock):
    """Moves on while somebody sleeps; what is to happen by then happens first."""

    def __init__(self, happens: dict[float, Callable[[], Awaitable[object]]] | None = None) -> None:
        super().__init__(NOON)
        self._happens = dict(happens or {})

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        for at_seconds in [at for at in self._happens if at <= self.monotonic()]:
            await self._happens.pop(at_seconds)()


@pytest.fixture
async def headrace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[CommandLine]:
    """Give a command line that finds a running api."""
    async with api_under_test() as api:
        address = Address(
            pid=os.getpid(), api=api.address, recover=api.address, storage="http://127.0.0.1:1", project="p", bucket="b"
        )
        with published(address, tmp_path):
            yield CommandLine(api, tmp_path, capsys)
