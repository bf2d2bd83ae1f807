"""`headrace dead-letters`: the commands and their options. What they do is in `commands/dead_letters.py`."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that the others and `--help` are quick

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli import look, session
from cli.session import DataOption, OrganizationOption
from shared.ports.dead_letters import RATE_MAX_PER_SECOND, RATE_MIN_PER_SECOND, Origin

app = typer.Typer(
    help="Failures: look at them, replay and discard them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class State(StrEnum):
    """States as an option, and all of them."""

    OPEN = "open"
    REPLAYING = "replaying"
    RESOLVED = "resolved"
    DISCARDED = "discarded"
    ALL = "all"


LetterArguments = Annotated[
    list[str] | None, typer.Argument(metavar="ID...", show_default=False, help="Ids of letters, or the ends of them")
]
CodeOption = Annotated[str | None, typer.Option("--code", metavar="CODE", help="Only with this error")]
StageOption = Annotated[str | None, typer.Option("--stage", metavar="STAGE", help="Only of this stage")]
OriginOption = Annotated[Origin | None, typer.Option(help="Only of jobs, or only of messages", show_default=False)]
SinceOption = Annotated[
    str | None, typer.Option(metavar="WHEN", help="Only seen since: 30m, 12h, 7d, or a date as 2026-11-22")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every open letter")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the API's answer")]


@app.command("list")
def list_letters(
    code: CodeOption = None,
    stage: StageOption = None,
    origin: OriginOption = None,
    state: Annotated[State, typer.Option(help="Only in this state")] = State.OPEN,
    organization: OrganizationOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, newest first")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line")] = False,
    data: DataOption = None,
) -> None:
    """List dead letters, newest first."""
    from cli.commands import dead_letters as command

    chosen = command.Chosen(code=code, stage=stage, origin=origin, organization=organization, since=since)
    wanted = None if state == State.ALL else state.value
    api = session.running_stack(data).api
    session.run(command.list_letters(look.console(), api, chosen, state=wanted, limit=limit, as_json=json))


@app.command("show")
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The id, or the end of it")],
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show one letter with its payload."""
    from cli.commands import dead_letters as command

    session.run(command.show(look.console(), session.running_stack(data).api, letter, as_json=json))


@app.command("groups")
def groups(
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="Write a note on the cause that --code and --stage name; '' removes it")] = None,  # noqa: E501
    code: CodeOption = None,
    stage: StageOption = None,
    json: JsonOption = False,
    data: DataOption = None,
) -> None:  # fmt: skip
    """Count what is open by its cause, the most frequent first."""
    from cli.commands import dead_letters as command

    if (note is None) != (code is None):
        raise typer.BadParameter("--note needs --code, and the other way round")
    api = session.running_stack(data).api
    session.run(command.groups(look.console(), api, note=note, code=code, stage=stage or "", as_json=json))


@app.command("replay")
def replay(
    letters: LetterArguments = None,
    code: CodeOption = None,
    stage: StageOption = None,
    origin: OriginOption = None,
    organization: OrganizationOption = None,
    since: SinceOption = None,
    all_: AllOption = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Letters at most, the oldest first")] = None,
    rate: Annotated[float, typer.Option(min=RATE_MIN_PER_SECOND, max=RATE_MAX_PER_SECOND, help="Letters a second")] = 10.0,  # noqa: E501
    canary: Annotated[bool, typer.Option("--canary", help="Send one first, and the others only if it succeeds")] = False,  # noqa: E501
    force: Annotated[bool, typer.Option("--force", help="Also those that were replayed three times already")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing")] = False,
    json: JsonOption = False,
    data: DataOption = None,
) -> None:  # fmt: skip
    """Send letters on their way again. It stops by itself when more than a tenth fails again."""
    from cli.commands import dead_letters as command

    chosen = command.Chosen(
        code=code, stage=stage, origin=origin, organization=organization, since=since, ids=letters or [], all=all_
    )
    options = {"limit": limit, "rate": rate, "canary": canary, "force": force, "dry_run": dry_run}
    stack = session.running_stack(data)
    raise typer.Exit(session.run(command.replay(look.console(), stack.api, chosen, options, as_json=json)))


@app.command("discard")
def discard(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", show_default=False, help="Why; kept with each letter")],  # noqa: E501
    letters: LetterArguments = None,
    code: CodeOption = None,
    stage: StageOption = None,
    origin: OriginOption = None,
    organization: OrganizationOption = None,
    since: SinceOption = None,
    all_: AllOption = False,
    data: DataOption = None,
) -> None:  # fmt: skip
    """Give letters up, with a reason."""
    from cli.commands import dead_letters as command

    chosen = command.Chosen(
        code=code, stage=stage, origin=origin, organization=organization, since=since, ids=letters or [], all=all_
    )
    session.run(command.discard(look.console(), session.running_stack(data).api, chosen, reason=reason))


@app.command("batches")
def batches(
    stop: Annotated[str | None, typer.Option(metavar="ID", help="Stop this batch; what was not sent is open again")] = None,  # noqa: E501
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many, newest first")] = 10,
    json: JsonOption = False,
    data: DataOption = None,
) -> None:  # fmt: skip
    """List replays that were asked for, and how far they are."""
    from cli.commands import dead_letters as command

    api = session.running_stack(data).api
    session.run(command.batches(look.console(), api, stop=stop, limit=limit, as_json=json))
