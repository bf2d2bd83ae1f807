"""All four services and the embedded servers in one process: what `headrace up`, the demo and this package run.

The services are built by their own composition roots and talk to each other only through the servers, so this is the
cloud's arrangement with other addresses.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from services.address import Address, published
from services.api.app import build as build_api
from services.api.settings import ApiSettings
from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from services.recover.app import build as build_recover
from services.recover.settings import RecoverSettings
from shared.local.stack import LocalStack
from shared.postgres.migrate import migrate
from shared.runtime.app import Build, S, running
from shared.settings import environment, load

DEFAULTS = {
    "DEFAULT_ORGANIZATION_ID": "default",
    "RECOVER_EVERY_SECONDS": "60",
    "RECONCILE_EVERY_SECONDS": "60",
    "BROKER_STARTS_EMPTY": "true",
    "DRAIN_SECONDS": "2",
}
"""What a laptop has instead of a tenant and of a scheduler; the environment wins. Its bucket is small and its broker
forgets, so the two are compared often. At Ctrl-C somebody waits, and a job that is cut short goes on at the next start
where it stopped."""

HAND_BACK_SECONDS = 1.0
"""What a job that was cut short needs to hand itself back."""

LOOPBACK = {"HTTP_HOST": "127.0.0.1", "PORT": "0"}
"""Four services of one process cannot share a port, and none has anything to say to other machines."""


@asynccontextmanager
async def everything(
    data_dir: Path,
    *,
    durable: bool = True,
    database_url: str | None = None,
    starting: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Address]:
    """Run it all for the length of the block; yields where it is, which other processes find in the data directory.

    Must be entered on the main thread. `starting` is told what is started next, in words for people. `durable=False`
    gives up crash safety of the database for speed, for data that is thrown away. With a `database_url` no Postgres is
    started: that one is used, by all services as this one user.

    Raises:
        ConfigurationError: the directory is in use by another process, or a setting is wrong.
        DependencyUnavailable: a server does not start, or ended again and again.
    """
    starting("database, bucket and broker")
    async with LocalStack(
        data_dir,
        durable=durable,
        database_url=database_url,
        k_service=environment().get("K_SERVICE"),
    ) as servers:
        addresses = servers.environment()
        starting("schema")
        logins = {} if database_url else await _logins(servers)
        await migrate(
            addresses["DATABASE_URL"], members={f"headrace_{service}": [login] for service, login in logins.items()}
        )
        given = environment()
        common = {name: value for name, value in DEFAULTS.items() if name not in given} | addresses | LOOPBACK

        def said(service: str) -> dict[str, str]:
            return common | ({"DATABASE_URL": servers.postgres.dsn(user=logins[service])} if logins else {})

        async with AsyncExitStack() as stack:
            starting("ingest")
            await _run(build_ingest, IngestSettings, said("ingest"), stack)
            starting("process")
            await _run(build_process, ProcessSettings, said("process"), stack)
            starting("recover")
            recover = await _run(build_recover, RecoverSettings, said("recover"), stack)
            starting("api")
            api = await _run(build_api, ApiSettings, said("api"), stack)
            address = Address(
                pid=os.getpid(),
                api=api,
                recover=recover,
                storage=addresses["STORAGE_EMULATOR_HOST"],
                project=addresses["GOOGLE_CLOUD_PROJECT_ID"],
                bucket=addresses["BUCKET"],
                database=None if database_url else addresses["DATABASE_URL"],
            )
            with published(address, data_dir):
                yield address


async def _logins(servers: LocalStack) -> dict[str, str]:
    """Return a database user for each service, with only that service's rights, as in the cloud."""
    logins = {service: f"laptop_{service}" for service in ("ingest", "process", "recover", "api")}
    for login in logins.values():
        await servers.postgres.ensure_user(login)
    return logins


async def _run(build: Build[S], kind: type[S], said: dict[str, str], stack: AsyncExitStack) -> str:
    """Build a service and keep it running until the stack unwinds; return its address."""
    settings = load(kind, said)
    service = await build(settings, stack)
    return await stack.enter_async_context(
        running(service, settings, drain_seconds=settings.drain_seconds + HAND_BACK_SECONDS)
    )
