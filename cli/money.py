"""The commands about money, with their options."""

# ruff: noqa: PLC0415 - as in `cli.app`

from __future__ import annotations

from typing import Annotated

import typer

from cli import look, session
from cli.session import DataOption

budgets_app = typer.Typer(
    help="What organizations may spend on models in a day.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
OrganizationArgument = Annotated[str, typer.Argument(metavar="ORG", show_default=False, help="The organization's id")]


@budgets_app.command("list")
def budgets_list(
    json: Annotated[bool, typer.Option("--json", help="Print the API's answer")] = False, data: DataOption = None
) -> None:
    """List who has a budget, has spent today, or waits for tomorrow."""
    from cli.commands import budgets as command

    session.run(command.list_budgets(look.console(), session.running_stack(data).api, as_json=json))


@budgets_app.command("set")
def budgets_set(
    organization: OrganizationArgument,
    amount: Annotated[
        float, typer.Argument(metavar="AMOUNT", min=0, show_default=False, help="In the currency of MODEL_PRICES")
    ],
    data: DataOption = None,
) -> None:
    """Set what an organization may spend in a day; its jobs that wait go on at once."""
    from cli.commands import budgets as command

    session.run(command.set_budget(look.console(), session.running_stack(data).api, organization, amount))


@budgets_app.command("unset")
def budgets_unset(organization: OrganizationArgument, data: DataOption = None) -> None:
    """Let the default, BUDGET_PER_DAY, hold for an organization again."""
    from cli.commands import budgets as command

    session.run(command.set_budget(look.console(), session.running_stack(data).api, organization, None))


def estimate(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Objects whose name starts so; all without")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON")] = False,
    data: DataOption = None,
) -> None:
    """Say what an import of a prefix would cost, before it runs."""
    from cli.commands import estimate as command

    session.run(command.run(look.console(), session.running_stack(data).api, prefix, as_json=json))
