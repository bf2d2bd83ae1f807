"""What must hold of any plan, each as a function that fails with an assertion. Tests and mutations share them.

What the code says (topics, settings, limits) is read from the code; what nobody else says (who may do what) stands in
`grants.py`, in full.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from services.api.settings import ApiSettings
from services.ingest.settings import IngestSettings
from services.process.settings import ProcessSettings
from services.recover.settings import RecoverSettings
from shared.model.media import MAX_FILE_BYTES
from shared.pubsub import topics
from shared.settings import MigrateSettings, load
from tests.architecture.repository import ROOT
from tests.infra.terraform.grants import expected_grants
from tests.infra.terraform.plan import UNKNOWN, Plan, Workload, same, stated

PROJECT = "demo-project"
PUSH_SECONDS = 600
DSN = "postgresql://somebody@10.0.0.2:5432/headrace?sslmode=require"

SETTINGS: dict[str, Any] = {
    "api": ApiSettings,
    "ingest": IngestSettings,
    "process": ProcessSettings,
    "recover": RecoverSettings,
    "migrate": MigrateSettings,
}

CHECKS: dict[str, Callable[[Plan], None]] = {}


def check(function: Callable[[Plan], None]) -> Callable[[Plan], None]:
    """Count a function among the checks."""
    CHECKS[function.__name__] = function
    return function


# --- topics and subscriptions -----------------------------------------------------------------------------------------


def pushed(plan: Plan) -> set[str]:
    """Return the logical subscriptions that this variant pushes."""
    return {
        "replay-recover",
        *({"work-interactive", "work-bulk"} if plan.given["process_mode"] == "push" else ()),
        *({"uploads-ingest"} if plan.given["ingest_mode"] == "push" else ()),
    }


@check
def topics_are_those_of_the_code(plan: Plan) -> None:
    """Every topic of the code's table is made, and no other."""
    assert plan.named("google_pubsub_topic").keys() == {topics.PREFIX + topic for topic in topics.TOPICS}


@check
def subscriptions_are_those_of_the_code(plan: Plan) -> None:
    """Every subscription has the policies of the code's table; a pushed one has the longest deadline instead."""
    made = plan.named("google_pubsub_subscription")
    assert made.keys() == {topics.PREFIX + entry.name for entry in topics.SUBSCRIPTIONS}
    for entry in topics.SUBSCRIPTIONS:
        one = made[topics.PREFIX + entry.name]
        assert one["topic"] == topics.topic_path(PROJECT, entry.topic), entry.name
        deadline = PUSH_SECONDS if entry.name in pushed(plan) else entry.ack_deadline_seconds
        assert one["ack_deadline_seconds"] == deadline, entry.name
        assert one["filter"] == entry.filter, entry.name
        assert one["enable_message_ordering"] is entry.ordering, entry.name
        assert one["message_retention_duration"] == f"{entry.retention_seconds}s", entry.name
        assert one.block("expiration_policy") == {"ttl": ""}, entry.name
        assert one.block("retry_policy") == {
            "minimum_backoff": f"{entry.min_backoff_seconds}s",
            "maximum_backoff": f"{entry.max_backoff_seconds}s",
        }, entry.name
        assert not one["enable_exactly_once_delivery"], entry.name


@check
def what_fails_too_often_is_dead_lettered(plan: Plan) -> None:
    """Each subscription that can dead-letter has its policy, and the agent both rights that it needs for it."""
    made = plan.named("google_pubsub_subscription")
    grants = plan.grants()
    agent = next(member for member, *_ in grants if member.endswith("@gcp-sa-pubsub.iam.gserviceaccount.com"))
    letters = topics.PREFIX + topics.DEAD_LETTERS
    for entry in topics.SUBSCRIPTIONS:
        name = topics.PREFIX + entry.name
        if entry.max_delivery_attempts is None:
            assert made[name]["dead_letter_policy"] == [], name
            continue
        assert made[name].block("dead_letter_policy") == {
            "dead_letter_topic": topics.topic_path(PROJECT, topics.DEAD_LETTERS),
            "max_delivery_attempts": entry.max_delivery_attempts,
        }, name
        assert (agent, "pubsub_subscription", name, "roles/pubsub.subscriber") in grants, name
        assert (agent, "pubsub_topic", letters, "roles/pubsub.publisher") in grants, name


@check
def pushes_prove_themselves(plan: Plan) -> None:
    """What is pushed carries tokens of the push account for the service that takes it, which believes no other."""
    made = plan.named("google_pubsub_subscription")
    for entry in topics.SUBSCRIPTIONS:
        one = made[topics.PREFIX + entry.name]
        if entry.name not in pushed(plan):
            assert one["push_config"] == [], entry.name
            continue
        assert one.block("push_config", "oidc_token") == {
            "service_account_email": f"headrace-push@{PROJECT}.iam.gserviceaccount.com",
            "audience": f"headrace-{entry.consumer}",
        }, entry.name
        service = plan.workloads[f"headrace-{entry.consumer}"]
        assert service.resource["custom_audiences"] == [f"headrace-{entry.consumer}"], entry.name
        assert service.env["DELIVERY"] == "push", entry.name
        assert service.env["PUSH_AUDIENCE"] == f"headrace-{entry.consumer}", entry.name
        assert service.env["PUSH_SERVICE_ACCOUNT"] == f"headrace-push@{PROJECT}.iam.gserviceaccount.com", entry.name
        assert service.env["PUSH_VERIFIED_BY"] == "platform", entry.name


# --- who may do what --------------------------------------------------------------------------------------------------


@check
def nothing_is_public(plan: Plan) -> None:
    """Nobody unknown is let in anywhere, by whatever kind of resource."""
    assert "allUsers" not in plan.text
    assert "allAuthenticatedUsers" not in plan.text
    for service in plan.of("google_cloud_run_v2_service").values():
        assert not service["invoker_iam_disabled"], service.address
        inside = service["name"] != "headrace-api"
        assert service["ingress"] == ("INGRESS_TRAFFIC_INTERNAL_ONLY" if inside else "INGRESS_TRAFFIC_ALL")


@check
def each_account_has_exactly_its_rights(plan: Plan) -> None:
    """Rights are those of the literal table, thing by thing, and are given no other way."""
    bucket = plan.given["bucket"] or f"{PROJECT}-uploads"
    found, expected = plan.grants(), expected_grants(plan.variant, bucket)
    assert found == expected, f"too many: {sorted(found - expected)}; missing: {sorted(expected - found)}"
    other_ways = [one.address for one in plan.resources if re.search(r"_iam_(policy|binding)$", one.type)]
    assert other_ways == []


@check
def each_service_has_an_account_of_its_own(plan: Plan) -> None:
    """A workload runs as the account of its service."""
    for one in plan.workloads.values():
        account = f"headrace-{one.service}@{PROJECT}.iam.gserviceaccount.com"
        assert one.template["service_account"] == account, one.name
    accounts = {one["account_id"] for one in plan.of("google_service_account").values()}
    services = {f"headrace-{service}" for service in SETTINGS}
    assert accounts == services | {"headrace-push", "headrace-scheduler"}


@check
def logins_are_bound_to_the_instance(plan: Plan) -> None:
    """The one right on the project that concerns data is conditional on our instance."""
    logins = [
        one for one in plan.of("google_project_iam_member").values() if one["role"] == "roles/cloudsql.instanceUser"
    ]
    assert len(logins) == len(SETTINGS)
    for one in logins:
        assert one.block("condition")["expression"] == (
            'resource.type == "sqladmin.googleapis.com/Instance" && '
            f'resource.name == "projects/{PROJECT}/instances/headrace-postgres"'
        )


# --- what runs --------------------------------------------------------------------------------------------------------


def names_of(kind: Any) -> set[str]:
    """Return the names of the environment that a settings class reads."""
    names: set[str] = set()
    for name, field in kind.model_fields.items():
        alias = field.validation_alias
        names |= {str(choice) for choice in alias.choices} if alias is not None else {name.upper()}
    return names


@check
def environments_are_settings(plan: Plan) -> None:
    """Every variable is a setting of that service, every setting without a default is there, and the values load."""
    for one in plan.workloads.values():
        kind = SETTINGS[one.service]
        assert one.env.keys() <= names_of(kind), f"{one.name}: {one.env.keys() - names_of(kind)} are no settings"
        required = {name.upper() for name, field in kind.model_fields.items() if field.is_required()}
        assert required <= one.env.keys(), f"{one.name}: {required - one.env.keys()} are missing"
        by_cloud_run = {"service": {"K_SERVICE": one.name}, "worker pool": {"CLOUD_RUN_WORKER_POOL": one.name}}
        with patch.dict(os.environ, by_cloud_run.get(one.kind, {}) | one.env | {"DATABASE_URL": DSN}, clear=True):
            settings = load(kind)
        assert settings.database_iam_auth, one.name
        assert one.env["DATABASE_URL"] == UNKNOWN, f"{one.name}: the database's address cannot be known yet"


@check
def each_workload_runs_its_image(plan: Plan) -> None:
    """Images are those of the registry that is made, by service and release; commands exist."""
    expected = {
        "headrace-api": "api",
        "headrace-ingest": "ingest",
        "headrace-process": "process",
        "headrace-recover": "recover",
        "headrace-recover-once": "recover",
        "headrace-migrate": "migrate",
    }
    assert {name: one.service for name, one in plan.workloads.items()} == expected
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for one in plan.workloads.values():
        made_here = f"{plan.given['region']}-docker.pkg.dev/{PROJECT}/headrace"
        images = plan.given["image_repository"] or made_here
        assert one.container["image"] == f"{images}/{one.service}:{plan.given['image_tag']}"
        assert one.service in targets
    commands = {name: one.container["command"] for name, one in plan.workloads.items() if one.kind == "job"}
    assert commands == {
        "headrace-migrate": ["python", "-m", "shared.postgres.migrate"],
        "headrace-recover-once": ["python", "-m", "services.recover", "--once"],
    }
    assert all(find_spec(command[2]) for command in commands.values())


@check
def requests_may_take_as_long_as_the_work(plan: Plan) -> None:
    """Time-outs on the way are no shorter than what they wait for, and concurrency is what the service asks for."""
    seconds = {
        name: int(one.template["timeout"].removesuffix("s"))
        for name, one in plan.workloads.items()
        if one.kind == "service"
    }
    api, ingest = plan.workloads["headrace-api"], plan.workloads["headrace-ingest"]
    assert seconds["headrace-api"] > float(api.env["API_STREAM_SECONDS"])
    assert seconds["headrace-ingest"] == PUSH_SECONDS
    assert ingest.template["max_instance_request_concurrency"] == int(ingest.env["INGEST_CONCURRENCY"])
    process = plan.workloads["headrace-process"]
    if process.kind == "service":
        assert seconds["headrace-process"] == PUSH_SECONDS
        assert process.template["max_instance_request_concurrency"] == int(process.env["PROCESS_CONCURRENCY"])
    at_once = int(process.env["PROCESS_CONCURRENCY"]) * (int(process.env["EXTRACT_MEMORY_BYTES"]) + MAX_FILE_BYTES)
    assert memory_mib(process) * 1024 * 1024 >= at_once + 512 * 1024 * 1024


@check
def recover_is_bounded_as_the_code_is(plan: Plan) -> None:
    """Recover has the product's time and memory, and who calls it waits longer."""
    limit = RecoverSettings.model_fields["function_timeout_seconds"].default
    service, job = plan.workloads["headrace-recover"], plan.workloads["headrace-recover-once"]
    assert service.template["timeout"] == f"{limit:.0f}s" == "540s"
    for one in (service, job):
        assert float(one.env["FUNCTION_TIMEOUT_SECONDS"]) == limit
        assert memory_mib(one) == 512
    assert job.resource.block("template", "template")["timeout"] == "600s"
    expected = {
        "project": PROJECT,
        "region": plan.given["region"],
        "name": "headrace-recover",
        "description": "Starts a recover run.",
        "schedule": plan.given["recover_schedule"],
        "time_zone": "Etc/UTC",
        "attempt_deadline": "600s",  # longer than a run may take, or it would be called a failure
        "retry_config": {"retry_count": 0},  # the next run comes by itself; a repeated one would overlap it
        "http_target": {
            "http_method": "POST",
            "oidc_token": {
                "service_account_email": f"headrace-scheduler@{PROJECT}.iam.gserviceaccount.com",
                "audience": "headrace-recover",
            },
        },
    }
    same(stated(plan.one("google_cloud_scheduler_job").values), expected)


def memory_mib(one: Workload) -> int:
    """Return the memory of an instance."""
    return int(one.container["resources"][0]["limits"]["memory"].removesuffix("Mi"))
