"""The images run: their steps acted out in folders, and the road of a file on nothing but those folders."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from shared.local.cluster import reachable, unprivileged_owner
from shared.local.confine import writes_only_below
from shared.local.process import ChildProcess
from tests.plugins.images import TARGETS, Image, build, last
from tests.plugins.model_server import model_server
from tests.plugins.stack import Site, eventually

pytestmark = [pytest.mark.slow]

SERVICES = tuple(target for target in TARGETS if target != "migrate")
NO_INDEX = ("No matching distribution", "Could not find a version", "connection broken", "Temporary failure")


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, Image]]:
    """Make every image, writable by nobody."""
    with TemporaryDirectory(prefix="headrace-images-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        try:
            made = {target: build(target, folder) for target in TARGETS}
        except subprocess.CalledProcessError as error:
            if any(sign in error.stderr for sign in NO_INDEX):
                pytest.skip(f"SKIPPED, IMAGES ARE NOT TESTED: pip gets no packages here: {error.stderr[-300:]}")
            raise AssertionError(f"{error.cmd}: {error.output}{error.stderr}") from None
        _writable(folder, False)
        yield made
        _writable(folder, True)


def _writable(folder: Path, yes: bool) -> None:
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o755 if yes else 0o555)


def _files(image: Image) -> set[str]:
    return {str(path) for path in image.root.rglob("*")}


def _environment(image: Image, site: Site, **said: object) -> dict[str, str]:
    """Return a container's environment, listening on this machine only."""
    return image.environment(site.environment(said) | {"TMPDIR": str(site.folder / "tmp"), "LOG_FORMAT": "json"})


@asynccontextmanager
async def _running(image: Image, site: Site, **said: object) -> AsyncIterator[tuple[ChildProcess, str]]:
    """Run an image's command on a file system of which only the temporary folder can be written, as a user without
    rights where that one can reach our Python; yields the process and its address.
    """
    nobody = unprivileged_owner()
    child = ChildProcess(
        image.target,
        image.command(),
        log_path=site.folder / f"image-{image.target}.log",
        ready=_has_started,
        env=_environment(image, site, **said),
        owner=nobody if reachable(image.root / "venv" / "bin" / "python", nobody) else None,
        confine=writes_only_below([site.folder / "tmp", Path("/dev")]),
        stop=((15, 20.0),),
    )
    async with child:
        address = re.search(r'service\.started.*?(http://[^"\s]+)', child.log_path.read_text())
        assert address is not None
        yield child, address[1]


async def _answers(http: aiohttp.ClientSession, address: str) -> bool:
    async with http.get(address) as answer:
        return answer.status == 200


async def _has_started(child: ChildProcess) -> bool:
    return "service.started" in child.log_path.read_text()


def _say(image: Image, *code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        image.command("python", *code),
        env=image.environment({}),
        cwd=image.root / "app",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_everything_it_imports_is_in_the_image(images: dict[str, Image], target: str) -> None:
    """Each copied module that the process can reach imports, from compiled files, with nothing of the repository."""
    image = images[target]
    roots = ["shared.postgres.migrate"] if target == "migrate" else [f"services.{target}.app"]
    done = _say(
        image,
        "-c",
        f"import {', '.join(roots)}, sys, json; from pathlib import Path\n"
        "ours = {n: m for n, m in sys.modules.items() if n.split('.')[0] in ('shared', 'services')}\n"
        "print(json.dumps([[m.__file__ for m in ours.values()], [m.__cached__ for m in ours.values()],"
        " sorted({n.split('.')[0] for n in sys.modules})]))",
    )
    assert done.returncode == 0, done.stderr
    files, compiled, loaded = json.loads(done.stdout)
    assert all(file.startswith(f"{image.root}/app/") for file in files)
    assert [file for file in compiled if not Path(file).exists()] == []
    assert not {"pytest", "pip", "typer", "onnxruntime"} & set(loaded)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_installed_fits_together(images: dict[str, Image], target: str) -> None:
    """No package in the image misses another one, and pip itself is not there."""
    done = subprocess.run(
        [shutil.which("python3") or "python3", "-m", "pip", "--python", *images[target].command("python"), "check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert _say(images[target], "-c", "import pip").returncode == 1


async def test_a_file_takes_the_whole_road_on_the_images(images: dict[str, Image], site: Site) -> None:
    """Four services and the migration, each from its own image, without HOME, rights or a writable file of their own:
    an upload is indexed and found, and nothing was written into an image.
    """
    temporary = site.folder / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    before = {target: _files(image) for target, image in images.items()}
    migrated = await asyncio.create_subprocess_exec(
        *images["migrate"].command(), env=_environment(images["migrate"], site), cwd="/"
    )
    async with asyncio.timeout(60):
        assert await migrated.wait() == 0
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(model_server())
        running = {
            target: await stack.enter_async_context(_running(images[target], site, **model.environment()))
            for target in SERVICES
        }
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for _, address in running.values():
            assert await _answers(http, f"{address}/livez")
            await eventually(partial(_answers, http, f"{address}/readyz"))
        await site.upload("note.txt", b"The intake gate closes in seventy-five seconds.")
        (job,) = await site.ended("note.txt")
        assert job["status"] == "completed"
        async with http.post(running["recover"][1] + "/") as answer:
            assert (await answer.json())["ok"] is True

        async def found() -> bool:
            body = {"query": "When does the intake gate close?"}
            async with http.post(running["api"][1] + "/api/v1/search", json=body) as answer:
                return "intake gate" in await answer.text()

        assert await eventually(found)
    assert {target: child.returncode for target, (child, _) in running.items()} == dict.fromkeys(SERVICES, 0)
    assert [target for target, image in images.items() if _files(image) != before[target]] == []
    assert list(temporary.iterdir()) == []


async def test_the_health_check_tells_alive_from_dead(images: dict[str, Image], site: Site) -> None:
    """The command of HEALTHCHECK ends with 0 while the service answers, and with another code when nobody does."""
    image = images["ingest"]
    (site.folder / "tmp").mkdir()
    (site.folder / "tmp").chmod(0o777)

    async def check(port: str) -> int:
        process = await asyncio.create_subprocess_exec(
            *image.command(*last("ingest", "HEALTHCHECK").words),
            env=image.environment({"PORT": port}),
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait()

    async with _running(image, site) as (_, address):
        assert await check(address.rpartition(":")[2]) == 0
    assert await check(address.rpartition(":")[2]) == 1
