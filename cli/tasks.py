"""Work about many files: the commands and their options. What they do is in `commands/`."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that the others and `--help` are quick

from __future__ import annotations

from typing import Annotated

import typer

from cli import look, session
from cli.session import DataOption

WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Stay and show how far it is")]


def bulk_import(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", show_default=False, help="Objects whose name starts so; '' for all")],  # noqa: E501
    organization: Annotated[str | None, typer.Option("--organization", "-o", metavar="NAME", help="Only this one's files")] = None,  # noqa: E501
    watch: WatchOption = False,
    data: DataOption = None,
) -> None:  # fmt: skip
    """Index what was in the bucket before, in the bulk lane; asked for twice, it is done once."""
    from cli.commands import bulk_import as command

    order: dict[str, str | int | None] = {"job_type": "bulk_import", "prefix": prefix, "organization_id": organization}
    api = session.running_stack(data).api
    raise typer.Exit(session.run(command.run(look.console(), api, order, watch=watch)))


def audit_cleanup(
    older_than: Annotated[int, typer.Option("--older-than", metavar="DAYS", min=1, help="What is so old goes")] = 90,
    watch: WatchOption = False,
    data: DataOption = None,
) -> None:
    """Remove old ledgers, ended dead letters and replays, summaries of runs, and rows that were told."""
    from cli.commands import bulk_import as command

    order: dict[str, str | int | None] = {"job_type": "audit_cleanup", "older_than_days": older_than}
    api = session.running_stack(data).api
    raise typer.Exit(session.run(command.run(look.console(), api, order, watch=watch)))


def import_jobs(
    source: Annotated[str, typer.Option("--from", metavar="DSN", help="The database with the older table: postgresql://…")],
    table: Annotated[str, typer.Option(metavar="NAME", help="The table, with its schema if need be")],
    bucket: Annotated[str | None, typer.Option(metavar="NAME", help="Whose files they are about. [dim]Else $BUCKET, else the stack's[/dim]")] = None,  # noqa: E501
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON")] = False,
    data: DataOption = None,
) -> None:  # fmt: skip
    """Take over an older table of jobs: what was done as history, the rest as hints to look at the files anew.

    Writes to $DATABASE_URL as the owner of the schema, else to the running stack. May be run again at any time. Exit
    code 1: some rows were refused.
    """
    from cli.commands import import_jobs as command

    target = command.target(session.data_directory(data), bucket)
    raise typer.Exit(session.run(command.run(look.console(), target, source, table, dry_run=dry_run, as_json=json)))
