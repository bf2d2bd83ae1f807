"""Where each variable of the root arrives, in words of the plan: one that arrives nowhere is ignored somewhere.

A line is: variable, resource, attribute, and what it says there when the variant of `VARIANTS` gives its value. A new
variable needs a value unlike its default in one of the variants, and a line here.
"""

from __future__ import annotations

from typing import Any

from tests.infra.terraform.checks import check
from tests.infra.terraform.plan import Plan, stated

API = "module.api.google_cloud_run_v2_service.this"
INGEST = "module.ingest.google_cloud_run_v2_service.this"
RECOVER = "module.recover.google_cloud_run_v2_service.this"
ONCE = "module.recover_once.google_cloud_run_v2_job.this"
POOL = 'module.process_pool["process"].google_cloud_run_v2_worker_pool.this'
PUSHED = 'module.process_push["process"].google_cloud_run_v2_service.this'
BUCKET = "module.storage.google_storage_bucket.this"
POSTGRES = "module.database.google_sql_database_instance.this"
CONTAINER, ENV = "template.containers", "template.containers.env"
LIMITS = "template.containers.resources.limits"
SECRET = 'module.secrets.google_secret_manager_secret_version.this["gemini-api-key"]'
IMAGES = "module.registry.google_artifact_registry_repository_iam_member.writes"
BUDGET = "module.monitoring.google_billing_budget.this[0]"
ALERT = 'module.monitoring.google_monitoring_alert_policy.this["{}"]'.format

Arrival = tuple[str, str, str, Any]

TURNED: list[Arrival] = [
    ("process_mode", PUSHED, "name", "headrace-process"),
    ("ingest_mode", INGEST, f"{ENV}.DELIVERY", "pull"),
    ("process.max_instances", PUSHED, "scaling.max_instance_count", 5),
    (
        "network.peered",
        'module.network.google_service_networking_connection.this["peering"]',
        "network",
        "projects/demo-project/global/networks/shared",
    ),
]

FULL: list[Arrival] = [
    ("model_access", SECRET, "project", "demo-project"),
    ("gemini_api_key_version", SECRET, "secret_data_wo_version", "2"),
    ("cmek", 'module.cmek["key"].google_kms_crypto_key.this', "name", "data"),
    ("telemetry_exporter", API, f"{ENV}.TELEMETRY_EXPORTER", "otlp"),
    ("otlp_endpoint", API, f"{ENV}.OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318"),
    (
        "operators",
        'module.messaging.google_pubsub_topic_iam_member.publishes["replay/group:operators@example.com"]',
        "member",
        "group:operators@example.com",
    ),
    (
        "scalers",
        'module.operators.google_artifact_registry_repository_iam_member.scales["group:on-call@example.com"]',
        "member",
        "group:on-call@example.com",
    ),
    (
        "api_invokers",
        'module.api.google_cloud_run_v2_service_iam_member.invokes["serviceAccount:web@demo-project.iam.gserviceaccount.com"]',
        "member",
        "serviceAccount:web@demo-project.iam.gserviceaccount.com",
    ),
    ("api_iap_members", API, "iap_enabled", True),
    (
        "image_writers",
        f'{IMAGES}["serviceAccount:build@demo-project.iam.gserviceaccount.com"]',
        "member",
        "serviceAccount:build@demo-project.iam.gserviceaccount.com",
    ),
    ("bucket_versioning", BUCKET, "versioning.enabled", True),
    ("cors_origins", BUCKET, "cors.origin", ["https://app.example.com"]),
    ("default_organization_id", API, f"{ENV}.DEFAULT_ORGANIZATION_ID", "acme"),
    ("owner_path_template", API, f"{ENV}.OWNER_PATH_TEMPLATE", "{organization_id}/{user_id}/"),
    ("settings", POOL, f"{ENV}.MAX_DEFER_HOURS", "48"),
    (
        "network.network_id",
        POOL,
        "template.vpc_access.network_interfaces.network",
        "projects/demo-project/global/networks/shared",
    ),
    (
        "network.subnetwork_id",
        POOL,
        "template.vpc_access.network_interfaces.subnetwork",
        "projects/demo-project/regions/us-central1/subnetworks/run",
    ),
]

SIZED: list[Arrival] = [
    ("image_tag", API, f"{CONTAINER}.image", "europe-docker.pkg.dev/builds/headrace/api:r2"),
    ("image_repository", POOL, f"{CONTAINER}.image", "europe-docker.pkg.dev/builds/headrace/process:r2"),
    (
        "runbook_base_url",
        ALERT("unacked"),
        "documentation.links.url",
        "https://wiki.example/runbooks.md#messages-are-not-taken",
    ),
    ("region", API, "location", "europe-west4"),
    ("deletion_protection", POSTGRES, "deletion_protection", False),
    ("subnetwork_range", 'module.network.google_compute_subnetwork.run["network"]', "ip_cidr_range", "10.9.0.0/25"),
    ("bucket", BUCKET, "name", "our-files"),
    ("bucket_location", BUCKET, "location", "EU"),
    ("noncurrent_days", BUCKET, "lifecycle_rule.1.condition.days_since_noncurrent_time", 90),
    ("model_region", API, f"{ENV}.GOOGLE_CLOUD_REGION", "us-east5"),
    ("embedding_model", POOL, f"{ENV}.GEMINI_EMBEDDING_MODEL", "text-embedding-005"),
    ("embedding_dimensions", POOL, f"{ENV}.GEMINI_EMBEDDING_DIMENSIONS", "256"),
    ("log_level", ONCE, "template.template.containers.env.LOG_LEVEL", "DEBUG"),
    ("database_version", POSTGRES, "database_version", "POSTGRES_17"),
    ("database_tier", POSTGRES, "settings.tier", "db-perf-optimized-N-4"),
    ("database_edition", POSTGRES, "settings.edition", "ENTERPRISE_PLUS"),
    ("database_available", POSTGRES, "settings.availability_type", "ZONAL"),
    ("database_disk_gib", POSTGRES, "settings.disk_size", 200),
    (
        "database_backups_kept",
        POSTGRES,
        "settings.backup_configuration.backup_retention_settings.retained_backups",
        30,
    ),
    ("database_log_days", POSTGRES, "settings.backup_configuration.transaction_log_retention_days", 14),
    ("database_maintenance_memory_mib", POSTGRES, "settings.database_flags.maintenance_work_mem", str(2048 * 1024)),
    ("database_max_connections", POSTGRES, "settings.database_flags.max_connections", "500"),
    ("api.cpu", API, f"{LIMITS}.cpu", "2"),
    ("api.memory_mib", API, f"{LIMITS}.memory", "2048Mi"),
    ("api.min_instances", API, "scaling.min_instance_count", 1),
    ("api.max_instances", API, "scaling.max_instance_count", 6),
    ("api.concurrency", API, "template.max_instance_request_concurrency", 40),
    ("api.pool_size", API, f"{ENV}.DATABASE_POOL_SIZE", "7"),
    ("ingest.cpu", INGEST, f"{LIMITS}.cpu", "4"),
    ("ingest.memory_mib", INGEST, f"{LIMITS}.memory", "3072Mi"),
    ("ingest.min_instances", INGEST, "scaling.min_instance_count", 2),
    ("ingest.max_instances", INGEST, "scaling.max_instance_count", 7),
    ("ingest.concurrency", INGEST, f"{ENV}.INGEST_CONCURRENCY", "9"),
    ("ingest.pool_size", INGEST, f"{ENV}.DATABASE_POOL_SIZE", "6"),
    ("process.cpu", POOL, f"{LIMITS}.cpu", "8"),
    ("process.memory_mib", POOL, f"{LIMITS}.memory", "8192Mi"),
    ("process.instances", POOL, "scaling.manual_instance_count", 3),
    ("process.concurrency", POOL, f"{ENV}.PROCESS_CONCURRENCY", "3"),
    ("process.pool_size", POOL, f"{ENV}.DATABASE_POOL_SIZE", "9"),
    ("process.extract_memory_mib", POOL, f"{ENV}.EXTRACT_MEMORY_BYTES", str(2048 * 1024 * 1024)),
    ("on_failed_overwrite", POOL, f"{ENV}.ON_FAILED_OVERWRITE", "keep"),
    ("on_failed_overwrite", RECOVER, f"{ENV}.ON_FAILED_OVERWRITE", "keep"),
    ("recover.cpu", RECOVER, f"{LIMITS}.cpu", "2"),
    ("recover.max_instances", RECOVER, "scaling.max_instance_count", 3),
    ("recover.pool_size", RECOVER, f"{ENV}.DATABASE_POOL_SIZE", "8"),
    ("recover_schedule", "module.schedule.google_cloud_scheduler_job.this", "schedule", "*/10 * * * *"),
    (
        "notification_channels",
        ALERT("recover_absent"),
        "notification_channels",
        ["projects/demo-project/notificationChannels/1"],
    ),
    ("oldest_unacked_seconds", ALERT("unacked"), "conditions.condition_threshold.threshold_value", 600),
    ("error_ratio", ALERT("failing_jobs"), "conditions.condition_threshold.threshold_value", 0.1),
    (
        "model_tokens_per_day",
        ALERT("budget"),
        "documentation.content",
        (
            "More than 1000000 tokens were spent within 24 hours.\n\n"
            "What to do: https://wiki.example/runbooks.md#models-cost-more-than-planned"
        ),
    ),
    ("billing_account", BUDGET, "billing_account", "012345-6789AB-CDEF01"),
    ("monthly_budget", BUDGET, "amount.specified_amount.units", "900"),
]

ARRIVALS = {"default": [], "turned": TURNED, "full": FULL, "sized": SIZED}

# No plan shows these: for them what is written has to do. (Where it is said, who refers to it there.)
WRITTEN = {
    "labels": ("provider_config.google.expressions.default_labels.references", "var.labels"),
    "gemini_api_key": ("root_module.module_calls.secrets.expressions.values.references", "var.gemini_api_key"),
}

# Every table of these tests names it.
EVERYWHERE = {"project_id"}


def reach(value: Any, path: str) -> Any:
    """Return what stands at the end of a path of attributes; in a list a number, or the name of what has a value."""
    for step in path.split("."):
        if isinstance(value, list):
            named = {one["name"]: one.get("value") for one in value if isinstance(one, dict) and "name" in one}
            value = value[int(step)] if step.isdigit() and int(step) < len(value) else named.get(step)
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def arrived(plan: Plan, address: str, path: str) -> Any:
    """Return what a plan says at a place, and None where there is no such thing."""
    found = [one for one in plan.resources if one.address == address]
    return reach(stated(found[0].values), path) if found else None


@check
def variables_arrive(plan: Plan) -> None:
    """What the variables of the root were given stands where the tables say."""
    lost = [
        f"{variable}: {address} {path} is {found!r}, not {value!r}"
        for variable, address, path, value in ARRIVALS[plan.variant]
        if (found := arrived(plan, address, path)) != value
    ]
    assert not lost, "; ".join(lost)
    for variable, (path, reference) in WRITTEN.items():
        assert reference in (reach(plan.configuration, path) or []), variable
