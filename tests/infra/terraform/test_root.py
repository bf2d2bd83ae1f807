"""Terraform's own checks of the root: its form, its types, and its tests."""

from __future__ import annotations

import re

import pytest

from tests.infra.terraform.runner import SOURCE, Terraform


def test_files_are_formatted(tf: Terraform) -> None:
    """`terraform fmt` has nothing to change."""
    tf.run(SOURCE, "fmt", "-check", "-recursive", "-diff")


def test_the_root_is_valid(tf: Terraform) -> None:
    """`terraform validate` finds every attribute in the provider's schema, without a warning."""
    assert "Warning" not in tf.run(tf.root(), "validate", "-no-color")


@pytest.mark.parametrize("name", sorted(path.name for path in (SOURCE / "tests").glob("*.tftest.hcl")))
def test_terraform_tests_pass(name: str, tf: Terraform) -> None:
    """The root's own tests pass: values in a plan, and what hangs on what once everything is made."""
    if not tf.plans:
        pytest.skip("the real provider makes real things: `terraform test` was not run")
    assert "0 failed" in tf.run(tf.root(), "test", "-no-color", f"-filter=tests/{name}")


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.tf")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_variable_and_output_is_described_and_typed(path: object) -> None:
    """Nobody has to read a module to use it."""
    text = SOURCE.joinpath(str(path)).read_text()
    for kind, name, body in re.findall(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL):
        assert re.search(r"^  description\s+= ", body, re.MULTILINE), f"{kind} {name} has no description"
        assert kind == "output" or re.search(r"^  type\s+= ", body, re.MULTILINE), f"variable {name} has no type"


def test_the_provider_is_pinned() -> None:
    """A new major version is a decision; minor ones are taken."""
    assert re.search(r'version = "~> 8\.7"', (SOURCE / "versions.tf").read_text())
