"""The commands and their options. What they do is in `commands/`, imported when needed."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that the others and `--help` are quick

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cli import letters, look, money, session, spaces, tasks
from cli.session import DataOption, OrganizationOption, UserOption
from shared.errors import HeadraceError
from shared.model.job import JobType, Stage, Status

_QUIET_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="headrace",
    help="Files in a bucket become searchable, cited passages, and stay in step with it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=_QUIET_HELP,
)
jobs_app = typer.Typer(help="Look at jobs, retry and cancel them.", no_args_is_help=True, context_settings=_QUIET_HELP)
recover_app = typer.Typer(
    help="The service that brings back what got stuck.", no_args_is_help=True, context_settings=_QUIET_HELP
)
app.add_typer(jobs_app, name="jobs", rich_help_panel="Jobs")
app.add_typer(letters.app, name="dead-letters", rich_help_panel="Jobs")
app.add_typer(recover_app, name="recover", rich_help_panel="Jobs")
app.add_typer(spaces.app, name="spaces", rich_help_panel="Jobs")
app.command("reembed", rich_help_panel="Jobs")(spaces.reembed)
app.add_typer(money.budgets_app, name="budgets", rich_help_panel="Jobs")
app.command(rich_help_panel="Jobs")(money.estimate)
app.command("bulk-import", rich_help_panel="Jobs")(tasks.bulk_import)
app.command("audit-cleanup", rich_help_panel="Jobs")(tasks.audit_cleanup)
app.command("import-jobs", rich_help_panel="Jobs")(tasks.import_jobs)

START, USE, CARE = "Start", "Use", "Jobs"


class Kind(StrEnum):
    """Job types as an option; the same words as in the API."""

    locals().update({member.name: member.value for member in JobType})


@app.command(rich_help_panel=START)
def demo(
    exit: Annotated[bool, typer.Option("--exit", help="End after the answers, for scripts")] = False,  # noqa: A002
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Keep the data here. [dim]Else it is removed at the end[/dim]")] = None,  # noqa: E501
) -> None:  # fmt: skip
    """Show it all: start the stack, index a few documents, ask three questions."""
    from cli.commands import demo as command

    raise typer.Exit(session.run(command.run(look.console(), data_dir=data and data.absolute(), stay=not exit)))


@app.command(rich_help_panel=START)
def up(
    data: DataOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log here instead of in the data directory")] = False,  # noqa: E501
) -> None:  # fmt: skip
    """Run the whole stack on this machine until Ctrl-C; its data stays."""
    from cli.commands import up as command

    session.run(command.run(look.console(), session.data_directory(data), verbose=verbose))


@app.command(rich_help_panel=USE)
def upload(
    paths: Annotated[list[Path], typer.Argument(metavar="FILES|DIRS...", exists=True, show_default=False, help="What to put into the bucket")],  # noqa: E501
    prefix: Annotated[str, typer.Option(metavar="PREFIX", help="Put this in front of the names")] = "",
    organization: OrganizationOption = None,
    user: UserOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the files until they are searchable")] = True,
    data: DataOption = None,
) -> None:  # fmt: skip
    """Put files into the bucket and watch them become searchable."""
    from cli.commands import upload as command

    stack = session.running_stack(data)
    who = command.Who(organization=organization, user=user)
    raise typer.Exit(session.run(command.run(look.console(), stack, paths, prefix=prefix, who=who, wait=wait)))


@app.command(rich_help_panel=USE)
def search(
    query: Annotated[str, typer.Argument(metavar="QUESTION", show_default=False, help="In words, as you would ask a colleague")],  # noqa: E501
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=50, help="Passages at most")] = 5,
    prefix: Annotated[str | None, typer.Option(metavar="PREFIX", help="Only in objects whose name starts so")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the API's answer")] = False,
    organization: OrganizationOption = None,
    data: DataOption = None,
) -> None:  # fmt: skip
    """Find the passages that answer a question, with file and place."""
    from cli.commands import search as command

    stack = session.running_stack(data)
    found = session.run(
        command.run(
            look.console(), stack.api, query, limit=limit, prefix=prefix, organization=organization, as_json=json
        )
    )
    raise typer.Exit(0 if found else 1)


@jobs_app.command("list")
def jobs_list(
    status: Annotated[Status | None, typer.Option(help="Only with this status", show_default=False)] = None,
    stage: Annotated[Stage | None, typer.Option(help="Only in this stage", show_default=False)] = None,
    error_code: Annotated[str | None, typer.Option(metavar="CODE", help="Only with this error")] = None,
    job_type: Annotated[Kind | None, typer.Option("--type", help="Only of this type", show_default=False)] = None,
    organization: OrganizationOption = None,
    prefix: Annotated[str | None, typer.Option(metavar="PREFIX", help="Only objects whose name starts so")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, newest first")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line")] = False,
    data: DataOption = None,
) -> None:
    """List jobs, newest first."""
    from cli.commands import jobs as command

    filters: dict[str, str | None] = {
        "status": status, "stage": stage, "error_code": error_code, "job_type": job_type,
        "organization_id": organization, "prefix": prefix,
    }  # fmt: skip
    session.run(command.list_jobs(look.console(), session.running_stack(data).api, filters, limit=limit, as_json=json))


JobArgument = Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The job's id, or the end of it")]
JobArguments = Annotated[
    list[str] | None, typer.Argument(metavar="ID...", show_default=False, help="Ids of jobs, or the ends of them")
]


@jobs_app.command("show")
def jobs_show(
    job: JobArgument,
    json: Annotated[bool, typer.Option("--json", help="Print the API's answer")] = False,
    data: DataOption = None,
) -> None:
    """Show one job with its ledger: every stage, when and how long."""
    from cli.commands import jobs as command

    session.run(command.show(look.console(), session.running_stack(data).api, job, as_json=json))


@jobs_app.command("watch")
def jobs_watch(
    job: Annotated[str | None, typer.Argument(metavar="[ID]", show_default=False, help="One job; else the newest ones")] = None,  # noqa: E501
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when nothing is waiting or running")] = False,
    data: DataOption = None,
) -> None:  # fmt: skip
    """Watch jobs move, live."""
    from cli.commands import watch as command

    api = session.running_stack(data).api
    if job is not None:
        raise typer.Exit(session.run(command.one(look.console(), api, job)))
    session.run(command.newest(look.console(), api, until_idle=until_idle))


@jobs_app.command("retry")
def jobs_retry(
    jobs: JobArguments = None,
    error_code: Annotated[str | None, typer.Option(metavar="CODE", help="All jobs that failed with this")] = None,
    data: DataOption = None,
) -> None:
    """Put failed or cancelled jobs back in the queue."""
    from cli.commands import jobs as command

    if bool(jobs) == bool(error_code):
        raise typer.BadParameter("name jobs, or give --error-code, one of the two")
    stack = session.running_stack(data)
    raise typer.Exit(session.run(command.retry(look.console(), stack.api, jobs or [], error_code=error_code)))


@jobs_app.command("cancel")
def jobs_cancel(
    jobs: Annotated[list[str], typer.Argument(metavar="ID...", show_default=False, help="Ids of jobs, or the ends of them")],  # noqa: E501
    data: DataOption = None,
) -> None:  # fmt: skip
    """Cancel pending or running jobs."""
    from cli.commands import jobs as command

    raise typer.Exit(session.run(command.cancel(look.console(), session.running_stack(data).api, jobs)))


@app.command(rich_help_panel=CARE)
def stats(
    json: Annotated[bool, typer.Option("--json", help="Print the API's answer")] = False, data: DataOption = None
) -> None:
    """Count jobs, documents and passages."""
    from cli.commands import stats as command

    session.run(command.run(look.console(), session.running_stack(data).api, as_json=json))


@recover_app.command("run")
def recover_run(
    json: Annotated[bool, typer.Option("--json", help="Print the service's answer")] = False, data: DataOption = None
) -> None:
    """Repair now instead of at the next scheduled time, and say what was done."""
    from cli.commands import recover as command

    raise typer.Exit(session.run(command.run(look.console(), session.running_stack(data).recover, as_json=json)))


@app.command(rich_help_panel=CARE)
def drift(
    repair: Annotated[bool, typer.Option("--repair", help="Bring in step what is missing, stale or orphaned")] = False,
    examples: Annotated[int, typer.Option(min=0, max=100, help="Objects that are named of each difference")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print counts and examples as JSON")] = False,
    data: DataOption = None,
) -> None:
    """Compare bucket and index. Exit code 0: in step, 1: they differ, 3: they differed and are repaired."""
    from cli.commands import drift as command

    api = session.running_stack(data).api
    raise typer.Exit(session.run(command.run(look.console(), api, repair=repair, as_json=json, examples=examples)))


@recover_app.callback()
def _recover() -> None:
    """Keep `run` a command of its own: typer folds a single command into its group otherwise."""


@app.command(rich_help_panel=CARE)
def doctor(data: DataOption = None) -> None:
    """Check this machine and the running stack, and say what to do."""
    from cli.commands import doctor as command

    raise typer.Exit(session.run(command.run(look.console(), session.data_directory(data))))


@app.command(rich_help_panel=START)
def version() -> None:
    """Print the version."""
    from services.api.openapi import VERSION

    look.console().print(f"headrace {VERSION}")


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 wrongly called, 130 interrupted."""
    try:
        app(args=arguments, prog_name="headrace")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except HeadraceError as error:
        line = Text.assemble((f"error {error.code}:", "error"), " ", error.message)
        look.console(sys.stderr).print(line, soft_wrap=True)
        return 1
    except BrokenPipeError:  # such as `| head`: whoever read has read enough
        sys.stderr.close()
        return 0
    return 0
