"""Real Terraform on the root of infra/terraform, with a provider that makes nothing.

`TERRAFORM_CHECK` names a folder with `stub_provider.py`, which serves the real provider's schema; without it the real
provider is tried, which validates, but plans nothing without credentials. One provider serves a whole session.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.architecture.repository import ROOT

SOURCE = ROOT / "infra" / "terraform"
PATIENCE_SECONDS = 300

REQUIRED = {
    "project_id": "demo-project",
    "image_tag": "r1",
    "runbook_base_url": "https://runbooks.example/operations.md",
}

KEY = "a-key-that-nobody-may-see"

# Each variable of the root is unlike its default in one of these at least: test_variables.py looks where it arrives.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    # The other way of every service that has two, in a network that is there and not peered yet.
    "turned": {
        "process_mode": "push",
        "ingest_mode": "pull",
        "process": {
            "cpu": "4",
            "memory_mib": 6144,
            "instances": 2,
            "max_instances": 5,
            "concurrency": 3,
            "pool_size": 9,
            "extract_memory_mib": 1536,
        },
        "network": {
            "network_id": "projects/demo-project/global/networks/shared",
            "subnetwork_id": "projects/demo-project/regions/us-central1/subnetworks/run",
            "peered": False,
        },
    },
    # Everything that is optional.
    "full": {
        "model_access": "api_key",
        "gemini_api_key": KEY,
        "gemini_api_key_version": 2,
        "cmek": True,
        "telemetry_exporter": "otlp",
        "otlp_endpoint": "http://collector.example:4318",
        "operators": ["group:operators@example.com"],
        "scalers": ["group:on-call@example.com"],
        "api_invokers": ["serviceAccount:web@demo-project.iam.gserviceaccount.com"],
        "api_iap_members": ["group:people@example.com"],
        "image_writers": ["serviceAccount:build@demo-project.iam.gserviceaccount.com"],
        "bucket_versioning": True,
        "cors_origins": ["https://app.example.com"],
        "default_organization_id": "acme",
        "owner_path_template": "{organization_id}/{user_id}/",
        "settings": {"process": {"MAX_DEFER_HOURS": "48", "LOG_FORMAT": "console"}},
        "network": {
            "network_id": "projects/demo-project/global/networks/shared",
            "subnetwork_id": "projects/demo-project/regions/us-central1/subnetworks/run",
        },
    },
    # Everything that has a size, a place or a name, each unlike its default.
    "sized": {
        "image_tag": "r2",
        "runbook_base_url": "https://wiki.example/runbooks.md",
        "region": "europe-west4",
        "labels": {"team": "search"},
        "image_repository": "europe-docker.pkg.dev/builds/headrace",
        "deletion_protection": False,
        "subnetwork_range": "10.9.0.0/25",
        "bucket": "our-files",
        "bucket_location": "EU",
        "bucket_versioning": True,
        "noncurrent_days": 90,
        "model_region": "us-east5",
        "embedding_model": "text-embedding-005",
        "embedding_dimensions": 256,
        "telemetry_exporter": "none",
        "log_level": "DEBUG",
        "database_version": "POSTGRES_17",
        "database_tier": "db-perf-optimized-N-4",
        "database_edition": "ENTERPRISE_PLUS",
        "database_available": "ZONAL",
        "database_disk_gib": 200,
        "database_backups_kept": 30,
        "database_log_days": 14,
        "database_maintenance_memory_mib": 2048,
        "database_max_connections": 500,
        "api": {
            "cpu": "2",
            "memory_mib": 2048,
            "min_instances": 1,
            "max_instances": 6,
            "concurrency": 40,
            "pool_size": 7,
        },
        "ingest": {
            "cpu": "4",
            "memory_mib": 3072,
            "min_instances": 2,
            "max_instances": 7,
            "concurrency": 9,
            "pool_size": 6,
        },
        "process": {
            "cpu": "8",
            "memory_mib": 8192,
            "instances": 3,
            "concurrency": 3,
            "pool_size": 9,
            "extract_memory_mib": 2048,
            "max_instances": 4,
        },
        "on_failed_overwrite": "keep",
        "recover": {"cpu": "2", "max_instances": 3, "pool_size": 8},
        "recover_schedule": "*/10 * * * *",
        "notification_channels": ["projects/demo-project/notificationChannels/1"],
        "oldest_unacked_seconds": 600,
        "error_ratio": 0.1,
        "model_tokens_per_day": 1000000,
        "billing_account": "012345-6789AB-CDEF01",
        "monthly_budget": 900,
    },
}


class Missing(Exception):
    """What these tests need is not on this machine; the message says what."""


class Refused(Exception):
    """Terraform or the provider refused the configuration; the message is what was printed."""


@dataclass
class Terraform:
    """Terraform in copies of the root, with one provider."""

    folder: Path
    environment: dict[str, str]
    plans: bool
    """Whether the provider can plan without a project."""
    _roots: dict[Path, Path] = field(default_factory=dict)

    def run(self, root: Path, *arguments: str) -> str:
        """Run one command and return its output.

        Raises:
            Refused: it failed.
        """
        done = subprocess.run(
            ["terraform", f"-chdir={root}", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise Refused(done.stdout + done.stderr)
        return done.stdout

    def root(self, source: Path = SOURCE) -> Path:
        """Return an initialised copy of a root, with its state in a file; the same one if asked again."""
        if source not in self._roots:
            copy = self.folder / f"root-{len(self._roots)}"
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars"))
            (copy / "local_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
            self.run(copy, "init", "-input=false")
            self._roots[source] = copy
        return self._roots[source]

    def plan(self, root: Path, variables: dict[str, Any]) -> dict[str, Any]:
        """Plan from nothing and return the plan as Terraform shows it.

        Raises:
            Refused: there is no such plan.
        """
        given = root / "given.auto.tfvars.json"
        given.write_text(json.dumps(REQUIRED | variables))
        try:
            self.run(root, "plan", "-input=false", "-refresh=false", "-lock=false", "-out=plan.tfplan")
            shown: dict[str, Any] = json.loads(self.run(root, "show", "-json", "plan.tfplan"))
        finally:
            given.unlink()
        return shown


@contextmanager
def terraform(folder: Path) -> Iterator[Terraform]:
    """Start the provider and yield Terraform with it.

    Raises:
        Missing: there is no terraform, or no provider for it.
    """
    if shutil.which("terraform") is None:
        raise Missing("terraform is not installed: infra/terraform was not checked")
    configuration = folder / "terraformrc"
    configuration.write_text("disable_checkpoint = true\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment |= {"TF_CLI_CONFIG_FILE": str(configuration), "TF_IN_AUTOMATION": "1"}
    check = os.environ.get("TERRAFORM_CHECK")
    if check is None:
        real = Terraform(folder, environment, plans=False)
        try:
            real.root()
        except Refused:
            raise Missing(
                "no provider for terraform: TERRAFORM_CHECK names no stand-in, and the real one cannot be downloaded; "
                "infra/terraform was not checked"
            ) from None
        yield real
        return
    with _stand_in(Path(check), folder) as reattach:
        yield Terraform(folder, environment | {"TF_REATTACH_PROVIDERS": reattach}, plans=True)


@contextmanager
def _stand_in(check: Path, folder: Path) -> Iterator[str]:
    program = check / "stub_provider.py"
    if not program.is_file():
        raise Missing(f"TERRAFORM_CHECK has no {program.name}: infra/terraform was not checked")
    with TemporaryDirectory(prefix="headrace-tests-") as its_socket:
        provider = subprocess.Popen(
            [sys.executable, program, "--reattach"],
            env=os.environ
            | {"GOOGLE_STUB_SCHEMA": str(_schema(check / "google-schema.json.gz", folder)), "TMPDIR": its_socket},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert provider.stdout is not None
        assert provider.stderr is not None
        try:
            line = provider.stdout.readline().strip()
            if not line:
                raise Missing(f"the stand-in provider did not start: {provider.stderr.read().strip()[-300:]}")
            yield line
        finally:
            # It would tidy up at SIGINT, but a shell's background job hands SIGINT down as ignored.
            provider.kill()
            provider.wait()
            provider.stdout.close()
            provider.stderr.close()


def _schema(whole: Path, folder: Path) -> Path:
    """Keep of the provider's schema what the root names: Terraform reads all of it at each command, for seconds."""
    document = json.loads(gzip.decompress(whole.read_bytes()))
    used = {name for file in SOURCE.rglob("*.tf") for name in re.findall(r"\bgoogle_\w+", file.read_text())}
    for provider in document["provider_schemas"].values():
        for kind in ("resource_schemas", "data_source_schemas", "ephemeral_resource_schemas"):
            provider[kind] = {name: schema for name, schema in provider.get(kind, {}).items() if name in used}
    kept = folder / "schema.json"
    kept.write_text(json.dumps(document))
    return kept
