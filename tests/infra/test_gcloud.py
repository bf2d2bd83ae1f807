"""The commands of docs/operations.md, run as they stand there with the real gcloud, against the local endpoint."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.local.pubsub.endpoint import Endpoint, serve
from shared.local.pubsub.topology import Topology
from shared.local.pubsub.wire import PubsubMessage
from shared.pubsub.topics import (
    DEAD_LETTERS,
    PREFIX,
    SUBSCRIPTIONS,
    UPLOADS,
    WORK,
    subscription_path,
    topic_path,
    topology,
)  # fmt: skip
from tests.architecture.repository import ROOT

PROJECT = "test-project"
PATIENCE_SECONDS = 120.0
INSPECT, INGEST, REPLAYS, BELLS = (
    subscription_path(PROJECT, name)
    for name in ("dead-letters-inspect", "uploads-ingest", "replay-recover", "work-interactive")
)
PUSHED = {"headrace-uploads-ingest": "uploads-ingest", "headrace-replay-recover": "replay-recover"}
"""What the Terraform root pushes unless it is told otherwise; `test_the_page_says_what_can_be_pulled` compares."""

NOBODY = "http://127.0.0.1:1"
LETTER = "0192f0c1-7d1e-7c3a-9d8e-000000000001"

_BLOCK = re.compile(r"^```sh local (?P<name>[\w-]+)\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)

BLOCKS = {match["name"]: match["commands"] for match in _BLOCK.finditer((ROOT / "docs" / "operations.md").read_text())}
GCLOUD = shutil.which("gcloud")

with_gcloud = pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed: docs/operations.md was not tried")


@dataclass
class Operator:
    """Somebody with gcloud, the page, and a stack."""

    endpoint: Endpoint
    environment: dict[str, str]

    async def does(self, *blocks: str, **variables: str) -> str:
        """Run blocks of the page in one shell; return what was printed."""
        return await self.runs("\n".join(BLOCKS[name] for name in blocks), **variables)

    async def runs(self, commands: str, **variables: str) -> str:
        """Run commands in one shell that stops at the first that fails; return what was printed."""
        script = f"set -euo pipefail\n{commands}"
        shell = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            script,
            env=self.environment | variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, complaints = await shell.communicate()
        assert shell.returncode == 0, complaints.decode()
        return output.decode()

    def letters(self, *names: str) -> None:
        """Publish dead letters as the relay does."""
        messages = [
            PubsubMessage(
                data=json.dumps({"name": name}).encode(),
                attributes={"code": name, "dead_letter_id": LETTER, "event_type": "headrace.dead_letter"},
            )
            for name in names
        ]
        self.endpoint.broker.publish(topic_path(PROJECT, DEAD_LETTERS), messages, 1)

    def unread(self, subscription: str = INSPECT) -> list[str]:
        """Return the codes that are not acknowledged."""
        return [one.message.attributes["code"] for one in self.endpoint.broker.subscription(subscription).unread()]

    def asked(self) -> list[dict[str, str]]:
        """Return the attributes of the messages on the replay topic."""
        return [dict(one.message.attributes) for one in self.endpoint.broker.subscription(REPLAYS).unread()]


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """Serve the topology that a deployment has by default, to an empty gcloud; pushes reach nobody, and so wait."""
    table: dict[str, Any] = topology(PROJECT)
    for entry in table["subscriptions"]:
        for name in [name for name, value in entry.items() if value is None]:
            del entry[name]
        if logical := PUSHED.get(entry["name"]):
            entry["push_endpoint"] = f"{NOBODY}/push/{logical}"
    async with serve(topology=Topology.model_validate(table)) as endpoint:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
            "CLOUDSDK_CORE_PROJECT": PROJECT,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{endpoint.address}/",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        }
        yield Operator(endpoint, environment)


@pytest.mark.slow
@with_gcloud
async def test_looking_at_dead_letters_removes_none(operator: Operator) -> None:
    """The table shows code and id of each; putting one back makes it visible at once; nothing is acknowledged."""
    operator.letters("CORRUPT", "WORKER_LOST")
    table = await operator.does("look")
    assert {"CORRUPT", "WORKER_LOST", LETTER} <= set(table.split())
    inspect = operator.endpoint.broker.subscription(INSPECT)
    inspect.seek(datetime(2000, 1, 1, tzinfo=UTC))  # as if the ack deadline had passed
    await operator.does("put-back")
    assert inspect.leased == 0
    inspect.seek(datetime(2000, 1, 1, tzinfo=UTC))  # ... and the back-off
    (shown,) = json.loads(await operator.does("whole"))
    assert json.loads(b64decode(shown["message"]["data"]))["name"] in {"CORRUPT", "WORKER_LOST"}
    assert sorted(operator.unread()) == ["CORRUPT", "WORKER_LOST"]


@pytest.mark.slow
@with_gcloud
async def test_a_letter_that_was_dealt_with_leaves_the_view(operator: Operator) -> None:
    """Acknowledging takes exactly that one away."""
    operator.letters("ONE", "TWO")
    await operator.does("ack")
    assert len(operator.unread()) == 1


@pytest.mark.slow
@with_gcloud
async def test_replays_are_asked_for_with_the_attributes_that_recover_reads(operator: Operator) -> None:
    """One, by code, and all: each publish arrives with its attributes on recover's subscription."""
    await operator.does("replay-one", "replay-code", "replay-all", DEAD_LETTER_ID=LETTER)
    assert operator.asked() == [
        {"id": LETTER},
        {"code": "AUTHENTICATION_FAILED", "limit": "500", "canary": "true"},
        {"all": "true", "dry_run": "true"},
        {"all": "true", "limit": "1000", "canary": "true"},
    ]


@pytest.mark.slow
@with_gcloud
async def test_a_snapshot_undoes_what_came_after_it(operator: Operator) -> None:
    """Taken, listed, purged over, gone back to, and deleted: the letters are all unread again."""
    operator.letters("ONE", "TWO")
    assert "before-cleanup" in (await operator.does("snapshot")).split()
    await operator.does("purge")
    assert operator.unread() == []
    operator.letters("SINCE")
    await operator.does("restore", "forget")
    assert operator.unread() == ["ONE", "TWO", "SINCE"]


@pytest.mark.slow
@with_gcloud
async def test_seeking_to_a_time_skips_what_is_older(operator: Operator) -> None:
    """What was published before the time is settled, what came after it is not; with kept letters it goes back, too."""
    await operator.does("keep-acked")
    operator.letters("OLD")
    (old,) = operator.endpoint.broker.subscription(INSPECT).unread()
    operator.letters("NEW")
    _, new = operator.endpoint.broker.subscription(INSPECT).unread()
    await operator.does("seek-time", SINCE=new.message.publish_time.ToJsonString())
    assert operator.unread() == ["NEW"]
    await operator.does("seek-time", SINCE=old.message.publish_time.ToJsonString())
    assert operator.unread() == ["OLD", "NEW"]


@pytest.mark.slow
@with_gcloud
async def test_what_waits_is_looked_at_without_taking_it(operator: Operator) -> None:
    """The runbook's first look says who is pushed to, shows messages that are pulled, and acknowledges none."""
    operator.endpoint.broker.publish(
        topic_path(PROJECT, WORK), [PubsubMessage(data=b"{}", attributes={"lane": "interactive"})], 1
    )
    pushed, pulled = (await operator.does("backlog")).splitlines()
    assert pushed.split() == [f"{NOBODY}/push/uploads-ingest", "60"]
    assert pulled.split() == ["60"]
    assert "interactive" in await operator.does("backlog-pulled")
    assert len(list(operator.endpoint.broker.subscription(BELLS).unread())) == 1


@pytest.mark.slow
@with_gcloud
async def test_what_pushes_cannot_be_pulled_until_it_is_paused(operator: Operator) -> None:
    """As the page says: the broker refuses, and without an endpoint it hands over what waits."""
    uploads = topic_path(PROJECT, UPLOADS)
    operator.endpoint.broker.publish(uploads, [PubsubMessage(attributes={"objectId": "waiting.pdf"})], 1)
    pull = BLOCKS["backlog-pulled"].replace("work-interactive", "uploads-ingest").replace("lane", "objectId")
    with pytest.raises(AssertionError, match="FAILED_PRECONDITION"):
        await operator.runs(pull)
    await operator.does("pause")
    operator.endpoint.broker.subscription(INGEST).seek(datetime(2000, 1, 1, tzinfo=UTC))  # as if the back-off were over
    assert "waiting.pdf" in await operator.runs(pull)


@pytest.mark.slow
@with_gcloud
async def test_deliveries_are_paused_and_resumed(operator: Operator) -> None:
    """An endpoint is set with its account and audience and taken away again; policies follow an update."""
    url = "http://127.0.0.1:1"
    account = "push@test-project.iam.gserviceaccount.com"
    output = await operator.does("resume", "policy", INGEST_URL=url, PUSH_ACCOUNT=account)
    assert output.split()[-2:] == [f"{url}/push/uploads-ingest", "20"]
    config = operator.endpoint.broker.subscription(INGEST).config
    token = config.push_config.oidc_token
    assert (token.service_account_email, token.audience) == (account, "headrace-ingest")
    await operator.does("pause")
    assert [one.config.name for one in operator.endpoint.broker.pushing()] == [REPLAYS]


def test_every_local_block_is_tried() -> None:
    """Each block that the page marks is run by a test above, so that none can go stale unnoticed."""
    tried = set(re.findall(r'"([\w-]+)"', "".join(re.findall(r"does\(([^)]*)", Path(__file__).read_text()))))
    assert set(BLOCKS) == tried & set(BLOCKS)
    assert {"look", "replay-all", "restore"} <= set(BLOCKS)


def test_the_page_says_what_can_be_pulled() -> None:
    """Its table has each subscription once, and agrees with what the root pushes by default."""
    page = (ROOT / "docs" / "operations.md").read_text()
    (table,) = re.findall(r"^\| subscription \| can be pulled \|\n(.*?)\n\n", page, re.MULTILINE | re.DOTALL)
    said = {name: line for line in table.splitlines() for name in re.findall(r"`(headrace-[\w-]+)`", line)}
    assert said.keys() == {PREFIX + entry.name for entry in SUBSCRIPTIONS}
    root = "".join((ROOT / "infra" / "terraform" / name).read_text() for name in ("main.tf", "variables_services.tf"))
    assert re.search(r'variable "ingest_mode".*?default     = "push"', root, re.DOTALL)
    assert re.search(r'variable "process_mode".*?default     = "worker_pool"', root, re.DOTALL)
    assert re.search(r"push   = \{.*recover = true \}", root)
    by_default = {name for name, line in said.items() if "the default pushes" in line or "never" in line}
    assert by_default == set(PUSHED)
