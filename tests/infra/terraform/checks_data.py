"""What must hold of the data in any plan: bucket, database, secrets, keys, network; and that none is destroyed."""

from __future__ import annotations

from tests.infra.terraform.checks import PROJECT, SETTINGS, check
from tests.infra.terraform.plan import UNKNOWN, Plan, Resource
from tests.infra.terraform.runner import KEY


@check
def users_are_the_service_accounts(plan: Plan) -> None:
    """Who logs in is an account, without a password; one of them only may become the owner."""
    users = plan.named("google_sql_user")
    assert users.keys() == {f"headrace-{name}@{PROJECT}.iam" for name in SETTINGS}
    for name, user in users.items():
        assert user["type"] == "CLOUD_IAM_SERVICE_ACCOUNT", name
        assert user["password"] is None, name
        owns = ["cloudsqlsuperuser"] if name.startswith("headrace-migrate@") else None
        assert user["database_roles"] == owns, name
        assert user["deletion_policy"] == "ABANDON", name
    assert plan.one("google_sql_database")["name"] == "headrace"


@check
def the_database_has_room_for_every_pool(plan: Plan) -> None:
    """max_connections is at least what all pools of all instances may open at once, releases in change included."""
    needed = 0
    for one in plan.workloads.values():
        if one.service == "migrate":
            continue
        instances = {
            "service": lambda one=one: one.resource.block("scaling")["max_instance_count"],
            "worker pool": lambda one=one: 2 * one.resource.block("scaling")["manual_instance_count"],
            "job": lambda: 1,
        }[one.kind]()
        needed += int(one.env["DATABASE_POOL_SIZE"]) * instances
    (settings,) = plan.one("google_sql_database_instance")["settings"]
    flags = {flag["name"]: flag["value"] for flag in settings["database_flags"]}
    assert int(flags["max_connections"]) >= needed + 15


@check
def what_holds_data_is_not_destroyed(plan: Plan) -> None:
    """A plan that would remove data, or messages that are on their way, is refused, unless that is asked for."""
    protected = plan.given["deletion_protection"]
    kinds = ("google_storage_bucket", "google_pubsub_topic", "google_pubsub_subscription", "google_sql_database")
    for kind in (*kinds, "google_kms_crypto_key"):
        for one in plan.of(kind).values():
            assert one["deletion_policy"] == ("PREVENT" if protected else "DELETE"), one.address
    for secret in plan.of("google_secret_manager_secret").values():
        assert secret["deletion_protection"] is protected
    instance = plan.one("google_sql_database_instance")
    assert instance["deletion_protection"] is protected
    assert instance["settings"][0]["deletion_protection_enabled"] is protected
    assert instance["settings"][0]["retain_backups_on_delete"] is True


@check
def models_are_reached_as_asked(plan: Plan) -> None:
    """By the service account, or by a key out of Secret Manager that is in no plan; only where models are called."""
    full = plan.given["model_access"] == "api_key"
    assert KEY not in plan.text
    for name, one in plan.workloads.items():
        calls = one.service in {"api", "process"}
        # The latest: a key that was replaced arrives with the next instance, without a plan.
        newest = {"secret": "headrace-gemini-api-key", "version": "latest"}
        assert one.secrets == ({"GEMINI_API_KEY": newest} if full and calls else {}), name
        assert (one.env.get("EMBEDDER") == "gemini") is calls, name
    secrets = plan.of("google_secret_manager_secret_version").values()
    assert len(secrets) == full
    for secret in secrets:
        assert secret["secret_data"] is None
    apis = {one["service"] for one in plan.of("google_project_service").values()}
    assert ("aiplatform.googleapis.com" in apis) is not full


def _key_of(secret: Resource) -> str | None:
    (replica,) = secret.block("replication", "user_managed")["replicas"]
    assert replica["location"] == "us-central1"
    return next((one["kms_key_name"] for one in replica["customer_managed_encryption"]), None)


@check
def a_key_of_our_own_encrypts_everything(plan: Plan) -> None:
    """With it, all that holds data names it; without, nothing does."""
    keys = {
        **{one.address: one["kms_key_name"] for one in plan.of("google_pubsub_topic").values()},
        **{one.address: _key_of(one) for one in plan.of("google_secret_manager_secret").values()},
        **{name: one.template["encryption_key"] for name, one in plan.workloads.items()},
        "bucket": next((one["default_kms_key_name"] for one in plan.one("google_storage_bucket")["encryption"]), None),
        "registry": plan.one("google_artifact_registry_repository")["kms_key_name"],
        "database": plan.one("google_sql_database_instance")["encryption_key_name"],
    }
    own = plan.given["cmek"]
    if own:
        path = f"projects/{PROJECT}/locations/us-central1/keyRings/headrace-keys/cryptoKeys/data"
        assert set(keys.values()) == {path}, keys
    else:
        assert keys.pop("database") == UNKNOWN, "the provider fills it in"
        assert set(keys.values()) == {None}, keys
    assert len(plan.of("google_kms_crypto_key")) == own
    for key in plan.of("google_kms_crypto_key").values():
        assert key["rotation_period"] == "7776000s"


@check
def apis_are_enabled_and_left_alone(plan: Plan) -> None:
    """Each API whose resources are made is enabled, and none is disabled again."""
    made = plan.of("google_project_service").values()
    assert all(one["disable_on_destroy"] is False for one in made)
    enabled = {one["service"].removesuffix(".googleapis.com") for one in made}
    needed = {
        "google_pubsub_": "pubsub", "google_storage_": "storage", "google_sql_": "sqladmin", "google_cloud_run_": "run",
        "google_cloud_scheduler_": "cloudscheduler", "google_secret_manager_": "secretmanager",
        "google_artifact_registry_": "artifactregistry", "google_compute_": "compute", "google_kms_": "cloudkms",
        "google_service_networking_": "servicenetworking", "google_service_account": "iam", "google_iap_": "iap",
        "google_monitoring_": "monitoring", "google_logging_": "logging", "google_billing_": "billingbudgets",
    }  # fmt: skip
    for one in plan.resources:
        api = next((api for prefix, api in needed.items() if one.type.startswith(prefix)), None)
        assert api is not None or one.type.startswith("google_project_"), one.type
        assert api is None or api in enabled, one.address
    assert "iamcredentials" in enabled, "addresses of uploads are signed through it"
