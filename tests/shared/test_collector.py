"""The garbage collector rests while a service is put together, and no longer."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from shared.local.process import MINIMAL_ENVIRONMENT
from tests.plugins.stack import ROOT

LAZY = ("requests", "grpc", "cryptography", "google.cloud.storage", "google.auth.jwt", "opentelemetry.exporter.otlp")
"""What is only imported where it is used, and together costs more than a third of a start."""

SERVICE = """
import gc
from shared.collector import pause
pause()
import asyncio, sys
from shared.errors import DependencyUnavailable
from shared.runtime import app
from shared.settings import CommonSettings

async def build(settings, stack):
    print("built", gc.isenabled(), gc.get_freeze_count() > 0)
    if "away" in sys.argv:
        raise DependencyUnavailable("The database does not answer.")
    return app.Service(name="x", loops=[loop])

async def loop():
    print("serving", gc.isenabled(), gc.get_freeze_count() > 0, flush=True)
    raise SystemExit

async def waiting(attempt, *_, **__):
    try:
        await attempt()
    except DependencyUnavailable:
        await loop()

if "away" in sys.argv:
    app.when_possible = waiting
app.run(build, CommonSettings)
"""


async def _output(code: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *arguments),
        env={name: os.environ[name] for name in MINIMAL_ENVIRONMENT if name in os.environ}
        | {"PYTHONPATH": str(ROOT), "DATABASE_URL": "postgresql://u@h/d", "BUCKET": "uploads"}
        | {"GOOGLE_CLOUD_PROJECT_ID": "project"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return (await process.communicate())[0].decode()


@pytest.mark.parametrize("arguments", [(), ("away",)], ids=["built", "not built yet"])
async def test_it_rests_until_the_service_is_built(arguments: tuple[str, ...]) -> None:
    """Off while the service is opened; on, without what was made by then, when it serves or waits for its database."""
    said = (await _output(SERVICE, *arguments)).splitlines()
    assert said == ["built False False", "serving True True"]


@pytest.mark.parametrize("service", ["api", "ingest", "process", "recover"])
def test_it_rests_before_anything_else_is_imported(service: str) -> None:
    """An entry point pauses it first: what an import of the module alone brings in is next to nothing."""
    lines = (ROOT / "services" / service / "__main__.py").read_text().splitlines()
    first = next(line for line in lines if line.startswith(("from services", "    from services", "    pause()")))
    assert first == "    pause()"


@pytest.mark.parametrize("service", ["api", "ingest", "process", "recover"])
async def test_a_service_imports_no_client_before_it_is_used(service: str) -> None:
    """The bucket's client, what verifies tokens and the exporters are not there when a service is imported."""
    modules = f"services.{service}.app, services.{service}.settings, shared.runtime.app"
    found = await _output(f"import sys, {modules}; print(sorted(set(sys.modules) & set({LAZY})))")
    assert found == "[]\n"
