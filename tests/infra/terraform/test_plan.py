"""What Terraform would make, by variant: the plan of the whole root against what the code and the tables say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.infra.terraform.all_checks import CHECKS
from tests.infra.terraform.plan import Plan
from tests.infra.terraform.runner import REQUIRED, SOURCE, VARIANTS, Refused, Terraform


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CHECKS)
def test_the_plan_holds(name: str, variant: str, plan_of: Callable[[str], Plan]) -> None:
    """Each check holds of each variant; its own sentence says what."""
    CHECKS[name](plan_of(variant))


def test_the_example_can_be_planned(tf: Terraform, plan_of: Callable[[str], Plan]) -> None:
    """Whoever copies the example of the variables gets a plan, and every variable in it exists."""
    example = (SOURCE / "terraform.tfvars.example").read_text()
    root = tf.root()
    (root / "terraform.tfvars").write_text(example)
    try:
        said = tf.run(root, "plan", "-input=false", "-refresh=false", "-lock=false", "-no-color")
    finally:
        (root / "terraform.tfvars").unlink()
    assert "Value for undeclared variable" not in said
    assert "my-project-uploads" in said


@pytest.mark.parametrize("missing", REQUIRED)
def test_what_has_no_default_is_in_the_example(missing: str) -> None:
    """The example says everything that has to be said."""
    lines = (SOURCE / "terraform.tfvars.example").read_text().splitlines()
    assert any(line.split("=")[0].strip() == missing for line in lines)


def test_a_password_finds_no_place(tf: Terraform, plan_of: Callable[[str], Plan]) -> None:
    """Without the key that it needs a plan is refused, and says how to give it."""
    with pytest.raises(Refused, match="TF_VAR_gemini_api_key"):
        tf.plan(tf.root(), {"model_access": "api_key"})
