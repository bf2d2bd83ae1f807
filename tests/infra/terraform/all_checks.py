"""Every check: importing a module of them is what counts them."""

from __future__ import annotations

from tests.infra.terraform import (
    checks_alerts,
    checks_data,
    checks_order,
    checks_runs,
    checks_things,
    checks_variables,
)
from tests.infra.terraform.checks import CHECKS

_COUNTED = (checks_alerts, checks_data, checks_order, checks_runs, checks_things, checks_variables)
assert all(_COUNTED), "imported for their checks"

__all__ = ["CHECKS"]
