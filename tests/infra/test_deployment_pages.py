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
