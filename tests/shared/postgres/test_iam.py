"""Access tokens as passwords, with a metadata server of our own and a Postgres that checks them."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from shared.local.process import MINIMAL_ENVIRONMENT
from shared.postgres.iam import SCOPE
from tests.plugins.postgres import PostgresServer
from tests.plugins.stack import ROOT

Ask = Callable[[str], Awaitable[dict[str, Any]]]


class Metadata:
    """What Cloud Run has at 169.254.169.254: tells the account and gives tokens."""

    def __init__(self) -> None:
        self.token, self.good_for_seconds, self.status = "", 3600, 200
        self.asked: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Listen for the block; yields host and port."""
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        headers = {"Metadata-Flavor": "Google"}
        if request.path.endswith("/token"):
            self.asked.append(request.query.get("scopes", ""))
            token = {"access_token": self.token, "expires_in": self.good_for_seconds, "token_type": "Bearer"}
            return web.json_response(token, headers=headers, status=self.status)
        if request.path.endswith("/project-id"):
            return web.Response(text="project", headers=headers)
        if request.path.endswith("/universe-domain"):
            return web.Response(text="googleapis.com", headers=headers)
        if "service-accounts" in request.path:
            account = {
                "email": "headrace-api@project.iam.gserviceaccount.com",
                "scopes": [SCOPE],
                "aliases": ["default"],
            }
            return web.json_response(account, headers=headers)
        return web.Response(text="", headers=headers)


class Login:
    """A database user whose password is checked."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self._server, self.name = server, name

    async def execute(self, statement: str) -> Any:
        """Run a statement as the superuser."""
        connection = await asyncpg.connect(self._server.server.dsn("postgres", "postgres"))
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def takes(self, password: str) -> None:
        """Give the user another password, as if Cloud SQL took another token from now on."""
        await self.execute(f"""alter role "{self.name}" password '{password}'""")


@pytest.fixture
def login(postgres_server: PostgresServer) -> Iterator[Login]:
    """Give a user whom this worker's cluster asks for a password."""
    made = Login(postgres_server, f"headrace-api-{uuid.uuid4().hex[:8]}@project.iam")
    postgres_server.run(made.execute(f'create role "{made.name}" login'))
    rules = Path(postgres_server.run(made.execute("show hba_file")))
    before = rules.read_text()
    rules.write_text(f'local all "{made.name}" scram-sha-256\n{before}')
    postgres_server.run(made.execute("select pg_reload_conf()"))
    yield made
    rules.write_text(before)
    postgres_server.run(made.execute("select pg_reload_conf()"))
    postgres_server.run(made.execute(f'drop role "{made.name}"'))


@asynccontextmanager
async def session(dsn: str, **environment: str) -> AsyncIterator[Ask]:
    """Start a process that logs in with tokens; yields how to tell it something and hear its answer."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("iam_session.py")),
        dsn,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=MINIMAL_ENVIRONMENT | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        cwd="/",
    )
    assert process.stdin is not None
    assert process.stdout is not None

    async def ask(line: str) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(60):
            answer: dict[str, Any] = json.loads(await process.stdout.readline())
        return answer

    try:
        yield ask
    finally:
        process.stdin.close()
        async with asyncio.timeout(60):
            await process.communicate()


async def test_new_connections_take_the_new_token(
    postgres_server: PostgresServer, migrated_template: str, login: Login
) -> None:
    """When the token changes, connections that are open go on, and those that are made next log in with the new one."""
    metadata = Metadata()
    metadata.token, metadata.good_for_seconds = "ya29.first", 60  # shortly before its end: asked for again each time
    await login.takes("ya29.first")
    dsn = postgres_server.server.dsn(migrated_template, login.name.replace("@", "%40"))
    async with metadata.running() as host, session(dsn, GCE_METADATA_HOST=host, GCE_METADATA_IP=host) as ask:
        assert await ask("open 1") == {"users": [login.name]}
        metadata.token, metadata.good_for_seconds = "ya29.second", 3600
        await login.takes("ya29.second")
        assert await ask("open 1") == {"users": [login.name] * 2}
        asked = len(metadata.asked)
        # The pool had one connection from the start; the token that is good for an hour is asked for once.
        assert await ask("open 4") == {"users": [login.name] * 6}
        assert len(metadata.asked) == asked
        assert set(metadata.asked) == {SCOPE}


async def test_many_connections_ask_for_one_token(
    postgres_server: PostgresServer, migrated_template: str, login: Login
) -> None:
    """Connections that are made at the same moment share one request."""
    metadata = Metadata()
    metadata.token = "ya29.only"
    await login.takes("ya29.only")
    dsn = postgres_server.server.dsn(migrated_template, login.name.replace("@", "%40"))
    async with metadata.running() as host, session(dsn, GCE_METADATA_HOST=host, GCE_METADATA_IP=host) as ask:
        assert await ask("open 8") == {"users": [login.name] * 8}
        assert len(metadata.asked) == 1


async def test_refusals_are_told_apart(postgres_server: PostgresServer, migrated_template: str, login: Login) -> None:
    """A token that Postgres refuses, a metadata server that fails, and no credentials at all are three errors."""
    metadata = Metadata()
    metadata.token = "ya29.of-somebody-else"
    await login.takes("ya29.mine")
    dsn = postgres_server.server.dsn(migrated_template, login.name.replace("@", "%40"))
    async with metadata.running() as host:
        async with session(dsn, GCE_METADATA_HOST=host, GCE_METADATA_IP=host) as ask:
            assert (await ask("open 1"))["code"] == "DATABASE_LOGIN_REFUSED"
        metadata.status = 404
        async with session(dsn, GCE_METADATA_HOST=host, GCE_METADATA_IP=host) as ask:
            assert (await ask("open 1"))["error"] in {"DependencyUnavailable", "AuthenticationError"}
    async with session(dsn, NO_GCE_CHECK="true", CLOUDSDK_CONFIG="/nonexistent", HOME="/nonexistent") as ask:
        said = await ask("open 1")
    assert said["error"] == "ConfigurationError"
    assert "no Google credentials" in said["message"]
