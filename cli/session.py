"""What every command does around its work: find the stack, run the coroutine, end on Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from services import address
from services.address import Address
from shared import settings
from shared.errors import DependencyUnavailable, HeadraceError

T = TypeVar("T")

DATA_VARIABLE = "HEADRACE_DATA"
DEFAULT_DATA_DIR = Path(__file__).resolve().parent.parent / ".headrace"

INTERRUPTED = 130
TERMINATED = 143

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help=f"Data directory of the stack. [dim]Else ${DATA_VARIABLE}, else .headrace[/dim]"
    ),
]
OrganizationOption = Annotated[
    str | None,
    typer.Option("--organization", "-o", metavar="NAME", help="Whose files. [dim]Else the default one[/dim]"),
]
UserOption = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Which person's files")]


def data_directory(option: Path | None) -> Path:
    """Return the directory that is meant: the option, else the environment, else the repository's own."""
    if option is not None:
        return option.expanduser().absolute()
    named = settings.environment().get(DATA_VARIABLE)
    return Path(named).expanduser().absolute() if named else DEFAULT_DATA_DIR


def running_stack(option: Path | None) -> Address:
    """Return where the stack is.

    Raises:
        DependencyUnavailable: `NOT_RUNNING`.
    """
    data_dir = data_directory(option)
    found = address.find(data_dir)
    if found is None:
        raise DependencyUnavailable(
            f"no stack is running on {data_dir}; start it with ./headrace up"
            + ("" if option is None else f" --data {option}"),
            code="NOT_RUNNING",
        )
    return found


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end. Ctrl-C and SIGTERM cancel it, so that everything it opened is closed."""

    async def cancellable() -> T:
        task = asyncio.current_task()
        assert task is not None
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(cancellable())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None
    except BaseExceptionGroup as group:
        raise _expected_in(group) or group from None


def _expected_in(group: BaseExceptionGroup[BaseException]) -> HeadraceError | None:
    """Return the first error in a group that the product knows, if all of them are such."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    _, unknown = group.split(HeadraceError)
    return first if unknown is None and isinstance(first, HeadraceError) else None
