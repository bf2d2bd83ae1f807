"""A service that is started while something is away: what it waits for, how long, and what ends the wait."""

from __future__ import annotations

import asyncio

import pytest

from shared.clock import SystemClock
from shared.errors import AuthenticationError, ConfigurationError, DependencyUnavailable
from shared.runtime.opening import WAITS_SECONDS, when_possible
from shared.settings import CommonSettings, load

PATIENCE_SECONDS = 20.0


class ImpatientClock(SystemClock):
    """Notes every wait and takes no time for it."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Let others have a turn."""
        self.waits.append(seconds)
        await asyncio.sleep(0)


class Start:
    """Attempts that fail in turn with what they are given, and then succeed."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> str:
        """Fail, or be there."""
        if self.errors:
            raise self.errors.pop(0)
        return "there"


@pytest.fixture
def settings() -> CommonSettings:
    """Settings of a service that takes a free port."""
    return load(
        CommonSettings,
        {"DATABASE_URL": "postgresql://user@host/name", "GOOGLE_CLOUD_PROJECT_ID": "proj", "BUCKET": "bucket"},
    )


async def test_waits_grow_to_a_bound_and_never_end(settings: CommonSettings) -> None:
    """Thirty failed attempts are no reason to give up, and none is waited for longer than the bound."""
    clock, start = ImpatientClock(), Start(*(DependencyUnavailable() for _ in range(30)))
    assert await when_possible(start, settings, stopping=asyncio.Event(), clock=clock) == "there"
    assert clock.waits == [*WAITS_SECONDS, *[WAITS_SECONDS[-1]] * (30 - len(WAITS_SECONDS))]


@pytest.mark.parametrize("error", [ConfigurationError("wrong"), AuthenticationError("refused"), KeyError("a bug")])
async def test_what_waiting_cannot_mend_comes_out_at_once(settings: CommonSettings, error: Exception) -> None:
    """Wrong settings, refused credentials and bugs end the process, so that somebody sees them."""
    clock = ImpatientClock()
    with pytest.raises(type(error)):
        await when_possible(Start(error), settings, stopping=asyncio.Event(), clock=clock)
    assert clock.waits == []


async def test_a_stop_ends_the_wait(settings: CommonSettings) -> None:
    """SIGTERM while nothing is there yet: no further attempt, and nothing to drain."""
    stopping, failed = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        failed.set()
        raise DependencyUnavailable

    waiting = asyncio.create_task(when_possible(fail, settings, stopping=stopping, clock=SystemClock()))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await failed.wait()
        stopping.set()
        assert await waiting is None
