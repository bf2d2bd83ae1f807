"""Mistakes that a whole suite once let pass, since each value was compared but those that nobody had thought of.

They are a reviewer's; beside each stand others of its kind. What finds them compares whole blocks, reads what is
written about the order of things, and looks where each variable arrives.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.infra.terraform.mistake import Mutation

RUNS, TOLD = "instances_are_probed_and_bounded", "environments_say_what_was_asked"
ORDER, APIS = "what_nothing_refers_to_is_waited_for", "modules_wait_for_the_apis"
WHEN, WHO, BILL = "alerts_say_when", "operators_are_told", "the_bill_has_a_budget"
BUCKET, REGISTRY, DATABASE, NETWORK = (
    "the_bucket_is_closed",
    "releases_stay_in_the_registry",
    "the_database_is_private_and_copied",
    "the_network_is_made_or_taken",
)

# The first of two conditions that say the same words.
SEEN = """local.counted["dead_letters_seen"]}"
          period    = "900s" # three runs: a shorter one would close between two
          aligner   = "ALIGN_DELTA"
          reducer   = "REDUCE_SUM"
          threshold = 0"""


def _at(file: str, *mistakes: tuple[str, ...]) -> Iterator[Mutation]:
    return (Mutation(file, *mistake) for mistake in mistakes)


UNSEEN = [
    *_at(
        "modules/worker/main.tf",
        ('path = "/livez"\n          port = 8080', 'path = "/livez"\n          port = 9090', RUNS),
        ('path = "/readyz"\n          port = 8080', 'path = "/readyz"', RUNS),
        ("        subnetwork = var.subnetwork_id\n", "", RUNS, "full"),
        ('egress = "PRIVATE_RANGES_ONLY"', 'egress = "ALL_TRAFFIC"', RUNS),
    ),
    *_at(
        "modules/service/main.tf",
        ("failure_threshold = 24", "failure_threshold = 1", RUNS),
        ("failure_threshold = 3\n", "failure_threshold = 1\n", RUNS),
        ("timeout_seconds   = 5\n", "timeout_seconds   = 1\n", RUNS),
        ("        subnetwork = var.subnetwork_id\n", "", RUNS, "turned"),
        ("startup_cpu_boost = true", "startup_cpu_boost = false", RUNS),
        (
            "    scaling {\n      max_instance_count = var.max_instances\n    }\n",
            "    scaling {\n      max_instance_count = 100\n    }\n",
            RUNS,
        ),
    ),
    *_at(
        "modules/job/main.tf",
        ("max_retries           = var.retries", "max_retries           = 3", RUNS),
        ("task_count = 1", "task_count = 2", RUNS),
        ("          subnetwork = var.subnetwork_id\n", "", RUNS, "full"),
    ),
    *_at(
        "modules/network/main.tf",
        ("prefix_length = 20", "prefix_length = 29", NETWORK),
        ("private_ip_google_access = true", "private_ip_google_access = false", NETWORK),
        ("!var.existing.peered", "false", NETWORK, "turned"),
    ),
    *_at(
        "services.tf",
        ("timeout_seconds = 3600", "timeout_seconds = 60", RUNS),
        ("concurrency     = 8\n", "concurrency     = 1\n", RUNS),
        ("iap_enabled = length(var.api_iap_members) > 0", "iap_enabled = false", RUNS, "full"),
        ("  min_instances   = var.api.min_instances\n", "", "variables_arrive", "sized"),
        ("cpu             = var.recover.cpu", 'cpu             = "1"', RUNS, "sized"),
        (
            (
                "FUNCTION_TIMEOUT_SECONDS = tostring(local.recover_seconds)\n"
                "      ON_FAILED_OVERWRITE      = var.on_failed_overwrite\n"
            ),
            "FUNCTION_TIMEOUT_SECONDS = tostring(local.recover_seconds)\n",
            TOLD,
        ),
        ("tostring(var.embedding_dimensions)", '"768"', "variables_arrive", "sized"),
        ("tostring(var.embedding_dimensions)", '"3072"', TOLD),
        ("coalesce(var.model_region, var.region)", "var.region", "variables_arrive", "sized"),
        ("LOG_LEVEL               = var.log_level", 'LOG_LEVEL               = "INFO"', TOLD, "sized"),
    ),
    *_at(
        "modules/secrets/outputs.tf",
        ('version = "latest"', 'version = "1"', "models_are_reached_as_asked", "full"),
        ("depends_on  = [google_secret_manager_secret_iam_member.reads]", "", ORDER),
    ),
    *_at(
        "modules/storage/main.tf",
        ("[google_pubsub_topic_iam_member.notifies", "[google_storage_bucket.this", ORDER),
        ('["PUT", "POST", "OPTIONS"]', '["GET"]', BUCKET, "full"),
        ('"Location", "Range", ', "", BUCKET, "full"),
        ("      age = 7\n", "      age = 0\n", BUCKET),
        ("7 * 24 * 3600", "0", BUCKET),
    ),
    *_at("modules/cmek/outputs.tf", ("depends_on  = [google_kms_crypto_key_iam_member.uses]", "", ORDER)),
    *_at("modules/project/outputs.tf", ("depends_on  = [google_project_service.this]", "", ORDER)),
    *_at("modules/network/outputs.tf", ("depends_on  = [google_service_networking_connection.this]", "", ORDER)),
    *_at(
        "main.tf",
        (
            '"./modules/network"\n  project_id       = module.project.project_id',
            '"./modules/network"\n  project_id       = var.project_id',
            APIS,
        ),
    ),
    *_at(
        "modules/registry/main.tf",
        ('tag_state  = "UNTAGGED"', 'tag_state  = "ANY"', REGISTRY),
        ("keep_count = 20", "keep_count = 1", REGISTRY),
        ("immutable_tags = true", "immutable_tags = false", REGISTRY),
    ),
    *_at(
        "modules/database/main.tf",
        ("edition                     = var.edition", 'edition                     = "ENTERPRISE"', DATABASE, "sized"),
        ("retain_backups_on_delete    = true", "retain_backups_on_delete    = false", DATABASE),
        ("day          = 7", "day          = 1", DATABASE),
    ),
    *_at(
        "monitoring.tf",
        ("  notification_channels    = var.notification_channels\n", "", WHO, "sized"),
        ("  billing_account          = var.billing_account\n", "", BILL, "sized"),
        (
            "oldest_unacked_seconds   = var.oldest_unacked_seconds",
            "oldest_unacked_seconds   = var.oldest_unacked_seconds * 100",
            WHEN,
        ),
        ("  error_ratio              = var.error_ratio\n", "", "variables_arrive", "sized"),
    ),
    *_at(
        "modules/monitoring/main.tf",
        ('combiner              = "OR"', 'combiner              = "AND"', WHEN),
        ("query} < ${", "query} > ${", WHEN),
        ('auto_close = "86400s"', 'auto_close = "1800s"', WHEN),
        ("notification_channels = var.notification_channels", "notification_channels = []", WHO, "sized"),
        ("[0.5, 0.9, 1.0]", "[1.0]", BILL, "sized"),
    ),
    *_at(
        "modules/monitoring/alerts.tf",
        (
            SEEN,
            SEEN.removesuffix("0") + "1000",
            WHEN,
        ),
        ('"cloud_run_job"] :', '"cloud_run_worker_pool"] :', WHEN),
        ("}[10m])", "}[1d])", WHEN),
        ("threshold = 2\n", "threshold = 1000\n", WHEN),
        ("var.database_max_connections * 0.9", "var.database_max_connections * 90", WHEN),
        (
            'recover_type  = "resource.type=\\"cloud_run_revision\\""',
            'recover_type  = "resource.type=\\"cloud_run_worker_pool\\""',
            WHEN,
        ),
        ("less_than = 1", "less_than = 0", WHEN),
        ('group_by  = ["resource.label.subscription_id"]', "group_by  = []", WHEN),
    ),
    *_at(
        "main.tf",
        (
            "location        = coalesce(var.bucket_location, var.region)",
            "location        = var.region",
            BUCKET,
            "sized",
        ),
        ("noncurrent_days = var.noncurrent_days", "noncurrent_days = 30", "variables_arrive", "sized"),
    ),
    *_at("versions.tf", ('merge({ app = "headrace" }, var.labels)', '{ app = "headrace" }', "variables_arrive")),
]
