"""Mistakes that somebody could make in the root, each a change of one line, and what finds it."""

from __future__ import annotations

from tests.infra.terraform.mistake import REFUSED, Mutation


def _in(module: str, *mistakes: tuple[str, ...]) -> list[Mutation]:
    return [Mutation(f"modules/{module}/main.tf", *mistake) for mistake in mistakes]


MUTATIONS = [
    *_in(
        "messaging",
        ('["uploads", "work", "stages"', '["uploads", "works", "stages"', REFUSED),
        ('"dead-letters", "replay"]', '"dead-letters", "replay", "audit"]', "topics_are_those_of_the_code"),
        (
            'topic = "uploads", ack_deadline = 60',
            'topic = "replay", ack_deadline = 60',
            "subscriptions_are_those_of_the_code",
        ),
        (
            'topic = "work", ack_deadline = 60',
            'topic = "work", ack_deadline = 10',
            "subscriptions_are_those_of_the_code",
        ),
        ('lane = \\"bulk\\"', 'lane = \\"interactive\\"', "subscriptions_are_those_of_the_code"),
        ("= var.kms_key", "= null", "a_key_of_our_own_encrypts_everything", "full"),
        ("ordering = true", "ordering = false", "subscriptions_are_those_of_the_code"),
        ("retention = 31 * local.day", "retention = 7 * local.day", "subscriptions_are_those_of_the_code"),
        ('ttl = ""', 'ttl = "2678400s"', "subscriptions_are_those_of_the_code"),
        ('minimum_backoff = "10s"', 'minimum_backoff = "100s"', "subscriptions_are_those_of_the_code"),
        ("attempts = 10, filter", "attempts = 5, filter", "what_fails_too_often_is_dead_lettered"),
        ("attempts = 10, filter", "attempts = 3, filter", REFUSED),
        ('local.topic_ids["dead-letters"]', 'local.topic_ids["replay"]', "what_fails_too_often_is_dead_lettered"),
        ("for_each     = local.dead_lettering", "for_each     = {}", "what_fails_too_often_is_dead_lettered"),
        (
            'topic   = google_pubsub_topic.this["dead-letters"].name',
            'topic   = google_pubsub_topic.this["replay"].name',
            "what_fails_too_often_is_dead_lettered",
        ),
        ("audience              = push_config.value.audience", "", "pushes_prove_themselves"),
        (
            'deletion_policy = var.deletion_protection ? "PREVENT"',
            'deletion_policy = var.deletion_protection ? "DELETE"',
            "what_holds_data_is_not_destroyed",
        ),
    ),
    *_in(
        "storage",
        (
            'public_access_prevention    = "enforced"',
            'public_access_prevention    = "inherited"',
            "the_bucket_is_closed",
        ),
        ("uniform_bucket_level_access = true", "uniform_bucket_level_access = false", "the_bucket_is_closed"),
        ('type = "AbortIncompleteMultipartUpload"', 'type = "Delete"', "the_bucket_is_closed"),
        (
            "days_since_noncurrent_time = lifecycle_rule.value",
            "age = lifecycle_rule.value",
            "the_bucket_is_closed",
            "full",
        ),
        ('"OBJECT_DELETE", ', "", "the_bucket_tells_ingest"),
        ('"JSON_API_V1"', '"NONE"', "the_bucket_tells_ingest"),
        ("member  = var.storage_agent", 'member  = "allUsers"', "nothing_is_public"),
    ),
    *_in(
        "database",
        ("ipv4_enabled    = false", "ipv4_enabled    = true", "the_database_is_private_and_copied"),
        ('"ENCRYPTED_ONLY"', '"ALLOW_UNENCRYPTED_AND_ENCRYPTED"', "the_database_is_private_and_copied"),
        (
            "point_in_time_recovery_enabled = true",
            "point_in_time_recovery_enabled = false",
            "the_database_is_private_and_copied",
        ),
        (
            '"cloudsql.iam_authentication" = "on"',
            '"cloudsql.iam_authentication" = "off"',
            "the_database_is_private_and_copied",
        ),
        (
            '"max_connections"             = tostring(var.max_connections)',
            '"max_connections"             = "100"',
            "the_database_has_room_for_every_pool",
        ),
        ("each.key == var.owner ?", "each.key != var.owner ?", "users_are_the_service_accounts"),
        ('"CLOUD_IAM_SERVICE_ACCOUNT"', '"BUILT_IN"', "users_are_the_service_accounts"),
        ("instances/${google_sql_database_instance.this.name}", "instances/", "logins_are_bound_to_the_instance"),
        (
            "deletion_protection = var.deletion_protection",
            "deletion_protection = false",
            "what_holds_data_is_not_destroyed",
        ),
        ("roles/cloudsql.instanceUser", "roles/cloudsql.admin", "each_account_has_exactly_its_rights"),
    ),
    *_in(
        "service",
        ("custom_audiences    = [var.name]", "", REFUSED),
        ('path = "/readyz"', 'path = "/"', "instances_are_probed_and_bounded"),
        ('path = "/livez"', 'path = "/readyz"', "instances_are_probed_and_bounded"),
        (
            "cpu_idle          = !var.always_on",
            "cpu_idle          = true",
            "instances_are_probed_and_bounded",
            "turned",
        ),
        ("EXECUTION_ENVIRONMENT_GEN2", "EXECUTION_ENVIRONMENT_GEN1", "instances_are_probed_and_bounded"),
        ("ingress             = var.ingress", 'ingress             = "INGRESS_TRAFFIC_ALL"', "nothing_is_public"),
        (
            "deletion_protection = false",
            "deletion_protection = false\n  invoker_iam_disabled = true",
            "nothing_is_public",
        ),
        ('role     = "roles/run.invoker"', 'role     = "roles/run.admin"', "each_account_has_exactly_its_rights"),
    ),
    *_in(
        "identity",
        (
            '"roles/iam.serviceAccountOpenIdTokenCreator"',
            '"roles/iam.serviceAccountTokenCreator"',
            "each_account_has_exactly_its_rights",
        ),
        (
            "service_account_id = local.ids[var.push_account]",
            'service_account_id = local.ids["migrate"]',
            "each_account_has_exactly_its_rights",
        ),
    ),
    *_in("worker", ('{ PORT = "8080" }', "{}", "environments_say_what_was_asked")),
    *_in(
        "schedule",
        ("retry_count = 0", "retry_count = 3", "recover_is_bounded_as_the_code_is"),
        ('http_method = "POST"', 'http_method = "GET"', "recover_is_bounded_as_the_code_is"),
    ),
    *_in(
        "secrets",
        ("secret_data_wo         = var.values[each.key]", "secret_data = var.values[each.key]", REFUSED, "full"),
    ),
    *_in("registry", ("immutable_tags = true", "immutable_tags = false", "releases_stay_in_the_registry")),
    *_in("project", ("disable_on_destroy = false", "disable_on_destroy = true", "apis_are_enabled_and_left_alone")),
    *_in(
        "network", ("auto_create_subnetworks = false", "auto_create_subnetworks = true", "the_network_is_made_or_taken")
    ),
    *(
        Mutation("main.tf", *mistake)
        for mistake in (
            (
                '"roles/storage.objectViewer" = { for name in ["ingest",',
                '"roles/storage.admin" = { for name in ["ingest",',
                "each_account_has_exactly_its_rights",
            ),
            (
                'stages       = { for name in ["ingest", "process", "recover"]',
                'stages       = { for name in ["api", "recover"]',
                "each_account_has_exactly_its_rights",
            ),
            ('toset(["api", "process"])', 'toset(["api", "process", "ingest"])', "each_account_has_exactly_its_rights"),
            ('"iamcredentials.googleapis.com",', "", "apis_are_enabled_and_left_alone"),
            (
                "{ work-interactive = local.pushed.process, work-bulk = local.pushed.process }",
                "{ work-interactive = local.pushed.process }",
                "pushes_prove_themselves",
                "turned",
            ),
        )
    ),
    *(
        Mutation("services.tf", *mistake)
        for mistake in (
            ("PROCESS_CONCURRENCY  = ", "PROCESS_CONCURRENCE  = ", "environments_are_settings"),
            ("GOOGLE_CLOUD_PROJECT_ID = var.project_id", "", "environments_are_settings"),
            ('LOG_FORMAT              = "json"', 'LOG_FORMAT              = "text"', "environments_are_settings"),
            (
                'HTTP_HOST               = "0.0.0.0"',
                'HTTP_HOST               = "127.0.0.1"',
                "environments_say_what_was_asked",
            ),
            ('DATABASE_IAM_AUTH       = "true"', 'DATABASE_IAM_AUTH       = "false"', "environments_are_settings"),
            ("recover_seconds   = 540", "recover_seconds   = 300", "recover_is_bounded_as_the_code_is"),
            ("scheduler_seconds = 600", "scheduler_seconds = 180", "recover_is_bounded_as_the_code_is"),
            (
                "timeout_seconds = local.stream_seconds + 60",
                "timeout_seconds = 300",
                "requests_may_take_as_long_as_the_work",
            ),
            ("push_seconds = 600", "push_seconds = 60", "subscriptions_are_those_of_the_code"),
            (
                "service_account = module.identity.emails.ingest",
                "service_account = module.identity.emails.process",
                "each_service_has_an_account_of_its_own",
            ),
            ('"headrace_${name}" => [', '"${name}" => [', "environments_say_what_was_asked"),
            (
                "${local.images}/recover:${var.image_tag}",
                "${local.images}/recover:latest",
                "each_workload_runs_its_image",
            ),
            (
                '["python", "-m", "services.recover", "--once"]',
                '["python", "-m", "services.recovery", "--once"]',
                "each_workload_runs_its_image",
            ),
            (
                "env             = local.recover_env",
                "env             = merge(local.recover_env, local.platform_verifies)",
                "environments_are_settings",
            ),
            (
                "module.identity.emails.scheduler]) })",
                "module.identity.emails.push]) })",
                "environments_say_what_was_asked",
            ),
            ("secret_env      = local.model_secrets", "", "models_are_reached_as_asked", "full"),
        )
    ),
    *(
        Mutation("monitoring.tf", *mistake, "turned")
        for mistake in (
            (", [for service in module.process_push : service.name]", "", "alerts_say_when"),
            ('? "cloud_run_revision"', '? "cloud_run_worker_pool"', "alerts_say_when"),
            ("module.messaging.taken_by_services", "keys(module.messaging.subscription_names)", "alerts_say_when"),
            ("var.runbook_base_url", '"https://elsewhere.example/page.md"', "operators_are_told"),
        )
    ),
]


WIRING = [
    Mutation("modules/messaging/main.tf", ".uri}/push/${each.key}", ".uri}/${each.key}", "wiring.tftest.hcl"),
    Mutation("modules/schedule/main.tf", '"${var.uri}/"', '"${var.uri}/health"', "wiring.tftest.hcl"),
    Mutation("modules/database/outputs.tf", "sslmode=require", "sslmode=disable", "wiring.tftest.hcl"),
    Mutation("services.tf", "{ uri = module.ingest.uri,", "{ uri = module.recover.uri,", "wiring.tftest.hcl"),
]
"""Mistakes that only show once everything is made: found by the root's own test of that."""
