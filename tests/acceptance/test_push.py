"""The whole road with every service pushed to: real processes, real tokens, and callers who have none."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from services.api.app import build as build_api
from services.api.settings import ApiSettings
from shared.clock import SystemClock
from shared.ports.broker import Message
from shared.pubsub import topics
from shared.pubsub.publisher import PubSubPublisher
from shared.telemetry.metrics import Metrics
from tests.acceptance.pushing import (
    SCHEDULER,
    Signer,
    certificates_url,
    publishing,
    push,
    push_settings,
    wrapped,
)
from tests.acceptance.test_ledger import CORPUS, QUESTIONS
from tests.acceptance.test_ledger import FILES as DEMO_FILES
from tests.plugins.postgres import PostgresServer
from tests.plugins.stack import ServiceProcess, Site, eventually, new_site

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUBSCRIPTIONS = {
    "ingest": ["uploads-ingest"],
    "process": ["work-interactive", "work-bulk"],
    "recover": ["replay-recover"],
}
TABLES = (
    *("documents", "document_processing_jobs", "job_events", "outbox", "dead_letters"),
    *("replay_batches", "recover_runs"),
)


def generated(number: int) -> tuple[str, bytes]:
    """Return the name and the content of one of the small files, each of the kinds in turn."""
    sentence = f"Gauge {number:02d} of the quarry line shows {1000 + 37 * number} millibar at noon."
    kinds = {
        "txt": sentence,
        "md": f"# Gauge {number}\n\n{sentence}\n",
        "csv": f"gauge,reading\n{number},{sentence}\n",
        "html": f"<html><body><h1>Gauge</h1><p>{sentence}</p></body></html>",
        "json": json.dumps({"gauge": number, "reading": sentence}),
    }
    suffix = list(kinds)[number % len(kinds)]
    return f"gauge-{number:02d}.{suffix}", kinds[suffix].encode()


GENERATED = dict(generated(number) for number in range(30 - len(DEMO_FILES)))


@dataclass
class Pushed:
    """A site whose services are all pushed to, with the files uploaded and worked off."""

    site: Site
    processes: dict[str, ServiceProcess]
    http: aiohttp.ClientSession
    api: str
    signer: Signer
    jobs: dict[str, Any]

    async def rows(self) -> dict[str, int]:
        """Count everything there is."""
        return {table: await self.site.value(f"select count(*) from {table}") for table in TABLES}

    async def post(self, service: str, path: str, body: Any, token: str | None) -> tuple[int, dict[str, Any]]:
        """Make a request with a token."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = self.processes[service].address + path
        async with self.http.post(url, json=body, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else {}


@pytest.fixture(scope="module")
def module_database_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """Give one database for all tests here: the files are worked on once."""
    with postgres_server.database(migrated_template) as name:
        yield postgres_server.dsn(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pushed(module_database_url: str) -> AsyncIterator[Pushed]:
    """Start every service as a process in push mode, upload thirty files, and wait until they are through."""
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(new_site(module_database_url))
        signer = Signer()
        keys = await stack.enter_async_context(publishing(signer, elsewhere=certificates_url(site)))
        processes = {}
        for service, subscriptions in SUBSCRIPTIONS.items():
            said = push_settings(site, service) | {"PUSH_CERTS_URL": keys.url}
            if service == "recover":
                said["RECOVER_CALLERS"] = json.dumps([SCHEDULER])
            processes[service] = await stack.enter_async_context(site.process(f"services.{service}", **said))
            for subscription in subscriptions:
                await push(site, subscription, processes[service].address, service=service)
        api = await stack.enter_async_context(site.service(build_api, ApiSettings))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for name in DEMO_FILES:
            await site.upload(name, CORPUS / name)
        for name, content in GENERATED.items():
            await site.upload(name, content)
        jobs = await site.ended(*DEMO_FILES, *GENERATED, within_seconds=120)
        yield Pushed(site, processes, http, api, signer, {job["name"]: job for job in jobs})


async def found(pushed: Pushed, question: str) -> list[str]:
    """Return the names of the files that answer best."""
    async with pushed.http.post(f"{pushed.api}/api/v1/search", json={"query": question, "limit": 3}) as response:
        assert response.status == 200
        return [hit["name"] for hit in (await response.json())["hits"]]


async def test_thirty_mixed_files_complete_with_every_service_pushed_to(pushed: Pushed) -> None:
    """Each file is worked on once and completed, and nothing was pulled on the way."""
    assert len(pushed.jobs) == 30
    ends = Counter((job["status"], job["attempts"], job["rescue_count"]) for job in pushed.jobs.values())
    assert ends == {("completed", 1, 0): 30}
    assert await pushed.site.value("select count(*) from dead_letters") == 0


async def test_what_was_pushed_is_found(pushed: Pushed) -> None:
    """A question about a file finds that file, of the demo's and of the small ones."""
    for asked in QUESTIONS:
        assert (await found(pushed, asked["question"]))[0] == asked["file"]
    for name, content in list(GENERATED.items())[::4]:
        sentence = re.search(rb"Gauge .*? noon", content)
        assert sentence is not None
        assert (await found(pushed, sentence[0].decode()))[0] == name


def forged(signer: Signer, audience: str) -> dict[str, str | None]:
    """Return tokens that must not be believed, by what is wrong with them."""
    now = int(SystemClock().now().timestamp())
    stranger = Signer()
    good = signer.token(aud=audience)
    head, claims, signature = good.split(".")
    return {
        "none at all": None,
        "no token": "hello",
        "another key": stranger.token(aud=audience),
        "another key under a known id": stranger.token({"kid": signer.key_id}, aud=audience),
        "no key id": signer.token({"kid": None}, aud=audience),
        "changed claims": f"{head}.{stranger.token(aud=audience, sub='x').split('.')[1]}.{signature}",
        "no signature": f"{head}.{claims}.",
        "the platform's mark": f"{head}.{claims}.SIGNATURE_REMOVED_BY_GOOGLE",
        "alg none": signer.token({"alg": "none"}, aud=audience),
        "alg HS256 with the public key": signer.token({"alg": "HS256"}, aud=audience),
        "wrong audience": signer.token(aud="headrace-other"),
        "several audiences": signer.token(aud=[audience]),
        "no audience": signer.token(aud=None),
        "wrong issuer": signer.token(aud=audience, iss="https://accounts.example.com"),
        "unverified email": signer.token(aud=audience, email_verified=False),
        "email verified in words": signer.token(aud=audience, email_verified="true"),
        "no email": signer.token(aud=audience, email=None),
        "expired": signer.token(aud=audience, iat=now - 7200, exp=now - 3600),
        "not yet valid": signer.token(aud=audience, iat=now + 3600, exp=now + 7200),
        "not before tomorrow": signer.token(aud=audience, nbf=now + 86400),
        "not before some day": signer.token(aud=audience, nbf="tomorrow"),
        "an extension that must be understood": signer.token({"crit": ["exp"]}, aud=audience),
        "never expires": signer.token(aud=audience, exp=None),
        "somebody else": signer.token(aud=audience, email="thief@elsewhere.iam.gserviceaccount.com"),
    }


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("ingest", "/push/uploads-ingest"),
        ("process", "/push/work-interactive"),
        ("process", "/push/work-bulk"),
        ("recover", "/push/replay-recover"),
        ("recover", "/"),
        ("recover", "/api/v1/cron/jobs"),
    ],
)
async def test_forged_and_expired_tokens_are_refused_and_nothing_is_done(
    pushed: Pushed, service: str, path: str
) -> None:
    """Whatever is wrong with a token, the answer is 401 or 403 and does not say why, and no row anywhere changes."""
    await quiet(pushed)
    before = await pushed.rows()
    body = wrapped("uploads-ingest", bucketId="uploads", objectId="new.txt", eventType="OBJECT_FINALIZE")
    answers = {}
    for what, token in forged(pushed.signer, f"headrace-{service}").items():
        status, said = await pushed.post(service, path, body, token)
        answers[what] = (status, said["code"])
        assert set(said) == {"type", "status", "title", "code", "detail"}
        assert said["detail"] in {"The request carries no valid token.", "This caller may not do this."}, what
    assert answers.pop("somebody else") == (403, "FORBIDDEN")
    assert set(answers.values()) == {(401, "AUTHENTICATION_FAILED")}, answers
    assert await pushed.rows() == before


async def quiet(pushed: Pushed) -> None:
    """Wait until everything that was said is published and handled."""

    async def look() -> bool:
        waiting: int = await pushed.site.value(
            "select (select count(*) from outbox where published_at is null) "
            "+ (select count(*) from job_events where published_at is null)"
        )
        return waiting == 0

    await eventually(look)


async def test_a_good_token_is_believed_and_what_it_brings_is_done(pushed: Pushed) -> None:
    """The same requests with good tokens are handled: a notification is looked at, a bell answered, a run made."""
    assert (await pushed.post("process", "/push/work-bulk", {}, pushed.signer.token(aud="headrace-process")))[0] == 400
    hint = wrapped("uploads-ingest", bucketId="uploads", objectId="not-there.txt", eventType="OBJECT_FINALIZE")
    token = pushed.signer.token(aud="headrace-ingest")
    assert await pushed.post("ingest", "/push/uploads-ingest", hint, token) == (204, {})
    assert (await pushed.post("ingest", "/push/work-bulk", hint, token))[0] == 404
    scheduler = pushed.signer.token(aud="headrace-recover", email=SCHEDULER)
    status, summary = await pushed.post("recover", "/", {}, scheduler)
    assert (status, summary["ok"]) == (200, True)
    assert "replay_topic" not in summary["duties"]  # it is pushed; asking for it would be refused in every run
    assert (await pushed.post("recover", "/push/replay-recover", {}, scheduler))[0] == 403


async def test_a_malformed_message_is_recorded_once_and_settled(pushed: Pushed) -> None:
    """A message that asks for nothing ends by push as by pull: as one dead letter with its reason."""
    async with (
        Metrics("test") as metrics,
        PubSubPublisher(
            project_id=pushed.site.servers.project,
            metrics=metrics,
            emulator_host=pushed.site.servers.broker.address,
        ) as publisher,
    ):
        await publisher.publish(Message(topic=topics.REPLAY, data=b"nonsense"))

    async def look() -> list[str]:
        return [row["code"] for row in await pushed.site.rows("select code from dead_letters")]

    assert await eventually(look) == ["MALFORMED_REPLAY"]
