"""The second bound of a test that hangs: its process ends, with the stacks of all threads.

The first bound, pytest-timeout's, fails the test from within. A test whose end hangs as well (a task that swallows its
cancellation, a thread that never returns) would then hold up the whole run without a word, so that nobody learns which
test it was. Under pytest-xdist a new worker takes over what remains, and the report names the test.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from typing import TYPE_CHECKING, TextIO

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

GRACE = 2.0
"""The second bound, as a multiple of the first."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process when a test with its fixtures takes more than twice its time-out."""
    marked = item.get_closest_marker("timeout")
    bound_seconds = float(
        marked.args[0] if marked else item.config.getoption("timeout") or item.config.getini("timeout") or 0
    )
    if bound_seconds <= 0:
        return (yield)
    timer = threading.Timer(bound_seconds * GRACE, _end, (item.nodeid, bound_seconds * GRACE))
    timer.daemon = True
    timer.start()
    try:
        return (yield)
    finally:
        timer.cancel()


def _end(name: str, bound_seconds: float) -> None:
    with os.fdopen(os.dup(_standard_error()), "w") as stream:
        _report(stream, name, bound_seconds)
    os._exit(1)


def _report(stream: TextIO, name: str, bound_seconds: float) -> None:
    stream.write(f"\n{name} has hung for {bound_seconds:g} s; the process ends. The stacks of its threads:\n")
    stream.flush()
    faulthandler.dump_traceback(stream)


def _standard_error() -> int:
    return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
