"""The command that breaks everything at random ends with a table full of zeros; the long run is recorded."""

from __future__ import annotations

import asyncio
import sys

import pytest

from shared.local.process import MINIMAL_ENVIRONMENT
from tests.plugins.stack import ROOT

MINUTES = 5


@pytest.mark.slow
async def test_nothing_is_lost_doubled_stuck_or_failed() -> None:
    """Forty files, while services are killed, servers restarted, connections cut, and the model misbehaves."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "benchmarks" / "chaos.py"),
        *("--files", "40", "--seed", "3"),
        stdout=asyncio.subprocess.PIPE,
        env=MINIMAL_ENVIRONMENT | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    async with asyncio.timeout(MINUTES * 60):
        output, _ = await process.communicate()
    table = output.decode()
    assert process.returncode == 0, table
    for figure in ("lost", "doubled", "stuck", "failed for a transient cause"):
        assert f"| **{figure}** | **0** |" in table
    assert "kill -9" in table
