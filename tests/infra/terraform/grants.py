"""Who may do what: the whole table, thing by thing. A right that is not here is one too many."""

from __future__ import annotations

Grant = tuple[str, str, str, str]

BUCKET = ("storage_bucket", "demo-project-uploads")
PROJECT = ("project", "demo-project")
LATER = "(known when it is applied)"


def _topic(name: str) -> tuple[str, str]:
    return "pubsub_topic", f"headrace-{name}"


def _subscription(name: str) -> tuple[str, str]:
    return "pubsub_subscription", f"headrace-{name}"


def _service(name: str) -> tuple[str, str]:
    return "cloud_run_v2_service", f"headrace-{name}"


def _account(name: str) -> tuple[str, str]:
    path = f"projects/demo-project/serviceAccounts/headrace-{name}@demo-project.iam.gserviceaccount.com"
    return "service_account", path


LOGS_IN = (*PROJECT, "roles/cloudsql.instanceUser")
RELAYS = {(*_topic(name), "roles/pubsub.publisher") for name in ("uploads", "work", "stages", "dead-letters")}
READS = (*BUCKET, "roles/storage.objectViewer")

ALWAYS = {
    "api": {
        LOGS_IN,
        READS,
    },
    "ingest": {LOGS_IN, READS, *RELAYS},
    "process": {LOGS_IN, READS, *RELAYS},
    "recover": {LOGS_IN, READS, *RELAYS, (*_subscription("dead-letters-intake"), "roles/pubsub.subscriber")},
    "migrate": {LOGS_IN},
    "push": {(*_service("recover"), "roles/run.invoker")},
    "scheduler": {(*_service("recover"), "roles/run.invoker")},
}

TELEMETRY = {(*PROJECT, "roles/telemetry.tracesWriter"), (*PROJECT, "roles/telemetry.metricsWriter")}
VERTEX = (*PROJECT, "roles/aiplatform.user")
BY_VERTEX_AND_GOOGLE = {
    "api": {*TELEMETRY, VERTEX},
    "ingest": TELEMETRY,
    "process": {*TELEMETRY, VERTEX},
    "recover": TELEMETRY,
}

BY_VERTEX = {"api": {VERTEX}, "process": {VERTEX}}

PROCESS_PULLS = {
    "process": {(*_subscription(lane), "roles/pubsub.subscriber") for lane in ("work-interactive", "work-bulk")}
}
INGEST_PULLS = {"ingest": {(*_subscription("uploads-ingest"), "roles/pubsub.subscriber")}}
PROCESS_IS_PUSHED = {"push": {(*_service("process"), "roles/run.invoker")}}
INGEST_IS_PUSHED = {"push": {(*_service("ingest"), "roles/run.invoker")}}

SECRET = ("secret_manager_secret", "headrace-gemini-api-key", "roles/secretmanager.secretAccessor")
BY_KEY = {"api": {SECRET}, "process": {SECRET}}

SERVICES: dict[str, tuple[dict[str, set[tuple[str, str, str]]], ...]] = {
    "default": (ALWAYS, BY_VERTEX_AND_GOOGLE, PROCESS_PULLS, INGEST_IS_PUSHED),
    "turned": (ALWAYS, BY_VERTEX_AND_GOOGLE, INGEST_PULLS, PROCESS_IS_PUSHED),
    "full": (ALWAYS, BY_KEY, PROCESS_PULLS, INGEST_IS_PUSHED),
    "sized": (ALWAYS, BY_VERTEX, PROCESS_PULLS, INGEST_IS_PUSHED),
}

# The stand-in's answers to what the project's number and its storage agent are.
_AGENT = "serviceAccount:service-stub-data-google_project-number@{}.iam.gserviceaccount.com"
PUBSUB = _AGENT.format("gcp-sa-pubsub")
STORAGE = "serviceAccount:stub-data-google_storage_project_service_account-email_address"

AGENTS: set[Grant] = {
    (STORAGE, *_topic("uploads"), "roles/pubsub.publisher"),
    (PUBSUB, *_topic("dead-letters"), "roles/pubsub.publisher"),
    *(
        (PUBSUB, *_subscription(name), "roles/pubsub.subscriber")
        for name in ("uploads-ingest", "work-interactive", "work-bulk", "replay-recover")
    ),
    (PUBSUB, *_account("push"), "roles/iam.serviceAccountOpenIdTokenCreator"),
}

OPERATORS, PEOPLE = "group:operators@example.com", "group:people@example.com"
SCALERS, SCALER = "group:on-call@example.com", "projects/demo-project/roles/headrace_scaler"
SUBSCRIPTIONS = (
    "uploads-ingest", "work-interactive", "work-bulk", "stages-watch", "dead-letters-intake", "dead-letters-inspect",
    "replay-recover",
)  # fmt: skip
NAMED: set[Grant] = {
    (OPERATORS, *_topic("replay"), "roles/pubsub.publisher"),
    *(
        (OPERATORS, *_subscription(name), "projects/demo-project/roles/headrace_subscription_operator")
        for name in SUBSCRIPTIONS
    ),
    (OPERATORS, *PROJECT, "projects/demo-project/roles/headrace_operator"),
    (OPERATORS, *PROJECT, "roles/logging.viewer"),
    (OPERATORS, *PROJECT, "roles/monitoring.viewer"),
    (OPERATORS, *_account("push"), "roles/iam.serviceAccountUser"),  # to give a push its endpoint back
    (OPERATORS, *_service("api"), "roles/run.invoker"),
    *((SCALERS, *_service(name), SCALER) for name in ("api", "ingest", "recover")),
    (SCALERS, "cloud_run_v2_worker_pool", "headrace-process", SCALER),
    *((SCALERS, *_account(name), "roles/iam.serviceAccountUser") for name in ("api", "ingest", "process", "recover")),
    (SCALERS, "artifact_registry_repository", "headrace", "roles/artifactregistry.reader"),
    (OPERATORS, "cloud_run_v2_job", "headrace-recover-once", "roles/run.invoker"),
    (OPERATORS, "cloud_run_v2_job", "headrace-migrate", "roles/run.invoker"),
    ("serviceAccount:web@demo-project.iam.gserviceaccount.com", *_service("api"), "roles/run.invoker"),
    (PEOPLE, "iap_web_cloud_run_service", "headrace-api", "roles/iap.httpsResourceAccessor"),
    (_AGENT.format("gcp-sa-iap"), *_service("api"), "roles/run.invoker"),
    (
        "serviceAccount:build@demo-project.iam.gserviceaccount.com",
        "artifact_registry_repository",
        "headrace",
        "roles/artifactregistry.writer",
    ),
    *(
        (agent, "kms_crypto_key", LATER, "roles/cloudkms.cryptoKeyEncrypterDecrypter")
        for agent in (
            STORAGE,
            PUBSUB,
            *(
                _AGENT.format(name)
                for name in (
                    "serverless-robot-prod",
                    "gcp-sa-cloud-sql",
                    "gcp-sa-artifactregistry",
                    "gcp-sa-secretmanager",
                )
            ),
        )
    ),
}


def expected_grants(variant: str, bucket: str) -> set[Grant]:
    """Return who may do what in a variant, whose bucket may have a name of its own."""
    services = {
        (f"serviceAccount:headrace-{name}@demo-project.iam.gserviceaccount.com", *grant)
        for table in SERVICES[variant]
        for name, grants in table.items()
        for grant in grants
    }
    table = services | AGENTS | (NAMED if variant == "full" else set())
    return {(member, kind, bucket if thing == BUCKET[1] else thing, role) for member, kind, thing, role in table}
