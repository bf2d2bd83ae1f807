"""How long a service takes from nothing to its first answer, and in how much memory: each from its own image's steps.

    ./headrace dev python benchmarks/cold_start.py [--rounds 5] [--keep FOLDER] [--out FILE]

The Dockerfile's steps are acted out in a folder (`tests/plugins/images.py`; `--keep` keeps it for the next time), so a
service has only its own extra, and bytecode that was compiled beforehand. Then each is started `--rounds` times on the
embedded servers. Wall-clock time and processor time are both told: on a busy machine only the second says much.
Nothing here is a test, and no time is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, mkdtemp

import psutil
from road import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared.local.process import free_port
from shared.local.stack import LocalStack
from shared.postgres.migrate import migrate
from tests.plugins.images import TARGETS, Image, build

SERVICES = [target for target in TARGETS if target != "migrate"]
PATIENCE_SECONDS = 60.0
MODEL = {"EMBEDDER": "gemini", "GEMINI_API_KEY": "none", "GEMINI_BASE_URL": "http://127.0.0.1:9"}
GOAL_SECONDS, GOAL_MB = 1.0, 150.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds since exec, processor seconds until then, and resident memory when ready."""

    livez: float
    readyz: float
    cpu_livez: float
    cpu_readyz: float
    megabytes: float


def start(image: Image, environment: Mapping[str, str]) -> Start:
    """Start a service, wait until it lives and is ready, and end it."""
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        image.command(),
        env=image.environment({**environment, "PORT": str(port)}),
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        seen = psutil.Process(process.pid)
        livez = _answers(process, port, "/livez") - began
        cpu_livez = sum(seen.cpu_times()[:2])
        readyz = _answers(process, port, "/readyz") - began
        return Start(livez, readyz, cpu_livez, sum(seen.cpu_times()[:2]), seen.memory_info().rss / 1e6)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_SECONDS)


def _answers(process: subprocess.Popen[bytes], port: int, path: str) -> float:
    while process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        with suppress(OSError, HTTPException):
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                connection.close()
                return time.perf_counter()
        connection.close()
        time.sleep(0.002)
    raise RuntimeError(f"{process.args} ended with {process.returncode}")


def imports(image: Image) -> tuple[float, list[tuple[str, float]]]:
    """Return the seconds that importing the service takes, and what of it each package takes itself, largest first."""
    module = f"services.{image.target}"
    code = (
        f"import time; began = time.perf_counter(); import {module}.app, {module}.settings, shared.runtime.app; "
        "print(time.perf_counter() - began)"
    )

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            image.command("python", *options, "-c", code),
            env=image.environment({}),
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )

    total = min(float(run().stdout) for _ in range(3))
    packages: dict[str, float] = {}
    for line in run("-X", "importtime").stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            package = _package(name.strip())
            packages[package] = packages.get(package, 0.0) + int(own) / 1e6
    return total, sorted(packages.items(), key=lambda entry: -entry[1])


def _package(module: str) -> str:
    parts = module.split(".")
    if parts[0].lstrip("_") in sys.stdlib_module_names or parts[0] in sys.stdlib_module_names:
        return "(standard library)"
    return ".".join(parts[: 3 if parts[:2] == ["google", "cloud"] else 2 if parts[0] == "google" else 1])


async def measured(images: Mapping[str, Image], rounds: int) -> dict[str, list[Start]]:
    """Start each service `rounds` times, in turns."""
    found: dict[str, list[Start]] = {service: [] for service in images}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="headrace-cold-")))
        folder.chmod(0o711)  # noqa: ASYNC240 - nothing runs yet
        servers = await stack.enter_async_context(LocalStack(folder / "data", durable=False))
        await migrate(servers.environment()["DATABASE_URL"])
        said = servers.environment() | MODEL
        said |= {"HTTP_HOST": "127.0.0.1", "DEFAULT_ORGANIZATION_ID": "default", "TMPDIR": str(folder)}
        for turn in range(rounds + 1):
            for service, image in images.items():
                once = await asyncio.to_thread(start, image, said)
                if turn:  # the first reads the disk
                    found[service].append(once)
    return found


def report(found: Mapping[str, list[Start]], loaded: Mapping[str, tuple[float, list[tuple[str, float]]]]) -> str:
    """Return the figures as Markdown."""
    rounds = len(next(iter(found.values())))
    lines = [
        f"`benchmarks/cold_start.py --rounds {rounds}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}\n",
        "Medians (least to most). Seconds count from exec; the database, the bucket and the broker are up.",
        f"The goal for api, ingest and recover: /livez within {GOAL_SECONDS:g} s, under {GOAL_MB:g} MB.\n",
        "| service | to /livez, s | to /readyz, s | processor time to each, s | imports, s | resident, MB | goal |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for service, starts in found.items():

        def shown(value: Callable[[Start], float], digits: int, starts: list[Start] = starts) -> str:
            values = sorted(map(value, starts))
            return f"{median(values):.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"

        kept = median(s.livez for s in starts) < GOAL_SECONDS and max(s.megabytes for s in starts) < GOAL_MB
        columns = (
            service,
            shown(lambda s: s.livez, 2),
            shown(lambda s: s.readyz, 2),
            f"{median(s.cpu_livez for s in starts):.2f}, {median(s.cpu_readyz for s in starts):.2f}",
            f"{loaded[service][0]:.2f}",
            shown(lambda s: s.megabytes, 0),
            "kept" if kept else "missed",
        )
        lines.append(f"| {' | '.join(columns)} |")
    names = sorted(
        {name for _, packages in loaded.values() for name, _ in packages[:12]},
        key=lambda name: -max(dict(packages).get(name, 0.0) for _, packages in loaded.values()),
    )
    lines += [
        "\n## What the imports are\n",
        "Milliseconds that each package's own modules take (`python -X importtime`, one run, which itself costs about",
        "a third more), the largest of any service.\n",
        "| package | " + " | ".join(found) + " |",
        "|---|" + "--:|" * len(found),
    ]
    for name in names[:16]:
        own = (dict(packages).get(name, 0.0) * 1000 for _, packages in (loaded[service] for service in found))
        lines.append(f"| {name} | " + " | ".join(f"{value:.0f}" if value else "" for value in own) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the images or take those that were kept, measure, and print."""
    parser = argparse.ArgumentParser(description="Cold start and memory of each service from its own image.")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each service (default: 5)")
    parser.add_argument("--keep", type=Path, help="make the images here, or take those that are there")
    parser.add_argument("--out", type=Path, help="also write the report here")
    asked = parser.parse_args()
    folder = asked.keep or Path(mkdtemp(prefix="headrace-images-"))
    try:
        images = {
            service: Image(service, folder / service) if (folder / service).exists() else build(service, folder)
            for service in SERVICES
        }
        loaded = {service: imports(image) for service, image in images.items()}
        text = report(asyncio.run(measured(images, asked.rounds)), loaded)
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(text)
    if asked.out:
        asked.out.write_text("# Cold start\n\n" + text)


if __name__ == "__main__":
    main()
