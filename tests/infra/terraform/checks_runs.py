"""How everything that runs must run, in any plan: each workload and its environment as a whole, against tables.

A table says why a value is what it is. What a variable of the root says is read from the plan's own variables, so the
tables hold of every variant; that the variables arrive at all is shown by test_variables.py.
"""

from __future__ import annotations

import json
from typing import Any

from shared.pubsub import topics
from tests.infra.terraform.checks import PROJECT, PUSH_SECONDS, check
from tests.infra.terraform.plan import UNKNOWN, Plan, Workload, same, stated

RECOVER_SECONDS = 540
STREAM_SECONDS = 300

SECONDS = {
    "headrace-api": STREAM_SECONDS + 60,  # a stream ends by itself before Cloud Run cuts it
    "headrace-ingest": PUSH_SECONDS,  # as long as Pub/Sub waits for an answer
    "headrace-process": PUSH_SECONDS,  # the same, where it is pushed to
    "headrace-recover": RECOVER_SECONDS,  # the product's own bound on a run
    "headrace-recover-once": 600,  # a minute more than a run may take
    "headrace-migrate": 3600,  # a new index over everything takes its time; cut off, it would begin again
}

RETRIES = 0  # a migration or a run that failed is looked at; repeated by itself it would hide why

# Two minutes until it must be ready, so that a database that restarts does not fail a release.
READY = {"period_seconds": 5, "timeout_seconds": 4, "failure_threshold": 24, "http_get": {"path": "/readyz"}}
# Not /readyz, and not at the first slow answer: an instance must not be killed because the database is away.
ALIVE = {"period_seconds": 30, "timeout_seconds": 5, "failure_threshold": 3, "http_get": {"path": "/livez"}}

RECOVER_AT_ONCE = 8  # replays that are pushed, beside the run: they are short, and wait for the database
SMALL_MIB = 512  # what recover is bounded to, and more than a migration needs

# Other checks look at these: who it runs as, what it runs, what it is told, what it is encrypted with.
LOOKED_AT_ELSEWHERE = {"service_account", "encryption_key"}
LOOKED_AT_ELSEWHERE_TOO = {"image", "command", "env"}


def _probes(**port: int) -> dict[str, Any]:
    return {
        "startup_probe": READY | {"http_get": {"path": "/readyz", **port}},
        "liveness_probe": ALIVE | {"http_get": {"path": "/livez", **port}},
    }


def _network(plan: Plan) -> dict[str, Any]:
    """Return the way into the network: private addresses only, so that answers to the world need no gateway."""
    there = plan.given["network"]
    ids = {"network": there["network_id"], "subnetwork": there["subnetwork_id"]} if there else {}
    return {"egress": "PRIVATE_RANGES_ONLY"} | ({"network_interfaces": ids} if ids else {})


def _limits(size: dict[str, Any]) -> dict[str, Any]:
    return {"cpu": size["cpu"], "memory": f"{size.get('memory_mib', SMALL_MIB)}Mi"}


def _service(plan: Plan, name: str, size: dict[str, Any], *, pulls: bool = False, at_once: int = 0) -> dict[str, Any]:
    at_least = size.get("min_instances", 0)
    return {
        "project": PROJECT,
        "location": plan.given["region"],
        "name": name,
        "custom_audiences": [name],  # tokens name the service, not an address that is only known later
        "deletion_protection": False,  # it holds nothing
        # From outside only the api is reached, and then only with a token of somebody who is named.
        "ingress": "INGRESS_TRAFFIC_ALL" if name == "headrace-api" else "INGRESS_TRAFFIC_INTERNAL_ONLY",
        "iap_enabled": name == "headrace-api" and plan.given["api_iap_members"] != [],
        # Of all revisions together, so that a release opens no more connections. Who pulls is always there.
        "scaling": {
            "min_instance_count": max(1, at_least) if pulls else at_least,
            "max_instance_count": size["max_instances"],
        },
        "template": {
            "execution_environment": "EXECUTION_ENVIRONMENT_GEN2",
            "timeout": f"{SECONDS[name]}s",
            "max_instance_request_concurrency": at_once or size["concurrency"],
            "scaling": {"max_instance_count": size["max_instances"]},
            "vpc_access": _network(plan),
            "containers": {
                "ports": {"container_port": 8080},
                # Who pulls works between requests; the others sleep.
                "resources": {"limits": _limits(size), "cpu_idle": not pulls, "startup_cpu_boost": True},
                **_probes(),
            },
        },
    }


def _pool(plan: Plan, name: str, size: dict[str, Any]) -> dict[str, Any]:
    return {
        "project": PROJECT,
        "location": plan.given["region"],
        "name": name,
        "deletion_protection": False,
        "scaling": {"scaling_mode": "MANUAL", "manual_instance_count": size["instances"]},
        "template": {
            "vpc_access": _network(plan),
            # A worker pool has no port of its own: probes name the one that PORT says.
            "containers": {"resources": {"limits": _limits(size)}, **_probes(port=8080)},
        },
    }


def _job(plan: Plan, name: str, size: dict[str, Any]) -> dict[str, Any]:
    return {
        "project": PROJECT,
        "location": plan.given["region"],
        "name": name,
        "deletion_protection": False,
        "template": {
            "task_count": 1,
            "template": {
                "execution_environment": "EXECUTION_ENVIRONMENT_GEN2",
                "timeout": f"{SECONDS[name]}s",
                "max_retries": RETRIES,
                "vpc_access": _network(plan),
                "containers": {"resources": {"limits": _limits(size)}},
            },
        },
    }


def expected_workloads(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return what each workload says, but for what other checks look at."""
    given = plan.given
    api, ingest, process, recover = (given[name] for name in ("api", "ingest", "process", "recover"))
    return {
        "headrace-api": _service(plan, "headrace-api", api),
        "headrace-ingest": _service(plan, "headrace-ingest", ingest, pulls=given["ingest_mode"] == "pull"),
        "headrace-process": _service(plan, "headrace-process", process)
        if given["process_mode"] == "push"
        else _pool(plan, "headrace-process", process),
        "headrace-recover": _service(plan, "headrace-recover", recover, at_once=RECOVER_AT_ONCE),
        "headrace-recover-once": _job(plan, "headrace-recover-once", recover),
        "headrace-migrate": _job(plan, "headrace-migrate", {"cpu": "1"}),
    }


def _said_by(one: Workload) -> dict[str, Any]:
    """Return what a workload says, without what other checks look at and without its sentence."""
    said: dict[str, Any] = stated(one.resource.values)
    said.pop("description", None)
    template = said["template"]["template"] if one.kind == "job" else said["template"]
    for name in LOOKED_AT_ELSEWHERE:
        template.pop(name, None)
    for name in LOOKED_AT_ELSEWHERE_TOO:
        template["containers"].pop(name, None)
    return said


@check
def instances_are_probed_and_bounded(plan: Plan) -> None:
    """Probes, network, time-outs, retries, sizes and numbers of everything that runs are those of the tables."""
    expected = expected_workloads(plan)
    assert plan.workloads.keys() == expected.keys()
    for name, one in plan.workloads.items():
        same(_said_by(one), expected[name], name)


# --- the environment --------------------------------------------------------------------------------------------------


def _where(plan: Plan) -> dict[str, str]:
    """Return what every service is told."""
    given = plan.given
    optional = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": given["otlp_endpoint"] if given["telemetry_exporter"] == "otlp" else None,
        "DEFAULT_ORGANIZATION_ID": given["default_organization_id"],
        "OWNER_PATH_TEMPLATE": given["owner_path_template"],
    }
    return {
        "GOOGLE_CLOUD_PROJECT_ID": PROJECT,
        "GOOGLE_CLOUD_REGION": given["model_region"] or given["region"],
        "CLOUD_REGION": given["region"],
        "BUCKET": given["bucket"] or f"{PROJECT}-uploads",
        "DATABASE_URL": UNKNOWN,
        "DATABASE_IAM_AUTH": "true",  # there are no passwords
        "LOG_LEVEL": given["log_level"],
        "LOG_FORMAT": "json",  # what Cloud Logging reads
        "HTTP_HOST": "0.0.0.0",  # a container is called from outside of itself
        "TELEMETRY_EXPORTER": given["telemetry_exporter"],
        **{name: value for name, value in optional.items() if value is not None},
    }


def _delivery(service: str, *, pushed: bool) -> dict[str, str]:
    if not pushed:
        return {"DELIVERY": "pull"}
    return {
        "DELIVERY": "push",
        "PUSH_AUDIENCE": f"{topics.PREFIX}{service}",
        "PUSH_SERVICE_ACCOUNT": f"headrace-push@{PROJECT}.iam.gserviceaccount.com",
    }


def expected_environments(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the whole environment of each workload."""
    given = plan.given
    where = _where(plan)
    models = {
        "EMBEDDER": "gemini",
        "GEMINI_EMBEDDING_MODEL": given["embedding_model"],
        "GEMINI_EMBEDDING_DIMENSIONS": str(given["embedding_dimensions"]),
        **({"GEMINI_API_KEY": UNKNOWN} if given["model_access"] == "api_key" else {}),
    }
    verified = {"PUSH_VERIFIED_BY": "platform"}  # Cloud Run takes the signature away; who may call is its to say
    overwrite = {"ON_FAILED_OVERWRITE": given["on_failed_overwrite"]}  # whoever ends a job has to know

    process_pushed, ingest_pushed = given["process_mode"] == "push", given["ingest_mode"] == "push"
    api = (
        where
        | models
        | {
            "DATABASE_POOL_SIZE": str(given["api"]["pool_size"]),
            "API_CALLERS_VERIFIED_BY": "platform",
            "API_STREAM_SECONDS": str(STREAM_SECONDS),
        }
    )
    ingest = (
        where
        | _delivery("ingest", pushed=ingest_pushed)
        | (verified if ingest_pushed else {})
        | {
            "DATABASE_POOL_SIZE": str(given["ingest"]["pool_size"]),
            "INGEST_CONCURRENCY": str(given["ingest"]["concurrency"]),
        }
    )
    process = (
        where
        | models
        | overwrite
        | _delivery("process", pushed=process_pushed)
        | {
            "DATABASE_POOL_SIZE": str(given["process"]["pool_size"]),
            "PROCESS_CONCURRENCY": str(given["process"]["concurrency"]),
            "EXTRACT_MEMORY_BYTES": str(given["process"]["extract_memory_mib"] * 1024 * 1024),
            # Cloud Run says the port to services, and refuses to be told; to a worker pool it says nothing.
            **(verified if process_pushed else {"PORT": "8080"}),
        }
    )
    # What is pushed cannot be pulled, so the job is told of pushes too; but nobody calls it.
    recover = (
        where
        | overwrite
        | _delivery("recover", pushed=True)
        | {
            "DATABASE_POOL_SIZE": str(given["recover"]["pool_size"]),
            "FUNCTION_TIMEOUT_SECONDS": str(RECOVER_SECONDS),
        }
    )
    scheduler = [f"headrace-scheduler@{PROJECT}.iam.gserviceaccount.com"]
    more = {name: given["settings"].get(name, {}) for name in ("api", "ingest", "process", "recover")}
    return {  # what the root says itself wins over `settings`
        "headrace-api": more["api"] | api,
        "headrace-ingest": more["ingest"] | ingest,
        "headrace-process": more["process"] | process,
        "headrace-recover": more["recover"] | recover | verified | {"RECOVER_CALLERS": json.dumps(scheduler)},
        "headrace-recover-once": more["recover"] | recover,
        "headrace-migrate": {
            "DATABASE_URL": UNKNOWN,
            "DATABASE_IAM_AUTH": "true",
            "DATABASE_OWNER_ROLE": "cloudsqlsuperuser",  # what may create roles and extensions in Cloud SQL
            "DATABASE_ROLE_MEMBERS": json.dumps(
                {
                    f"headrace_{name}": [f"headrace-{name}@{PROJECT}.iam"]
                    for name in ("api", "ingest", "process", "recover")
                },
                separators=(",", ":"),
            ),
        },
    }


@check
def environments_say_what_was_asked(plan: Plan) -> None:
    """Each workload is told all of its table and nothing else: variables of the root, and what the platform needs."""
    expected = expected_environments(plan)
    for name, one in plan.workloads.items():
        same(one.env, expected[name], name)
