"""What has to be there before what: read from what is written, since a plan has no order to look at.

Terraform finds most of it by itself, in references. What nothing refers to (an API, a right, a peering) is waited for
only where that is written, and without it the first `apply` fails, or worse, succeeds with a service that may nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.infra.terraform.checks import check
from tests.infra.terraform.plan import Plan, same

WAITS = {
    # Cloud Storage tries the topic when the notification is made.
    "storage.google_storage_notification.this": [
        "google_pubsub_topic_iam_member.notifies",
        "google_storage_bucket_iam_member.this",  # ... and nobody is told of objects that they cannot read yet
    ],
    # A revision that cannot log in does not start.
    "database.output.urls": ["google_project_iam_member.logs_in", "google_sql_user.this"],
    # What runs as an account calls models and sends telemetry from its first second on.
    "identity.output.emails": ["google_project_iam_member.this"],
    # Who pulls takes work at once, and refers to no subscription.
    "module.process_pool": ["module.messaging", "module.storage"],
    # Whatever names the key encrypts with it at once, as an agent that has to be allowed to.
    "cmek.output.key_id": ["google_kms_crypto_key_iam_member.uses"],
    # Nothing can be made of an API that is not enabled.
    "project.output.project_id": ["google_project_service.this"],
    # A private address comes out of the peering.
    "network.output.network_id": ["google_service_networking_connection.this"],
    # A revision whose account may not read its secret does not start.
    "secrets.output.references": ["google_secret_manager_secret_iam_member.reads"],
}


def _waits(module: dict[str, Any], path: str = "") -> Iterator[tuple[str, list[str]]]:
    for resource in module.get("resources", []):
        yield path + resource["address"], resource.get("depends_on", [])
    for name, output in module.get("outputs", {}).items():
        yield f"{path}output.{name}", output.get("depends_on", [])
    for name, call in module.get("module_calls", {}).items():
        yield f"{path}module.{name}", call.get("depends_on", [])
        yield from _waits(call["module"], f"{path}{name}.")


@check
def what_nothing_refers_to_is_waited_for(plan: Plan) -> None:
    """Who waits for what without using it is the whole table: none is missing, and each has a reason."""
    written = {name: sorted(waits) for name, waits in _waits(plan.configuration["root_module"]) if waits}
    same(written, WAITS)


@check
def modules_wait_for_the_apis(plan: Plan) -> None:
    """Every module but the one that enables them takes the project from there, and hands it to all that it makes."""
    for name, call in plan.configuration["root_module"]["module_calls"].items():
        said = call["expressions"]["project_id"].get("references", [])
        assert ("module.project.project_id" in said) is (name != "project"), name
        for resource in call["module"].get("resources", []):
            project = resource["expressions"].get("project")
            if resource["mode"] == "managed" and project is not None:
                assert project.get("references") == ["var.project_id"], f"{name}.{resource['address']}"
