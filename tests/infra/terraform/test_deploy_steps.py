"""The steps of docs/deploy.md, planned in their order: each makes what the next one needs, and nothing too early."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from tests.architecture.repository import ROOT
from tests.infra.terraform.plan import Plan
from tests.infra.terraform.runner import REQUIRED, Terraform

PAGE = (ROOT / "docs" / "deploy.md").read_text()


def applied(tf: Terraform, number: int) -> set[str]:
    """Return the types of what the first `terraform apply` of a step would make in an empty project."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)[number]
    assert section.startswith(f"{number}. ")
    (command,) = re.findall(r"^terraform apply((?:.*\\\n)*.*)$", section, re.MULTILINE)
    root = tf.root()
    given = root / "given.auto.tfvars.json"
    given.write_text(json.dumps(REQUIRED))
    try:
        options = ("-input=false", "-refresh=false", "-lock=false", "-out=step.tfplan")
        tf.run(root, "plan", *options, *re.findall(r"-target=\S+", command))
        shown = json.loads(tf.run(root, "show", "-json", "step.tfplan"))
    finally:
        given.unlink()
    return {one.type for one in Plan(shown, "default").resources}


def test_the_second_step_makes_registry_database_and_metrics_only(
    tf: Terraform, plan_of: Callable[[str], Plan]
) -> None:
    """What needs images, or metrics that are known, is left for later; its targets exist."""
    made = applied(tf, 2)
    assert {
        "google_artifact_registry_repository",
        "google_sql_database_instance",
        "google_sql_user",
        "google_logging_metric",
        "google_project_service",
        "google_service_account",
    } <= made
    early = {kind for kind in made if kind.startswith(("google_cloud_run", "google_monitoring", "google_pubsub"))}
    assert early == set()


def test_the_fourth_step_makes_the_migration_job_and_no_service(tf: Terraform, plan_of: Callable[[str], Plan]) -> None:
    """The schema is there before anybody reads it."""
    made = applied(tf, 4)
    assert "google_cloud_run_v2_job" in made
    assert made.isdisjoint({"google_cloud_run_v2_service", "google_cloud_run_v2_worker_pool"})


def test_the_fifth_step_makes_everything(tf: Terraform, plan_of: Callable[[str], Plan]) -> None:
    """No target: the rest of the plan."""
    assert applied(tf, 5) == {one.type for one in plan_of("default").resources}
