"""Budgets per day, and what is spent of them."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from cli import look
from cli.client import Api
from services.api.money_schemas import BudgetView
from shared.model.price import MICROS, shown


async def list_budgets(console: Console, api_address: str, *, as_json: bool) -> None:
    """Print the day so far."""
    async with Api(api_address) as api:
        found = await api.budgets()
    if as_json:
        console.print(found.model_dump_json(indent=2), markup=False, soft_wrap=True)
    elif not found.budgets:
        console.print("Nobody has a budget of their own, or has spent anything today.", style="minor")
    else:
        _print(console, found.budgets)


async def set_budget(console: Console, api_address: str, organization: str, amount: float | None) -> None:
    """Set a budget, or take it away, and print the organization's day."""
    async with Api(api_address) as api:
        _print(console, [await api.set_budget(organization, amount)])


def _print(console: Console, budgets: list[BudgetView]) -> None:
    table = look.table("organization", "per day", "spent today", "waiting", right=("per day", "spent today", "waiting"))
    for budget in budgets:
        table.add_row(
            budget.organization_id,
            "default" if budget.amount is None else shown(round(budget.amount * MICROS)),
            shown(round(budget.spent_today * MICROS)),
            Text(look.count(budget.waiting_jobs, "job"), style="failed" if budget.waiting_jobs else ""),
        )
    console.print(table)
