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

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    # The other way of every service that has two.
    "turned": {"process_mode": "push", "ingest_mode": "pull"},
    # Everything that is optional.
    "full": {
        "model_access": "api_key",
        "gemini_api_key": KEY,
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
