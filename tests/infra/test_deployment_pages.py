"""The pages about deploying name what is there: outputs, modules and variables of the root, metrics, settings."""

from __future__ import annotations

import re

import pytest

from shared.postgres.migrate import MigrateSettings
from tests.architecture.repository import ROOT

PAGES = ("deploy.md", "upgrade.md", "scale.md")
HCL = "\n".join(path.read_text() for path in sorted((ROOT / "infra" / "terraform").glob("*.tf")))
METRICS = (ROOT / "docs" / "metrics.md").read_text()
SETTINGS = (ROOT / "docs" / "configuration.md").read_text()


def text(page: str) -> str:
    """Return one of the pages."""
    return (ROOT / "docs" / page).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_what_terraform_is_asked_for_is_there(page: str) -> None:
    """Outputs that commands read, modules that they target and variables that are set exist in the root."""
    said = text(page)
    for kind, pattern in (
        ("output", r"terraform output -raw (\w+)"),
        ("module", r"-target=module\.(\w+)"),
        ("variable", r"-var=(\w+)="),
        ("variable", r"`((?:api|billing|database|image|model|monthly|process)_\w+)(?: = [^`]+)?`"),
    ):
        declared = set(re.findall(rf'^{kind} "(\w+)"', HCL, re.MULTILINE))
        assert set(re.findall(pattern, said)) - declared - {"database_roles"} == set(), kind
    for variable, attribute in re.findall(r"`(api|ingest|process|recover)\.(\w+)`", said):
        assert re.search(rf'^variable "{variable}".*?\b{attribute}\s+= optional', HCL, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_metrics_and_settings_are_those_of_the_product(page: str) -> None:
    """A metric or a variable of the environment that a page names is in its catalogue."""
    said = text(page)
    for metric in re.findall(r"`(headrace_\w+[a-z])`", said):
        assert f"`{metric}" in METRICS, metric
    for name in re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", said):
        if name not in {"RUNNABLE", "POOL_EXHAUSTED", "CLOUD_IAM_SERVICE_ACCOUNT"}:
            assert f"`{name}`" in SETTINGS, name


def test_migrations_job_says_what_the_command_reads() -> None:
    """Every variable that the root sets for the migration's job is a setting of the command, or of logs."""
    job = HCL[HCL.index('module "migrate"') :]
    job = job[: job.index("\n}\n")]
    said = set(re.findall(r"^\s+([A-Z_]+)\s+=", job, re.MULTILINE))
    assert "DATABASE_ROLE_MEMBERS" in said
    assert {name.lower() for name in said} - set(MigrateSettings.model_fields) <= {"log_level", "log_format"}


def step(page: str, number: int) -> str:
    """Return the commands of one step of a page."""
    (section,) = re.findall(rf"^## {number}\. .*?(?=^## )", text(page), re.MULTILINE | re.DOTALL)
    return "".join(re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL))


# By the domain of its address, the service that `services identity create` has to name for it.
AGENTS = {
    "gcp-sa-pubsub": "pubsub",
    "serverless-robot-prod": "run",
    "gcp-sa-cloud-sql": "sqladmin",
    "gcp-sa-artifactregistry": "artifactregistry",
    "gcp-sa-secretmanager": "secretmanager",
    "gcp-sa-iap": "iap",
}


def test_every_agent_that_is_granted_something_is_made_first() -> None:
    """A grant to an agent that a new project has not got is refused: step 1 makes each that the root names."""
    module = (ROOT / "infra" / "terraform" / "modules" / "project" / "main.tf").read_text()
    named = set(re.findall(r"service-\$\{local\.number\}@([\w-]+)\.iam", module))
    assert named, "the expression finds them"
    commands = step("deploy.md", 1)
    (loop,) = re.findall(r"for service in (.*?); do\n(.*?)done", commands, re.DOTALL)
    assert 'gcloud beta services identity create --service="$service.googleapis.com"' in loop[1]
    assert {AGENTS[agent] for agent in named} == set(loop[0].split())
    assert "google_storage_project_service_account" in module
    assert "gcloud storage service-agent" in commands


def test_what_terraform_asks_the_project_with_is_enabled_first() -> None:
    """It cannot enable the APIs that it needs for enabling one."""
    (enabled,) = re.findall(r"^gcloud services enable ([a-z. ]+)$", step("deploy.md", 1), re.MULTILINE)
    assert {"cloudresourcemanager.googleapis.com", "serviceusage.googleapis.com"} <= set(enabled.split())


def test_alerts_follow_metrics_that_are_minutes_old() -> None:
    """Every metric that the root makes is made in step 2, so that step 5 finds it known."""
    metrics = (ROOT / "infra" / "terraform" / "modules" / "monitoring" / "metrics.tf").read_text()
    kinds = re.findall(r'^resource "(google_logging_metric)" "(\w+)"', metrics, re.MULTILINE)
    assert kinds
    for kind, name in kinds:
        assert f"-target=module.monitoring.{kind}.{name}" in step("deploy.md", 2)


def test_the_example_names_nothing_that_has_to_be_made_before() -> None:
    """Applied as it stands in an empty project it asks for no account, group, channel or network of somebody else's."""
    example = (ROOT / "infra" / "terraform" / "terraform.tfvars.example").read_text()
    live = "\n".join(line for line in example.splitlines() if not line.startswith("#"))
    assert not re.search(r"(user|group|serviceAccount):|projects/", live)
    declared = set(re.findall(r'^variable "(\w+)"', HCL, re.MULTILINE))
    named = set(re.findall(r"^(?:# )?(\w+) += ", example, re.MULTILINE))
    assert named <= declared


def test_every_account_is_made_before_it_is_named() -> None:
    """The page makes each service account of its own before a command or a variable gives it something."""
    page = text("deploy.md")
    for account in set(re.findall(r"([\w-]+)@(?:\$PROJECT|my-project)\.iam\.gserviceaccount\.com", page)):
        made = re.search(rf"gcloud iam service-accounts create {account}\b", page)
        granted = re.search(rf"--member=\S*{account}@|serviceAccount:{account}@", page)
        assert made is not None, account
        assert granted is None or made.start() < granted.start(), account
