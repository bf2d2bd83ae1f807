"""`headrace spaces` and `headrace reembed`: the options. What they do is in `commands/reembed.py`."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that the others and `--help` are quick

from __future__ import annotations

from typing import Annotated

import typer

from cli import look, session
from cli.session import DataOption

app = typer.Typer(
    help="Embedding spaces: which model's vectors are searched.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SpaceArgument = Annotated[
    str, typer.Argument(metavar="SPACE", show_default=False, help="Its key, the beginning of it, or its number")
]
NearestOption = Annotated[int, typer.Option(min=1, max=50, help="Passages that are compared of each probe")]
SampleOption = Annotated[int, typer.Option(min=1, max=500, help="Stored passages that are probed")]
OverlapOption = Annotated[
    float | None, typer.Option(min=0, max=1, show_default=False, help="Least share of common passages, 0 to 1")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the API's answer")]


def reembed(
    to: Annotated[str | None, typer.Option("--to", metavar="SPACE", help="A space by its key, or a known one by its beginning")] = None,  # noqa: E501
    model: Annotated[str | None, typer.Option(metavar="NAME", help="A model, instead of a key")] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, max=4000, show_default=False, help="Length of its vectors")] = None,  # noqa: E501
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the jobs to their end")] = True,
    data: DataOption = None,
) -> None:  # fmt: skip
    """Fill another embedding space from stored text: no file is read again. Search stays as it is until the switch."""
    from cli.commands import reembed as command

    if (to is None) == (model is None):
        raise typer.BadParameter("give --to or --model, one of the two")
    api = session.running_stack(data).api
    raise typer.Exit(
        session.run(command.fill(look.console(), api, to=to, model=model, dimensions=dimensions, wait=wait))
    )


@app.command("list")
def list_spaces(json: JsonOption = False, data: DataOption = None) -> None:
    """List the spaces: which is searched, how far others are filled."""
    from cli.commands import reembed as command

    session.run(command.show(look.console(), session.running_stack(data).api, as_json=json))


@app.command("check")
def check(
    space: SpaceArgument,
    nearest: NearestOption = 10,
    sample: SampleOption = 100,
    min_overlap: OverlapOption = None,
    data: DataOption = None,
) -> None:
    """Compare a space with the searched one. Exit code 1: they agree less than --min-overlap."""
    from cli.commands import reembed as command

    asked = {"nearest": nearest, "sample": sample}
    api = session.running_stack(data).api
    raise typer.Exit(session.run(command.check(look.console(), api, space, asked, min_overlap=min_overlap)))


@app.command("switch")
def switch(
    space: SpaceArgument,
    min_overlap: OverlapOption = None,
    nearest: NearestOption = 10,
    sample: SampleOption = 100,
    data: DataOption = None,
) -> None:
    """Search this space from now on; refused while anything is missing in it."""
    from cli.commands import reembed as command

    asked = {"nearest": nearest, "sample": sample} | ({} if min_overlap is None else {"min_overlap": min_overlap})
    session.run(command.switch(look.console(), session.running_stack(data).api, space, asked))


@app.command("drop")
def drop(space: SpaceArgument, data: DataOption = None) -> None:
    """Remove a space that is not searched, with its vectors."""
    from cli.commands import reembed as command

    session.run(command.drop(look.console(), session.running_stack(data).api, space))
