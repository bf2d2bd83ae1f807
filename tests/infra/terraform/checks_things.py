"""The things that hold data or carry it, in any plan, each compared as a whole: bucket, registry, database, network.

A table says why a value is what it is. What a variable of the root says is read from the plan's own variables.
"""

from __future__ import annotations

from typing import Any

from services.ingest.notification import EVENT_TYPES
from shared.postgres.migrate import MINIMUM_SERVER_VERSION
from shared.pubsub import topics
from tests.infra.terraform.checks import PROJECT, check
from tests.infra.terraform.plan import Plan, Resource, same, stated

DAY_SECONDS = 24 * 3600

# What Cloud SQL encrypts with is named by a_key_of_our_own_encrypts_everything, and so for the others.
KEYS = {"kms_key_name", "encryption", "encryption_key_name"}


def _said_by(one: Resource) -> dict[str, Any]:
    said: dict[str, Any] = stated(one.values)
    return {name: value for name, value in said.items() if name not in KEYS}


def _protected(plan: Plan) -> str:
    return "PREVENT" if plan.given["deletion_protection"] else "DELETE"


def _bucket(plan: Plan) -> dict[str, Any]:
    given = plan.given
    unfinished = {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}
    # Only what was overwritten or deleted before, and only where such are kept: nothing that lives is ever removed.
    old = {
        "action": {"type": "Delete"},
        "condition": {"days_since_noncurrent_time": given["noncurrent_days"], "with_state": "ARCHIVED"},
    }
    said = {
        "project": PROJECT,
        "name": given["bucket"] or f"{PROJECT}-uploads",
        "location": given["bucket_location"] or given["region"],
        "uniform_bucket_level_access": True,  # nobody reaches an object but through a policy
        "public_access_prevention": "enforced",
        "force_destroy": False,
        "deletion_policy": _protected(plan),
        "versioning": {"enabled": given["bucket_versioning"]},
        "soft_delete_policy": {"retention_duration_seconds": 7 * DAY_SECONDS},
        "lifecycle_rule": [unfinished, old] if given["bucket_versioning"] else unfinished,
    }
    if given["cors_origins"]:
        said["cors"] = {
            "origin": given["cors_origins"],
            "method": ["PUT", "POST", "OPTIONS"],  # one upload, a resumable one, and what a browser asks before
            "response_header": [
                *("Content-Type", "Content-MD5"),  # what it is, and that it came whole
                *("Content-Range", "Location", "Range", "x-goog-resumable"),  # how it goes on
                *("x-goog-content-length-range", "x-goog-if-generation-match", "x-goog-hash"),  # what it must be
                *("x-goog-meta-organization-id", "x-goog-meta-user-id"),  # whose it is
            ],
            "max_age_seconds": 3600,
        }
    return said


@check
def the_bucket_is_closed(plan: Plan) -> None:
    """Nobody reaches an object but through a policy, no rule removes one that lives, and named pages may upload."""
    same(_said_by(plan.one("google_storage_bucket")), _bucket(plan))


@check
def the_bucket_tells_ingest(plan: Plan) -> None:
    """Every event that ingest knows is notified, for all objects, to its topic, in the form that it reads."""
    expected = {
        "bucket": plan.one("google_storage_bucket")["name"],
        "topic": topics.topic_path(PROJECT, topics.UPLOADS),
        "payload_format": "JSON_API_V1",
        "event_types": sorted(EVENT_TYPES),
    }
    same(_said_by(plan.one("google_storage_notification")), expected)


@check
def releases_stay_in_the_registry(plan: Plan) -> None:
    """A tag means one image for good, and what is cleaned away is neither tagged nor among the last releases."""
    expected = {
        "project": PROJECT,
        "location": plan.given["region"],
        "repository_id": "headrace",
        "description": "Images of Headrace, one per service.",
        "format": "DOCKER",
        "mode": "STANDARD_REPOSITORY",
        "docker_config": {"immutable_tags": True},
        "cleanup_policies": [
            # Tagged images are never removed: whoever goes back a release needs them.
            {
                "id": "remove-untagged",
                "action": "DELETE",
                "condition": {"tag_state": "UNTAGGED", "older_than": f"{30 * DAY_SECONDS}s"},
            },
            {"id": "keep-releases", "action": "KEEP", "most_recent_versions": {"keep_count": 20}},
        ],
    }
    same(_said_by(plan.one("google_artifact_registry_repository")), expected)


def _instance(plan: Plan) -> dict[str, Any]:
    given = plan.given
    flags = {
        "cloudsql.iam_authentication": "on",  # there are no passwords
        "maintenance_work_mem": str(given["database_maintenance_memory_mib"] * 1024),  # in kB
        "max_connections": str(given["database_max_connections"]),
        "max_parallel_maintenance_workers": "2",
    }
    address = {"ipv4_enabled": False, "ssl_mode": "ENCRYPTED_ONLY"}  # no public one, and nobody in the clear
    if given["network"] is not None:
        address["private_network"] = given["network"]["network_id"]
    return {
        "project": PROJECT,
        "region": given["region"],
        "name": "headrace-postgres",
        "database_version": given["database_version"],
        "deletion_protection": given["deletion_protection"],
        "settings": {
            "tier": given["database_tier"],
            "edition": given["database_edition"],
            "availability_type": given["database_available"],
            "disk_type": "PD_SSD",
            "disk_size": given["database_disk_gib"],
            "disk_autoresize": True,  # a full disk stops everything
            "deletion_protection_enabled": given["deletion_protection"],
            "retain_backups_on_delete": True,
            "ip_configuration": address,
            "backup_configuration": {
                "enabled": True,
                "start_time": "03:00",
                "point_in_time_recovery_enabled": True,
                "transaction_log_retention_days": given["database_log_days"],
                "backup_retention_settings": {"retained_backups": given["database_backups_kept"]},
            },
            "maintenance_window": {"day": 7, "hour": 4, "update_track": "stable"},  # after the backup
            "insights_config": {"query_insights_enabled": True, "record_application_tags": True},
            "database_flags": [{"name": name, "value": value} for name, value in flags.items()],
        },
    }


@check
def the_database_is_private_and_copied(plan: Plan) -> None:
    """One private address, encrypted connections, no passwords, backups, and every second of some days."""
    instance = plan.one("google_sql_database_instance")
    assert int(instance["database_version"].removeprefix("POSTGRES_")) * 10_000 >= MINIMUM_SERVER_VERSION
    assert instance["settings"][0]["ip_configuration"][0]["private_network"], "with the network that is made, too"
    same(_said_by(instance), _instance(plan))


def expected_network(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return what is made of the network, by address: nothing where one is named that is peered already."""
    there = plan.given["network"]
    made: dict[str, dict[str, Any]] = {}
    if there is None:
        made['google_compute_network.this["network"]'] = {
            "project": PROJECT,
            "name": "headrace-network",
            "auto_create_subnetworks": False,  # a subnetwork in every region would take ranges that people need
            "network_firewall_policy_enforcement_order": "AFTER_CLASSIC_FIREWALL",
        }
        made['google_compute_subnetwork.run["network"]'] = {
            "project": PROJECT,
            "region": plan.given["region"],
            "name": "headrace-run",
            "ip_cidr_range": plan.given["subnetwork_range"],
            "private_ip_google_access": True,  # Google's APIs, without a way to the world
        }
    if there is None or not there.get("peered", True):
        joined = {} if there is None else {"network": there["network_id"]}
        made['google_compute_global_address.services["peering"]'] = {
            "project": PROJECT,
            "name": "headrace-services",
            "purpose": "VPC_PEERING",
            "address_type": "INTERNAL",
            "prefix_length": 20,  # Google takes a /24 for each region and kind of service: no less than 16 of them
            **joined,
        }
        made['google_service_networking_connection.this["peering"]'] = {
            "service": "servicenetworking.googleapis.com",
            "reserved_peering_ranges": ["headrace-services"],
            "deletion_policy": "ABANDON",  # Google's side stays for days after a database, and cannot be taken down
            **joined,
        }
    return made


@check
def the_network_is_made_or_taken(plan: Plan) -> None:
    """A network is made with room and its peering, unless there is one; then only a peering that it lacks."""
    module = "module.network."
    made = {one.address.removeprefix(module): one for one in plan.resources if one.address.startswith(module)}
    expected = expected_network(plan)
    assert made.keys() == expected.keys()
    for address, one in made.items():
        same(_said_by(one), expected[address], address)
