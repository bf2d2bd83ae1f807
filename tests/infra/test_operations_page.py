"""Commands of docs/operations.md that need no cloud: none of them stands there untried."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.main

from cli.app import app
from tests.architecture.repository import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()
_BLOCK = re.compile(r"^```sh(?P<local> local [\w-]+)?\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = "".join(match["commands"] for match in _BLOCK.finditer(PAGE) if not match["local"])
HEADRACE = sorted(set(re.findall(r"^\./headrace (.*?)(?:\s+#.*)?$", "".join(_b["commands"] for _b in _BLOCK.finditer(PAGE)), re.MULTILINE)))  # fmt: skip # noqa: E501


def test_no_command_that_the_local_endpoint_serves_stands_outside_a_tried_block() -> None:
    """Pub/Sub is the one service that has a local endpoint; `test_gcloud.py` runs every block that is marked."""
    assert "gcloud pubsub" not in ELSEWHERE
    assert PAGE.count("gcloud pubsub") == sum(
        match["commands"].count("gcloud pubsub") for match in _BLOCK.finditer(PAGE) if match["local"]
    )


def test_the_variables_of_the_local_stack_send_gcloud_there(tmp_path: Path) -> None:
    """The block of exports reads the stack's lock file as the stack writes it."""
    (block,) = [match["commands"] for match in _BLOCK.finditer(PAGE) if "stack.lock" in match["commands"]]
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "stack.lock").write_text(json.dumps({"PUBSUB_EMULATOR_HOST": "127.0.0.1:4711"}))
    said = subprocess.run(
        ["bash", "-euc", block + 'echo "$CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB $CLOUDSDK_CONFIG"'],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout.split() == ["http://127.0.0.1:4711/", f"{tmp_path}/.headrace/gcloud"]


@pytest.mark.parametrize("line", HEADRACE)
def test_the_command_line_knows_each_command_of_the_page(line: str) -> None:
    """Command, arguments and options are accepted as they stand there."""
    words = [word.replace("ID", "0192f0c1") for word in shlex.split(line)]
    command = typer.main.get_command(app)
    context = command.make_context("headrace", words)
    while rest := [*context._protected_args, *context.args]:
        _, command, rest = context.command.resolve_command(context, rest)  # type: ignore[attr-defined,union-attr]
        context = command.make_context(command.name, rest, parent=context)
    assert command.callback is not None


def test_the_page_has_commands_of_the_command_line() -> None:
    """The expression above finds them."""
    assert len(HEADRACE) >= 10
