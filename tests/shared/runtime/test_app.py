"""A service from start to end: in a block, and as a process of its own."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from shared.errors import ConfigurationError, DependencyUnavailable
from shared.runtime.app import Service, running
from shared.runtime.health import PING_TIMEOUT_SECONDS, Ping
from shared.settings import CommonSettings, environment, load
from shared.telemetry import instruments
from shared.telemetry.metrics import Metrics

PATIENCE_SECONDS = 20.0
VARIABLES = {
    "DATABASE_URL": "postgresql://user:hunter2@host/name",
    "GOOGLE_CLOUD_PROJECT_ID": "proj",
    "BUCKET": "bucket",
}
ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings() -> CommonSettings:
    """Settings of a service that takes a free port."""
    return load(CommonSettings, VARIABLES)


@asynccontextmanager
async def _got(url: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        yield answer


async def test_health_and_metrics_are_served(settings: CommonSettings) -> None:
    """Every service answers the three routes, with its own pings and counts, next to its own routes."""

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def fine() -> None:
        return None

    application = web.Application()
    application.router.add_get("/", hello)
    async with Metrics("test") as metrics:
        metrics.add(instruments.RETRIES, reason="failure")
        service = Service(name="test", application=application, ready=[Ping("postgres", fine)], metrics=metrics)
        async with running(service, settings) as address:
            async with _got(f"{address}/") as answer:
                assert await answer.text() == "hello"
            async with _got(f"{address}/livez") as answer:
                assert answer.status == 200
            async with _got(f"{address}/readyz") as answer:
                assert await answer.json() == {"status": "ok", "checked": ["postgres"]}
            async with _got(f"{address}/metrics") as answer:
                assert 'headrace_retries_total{reason="failure"} 1.0' in await answer.text()
                assert answer.headers["Content-Type"].startswith("text/plain")


async def test_readiness_names_what_failed(settings: CommonSettings) -> None:
    """Pings run side by side within a bound; who fails or hangs is named by its code, without details."""

    async def fine() -> None:
        return None

    async def away() -> None:
        raise DependencyUnavailable("host 10.0.0.1 refused")

    async def broken() -> None:
        raise KeyError("hunter2")

    async def hangs() -> None:
        await asyncio.Event().wait()

    pings = [Ping("a", fine), Ping("b", away), Ping("c", broken), Ping("d", hangs), Ping("e", hangs)]
    async with running(Service(name="test", ready=pings), settings) as address:
        async with asyncio.timeout(2 * PING_TIMEOUT_SECONDS - 0.1), _got(f"{address}/readyz") as answer:
            body = await answer.json(content_type="application/problem+json")
        async with _got(f"{address}/livez") as alive:
            assert alive.status == 200
    assert answer.status == 503
    assert body["failed"] == {"b": "DEPENDENCY_UNAVAILABLE", "c": "INTERNAL", "d": "TIMEOUT", "e": "TIMEOUT"}
    assert "10.0.0.1" not in json.dumps(body)


async def test_leaving_stops_in_order(settings: CommonSettings) -> None:
    """At the end: take nothing more, let the loops finish their work, and only then go on."""
    said: list[str] = []
    stopping = asyncio.Event()

    async def loop() -> None:
        await stopping.wait()
        said.append("loop ends")

    async def stop() -> None:
        said.append("stop")
        stopping.set()

    async with running(Service(name="test", loops=[loop], on_stop=[stop]), settings):
        said.append("body")
    assert said == ["body", "stop", "loop ends"]


async def test_requests_in_flight_are_answered(settings: CommonSettings) -> None:
    """A request that came before the stop is answered; one that comes after it is refused."""
    begun, stopping = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        begun.set()
        await stopping.wait()
        return web.Response(text="done")

    async def stop() -> None:
        with pytest.raises(aiohttp.ClientConnectorError):
            async with _got(f"{address}/livez"):
                pass
        stopping.set()

    application = web.Application()
    application.router.add_get("/", slow)

    async def ask(url: str) -> str:
        async with _got(url) as answer:
            return await answer.text()

    async with running(Service(name="test", application=application, on_stop=[stop]), settings) as address:
        asking = asyncio.create_task(ask(address))
        await begun.wait()
    assert await asking == "done"


async def test_drain_is_bounded(settings: CommonSettings) -> None:
    """A loop that does not end in time is cancelled."""
    cancelled = asyncio.Event()

    async def loop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with asyncio.timeout(PATIENCE_SECONDS):
        async with running(Service(name="test", loops=[loop]), settings, drain_seconds=0.05):
            await asyncio.sleep(0)
    assert cancelled.is_set()


async def test_failing_loop_ends_the_block(settings: CommonSettings) -> None:
    """A loop that raises takes its siblings and the block with it: half a service is none."""
    ended = asyncio.Event()

    async def fails() -> None:
        raise DependencyUnavailable

    async def sibling() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def serve() -> None:
        async with running(Service(name="test", loops=[fails, sibling]), settings, drain_seconds=0.1):
            await asyncio.Event().wait()

    with pytest.raises(BaseExceptionGroup) as caught:
        await asyncio.wait_for(serve(), PATIENCE_SECONDS)
    assert caught.group_contains(DependencyUnavailable)
    assert ended.is_set()


async def test_taken_port_is_a_matter_of_settings(settings: CommonSettings) -> None:
    """A port that is taken is said in a sentence that names the setting."""
    async with running(Service(name="one"), settings) as address:
        taken = load(CommonSettings, VARIABLES | {"PORT": address.rsplit(":", 1)[1]})
        with pytest.raises(ConfigurationError, match="PORT"):
            async with running(Service(name="two"), taken):
                pass


PROGRAM = """
import asyncio, sys
from shared.errors import AuthenticationError, DependencyUnavailable
from shared.runtime.app import Service, run, telemetry
from shared.settings import CommonSettings

async def build(settings, stack):
    if "unbuildable" in sys.argv:
        raise AuthenticationError("Postgres refused the login.", code="DATABASE_LOGIN_REFUSED")
    if "away" in sys.argv:
        raise DependencyUnavailable("The database does not answer.")
    tracing, metrics = await stack.enter_async_context(telemetry("x", settings))
    stopping = asyncio.Event()

    async def loop():
        if "fails" in sys.argv:
            raise RuntimeError("boom")
        await stopping.wait()
        if "stubborn" in sys.argv:
            await asyncio.Event().wait()

    async def stop():
        stopping.set()

    stack.callback(lambda: sys.stdout.write("closed\\n"))
    return Service(name="x", loops=[loop], on_stop=[stop], metrics=metrics)

run(build, CommonSettings)
"""


class Process:
    """A service in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, message: str) -> dict[str, Any]:
        """Return the next log line with this message."""
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            entry = json.loads(line)
            if entry["message"] == message:
                return dict(entry)
        raise AssertionError(f"ended without saying {message}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def end(self) -> tuple[int, str, str]:
        """Wait for the end; return exit code, output and errors."""
        out, err = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def _process(*arguments: str, variables: dict[str, str] = VARIABLES) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *arguments,
        env={**environment(), "PYTHONPATH": str(ROOT), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS * 2):
            yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_with_zero(number: signal.Signals) -> None:
    """A process that is asked to stop drains, closes what it opened, and exits 0."""
    async with _process() as process:
        started = await process.line("service.started")
        assert started["address"].startswith("http://127.0.0.1:")
        process.signal(number)
        code, out, err = await process.end()
    assert (code, out) == (0, "closed\n")
    assert '"service.stopped"' in err


async def test_second_signal_ends_at_once() -> None:
    """Who asks twice does not wait for the drain."""
    async with _process("stubborn") as process:
        await process.line("service.started")
        process.signal(signal.SIGTERM)
        await process.line("service.stopping")
        process.signal(signal.SIGTERM)
        code, out, _ = await process.end()
    assert (code, out) == (128 + signal.SIGTERM, "")


async def test_failing_loop_ends_with_one() -> None:
    """A process whose loop failed closes what it opened, says why, and exits 1, so that it is started again."""
    async with _process("fails") as process:
        failed = await process.line("service.failed")
        code, out, _ = await process.end()
    assert (code, out) == (1, "closed\n")
    assert failed["error_codes"] == ["INTERNAL"]
    assert "boom" in failed["stack_trace"]


async def test_unbuildable_ends_with_one() -> None:
    """A failure at the start that waiting cannot mend is one line, not a stack trace."""
    async with _process("unbuildable") as process:
        failed = await process.line("service.failed")
        code, _, _ = await process.end()
    assert code == 1
    assert (failed["error_code"], failed["error"]) == ("DATABASE_LOGIN_REFUSED", "Postgres refused the login.")
    assert "stack_trace" not in failed


async def test_what_is_away_at_the_start_is_waited_for() -> None:
    """It is live and not ready meanwhile, says why in one line for each attempt, and ends with 0 when told to."""
    async with _process("away") as process:
        listening = await process.line("service.listening")
        waiting = await process.line("service.waiting")
        async with _got(f"{listening['address']}/livez") as answer:
            assert answer.status == 200
        async with _got(f"{listening['address']}/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["failed"] == {"start": "DEPENDENCY_UNAVAILABLE"}
        async with _got(f"{listening['address']}/anything/else") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        await process.line("service.waiting")
        process.signal(signal.SIGTERM)
        code, _, _ = await process.end()
    assert (code, waiting["error"]) == (0, "The database does not answer.")
    assert "stack_trace" not in waiting


async def test_wrong_settings_are_all_named() -> None:
    """Wrong settings end with 2 and one message that names each variable and shows no value."""
    async with _process(variables={**VARIABLES, "BUCKET": "", "PORT": "hunter2"}) as process:
        code, out, err = await process.end()
    assert (code, out) == (2, "")
    assert "BUCKET" in err
    assert "PORT" in err
    assert "hunter2" not in err
    assert "Traceback" not in err
