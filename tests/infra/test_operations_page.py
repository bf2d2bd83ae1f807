"""Commands of docs/operations.md that need no cloud: none of them stands there untried."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import asyncpg
import pytest
import typer.main

from cli.app import app
from services.api.letter_schemas import DiscardBody, DiscardOneBody, ReplayBody
from services.api.money_schemas import BudgetBody
from services.api.routes.admin_jobs import AdminJobEndpoints
from services.api.routes.dead_letters import DeadLetterEndpoints
from services.api.routes.drift import DriftEndpoints
from services.api.routes.jobs import JobEndpoints
from services.api.routes.money import MoneyEndpoints
from tests.architecture.repository import ROOT
from tests.plugins.road import Road

PAGE = (ROOT / "docs" / "operations.md").read_text()
_BLOCK = re.compile(r"^ *```sh(?P<local> local [\w-]+)?\n(?P<commands>.*?)^ *```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = "".join(match["commands"] for match in _BLOCK.finditer(PAGE) if not match["local"])
HEADRACE = sorted(set(re.findall(r"^\./headrace (.*?)(?:\s+#.*)?$", "".join(_b["commands"] for _b in _BLOCK.finditer(PAGE)), re.MULTILINE)))  # fmt: skip # noqa: E501


def test_no_command_that_the_local_endpoint_serves_stands_outside_a_tried_block() -> None:
    """Pub/Sub is the one service that has a local endpoint; `test_gcloud.py` runs every block that is marked."""
    assert "gcloud pubsub" not in ELSEWHERE
    prose = "".join(line for line in _BLOCK.sub("", PAGE).splitlines() if not line.startswith("|"))
    assert "gcloud pubsub" not in prose


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


# --- in the cloud -----------------------------------------------------------------------------------------------------

_CALL = re.compile(
    r"""^(?:.*&& )?api (?:-X (?P<method>[A-Z]+) )?"\$API_URL(?P<path>/[^"?]*)(?P<query>\?[^"]*)?\""""
    r"""(?: -d '(?P<body>.*?)')?"""
)
CALLS = [found for line in ELSEWHERE.splitlines() if (found := _CALL.match(line))]
BODIES = {
    "{id}/discard": DiscardOneBody,
    "dead-letters/discard": DiscardBody,
    "dead-letters/replay": ReplayBody,
    "budgets/{organization_id}": BudgetBody,
}
# Their routes need nothing of what they are made with.
ROUTES = {
    (route.method, route.path)
    for kind in (AdminJobEndpoints, DeadLetterEndpoints, DriftEndpoints, JobEndpoints, MoneyEndpoints)
    for route in kind.__new__(kind).routes()  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0][:60])
def test_the_api_takes_each_call_of_the_page(call: re.Match[str]) -> None:
    """Method and path are a route of the api, and the body is one that it accepts."""
    path = call["path"]
    ids = {"$JOB_ID": "{id}", "$id": "{id}", "$DEAD_LETTER_ID": "{id}", "$ORGANIZATION": "{organization_id}"}
    for name, parameter in ids.items():
        path = path.replace(name, parameter)
    assert (call["method"] or "GET", path) in ROUTES
    if call["body"]:
        (kind,) = (body for end, body in BODIES.items() if path.endswith(f"/{end}"))
        kind.model_validate_json(call["body"])


def test_calls_that_change_something_are_among_them() -> None:
    """The expression above finds them, with their bodies."""
    assert {call["method"] for call in CALLS} >= {None, "POST", "PUT", "DELETE"}
    assert sum(call["body"] is not None for call in CALLS) >= 4


def test_every_variable_of_a_command_is_set_or_named_by_the_reader() -> None:
    """What commands take is exported by the page, or is an id, a code or a time that only the reader knows."""
    commands = "".join(one["commands"] for one in _BLOCK.finditer(PAGE))
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", commands))
    exported = set(re.findall(r"(?:export |^| )([A-Z][A-Z_]+)=", commands, re.MULTILINE))
    assert used - exported == {"JOB_ID", "DEAD_LETTER_ID", "CODE", "SINCE", "NEW_KEY", "PWD"}


def test_the_table_of_rights_is_what_the_root_grants() -> None:
    """Each role that people get by hand stands in the table with who has it, and none stands there that nobody has."""
    (table,) = re.findall(r"^\| commands \| who \| role \| on \|\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]
    said = {(who, role.strip("`")) for _, who, role, _ in rows if role}
    roots = {path.stem: path.read_text() for path in (ROOT / "infra" / "terraform").glob("*.tf")}
    module = (ROOT / "infra" / "terraform" / "modules" / "operators" / "main.tf").read_text()
    granted = {
        (who, role)
        for block in re.findall(r"^resource \"google_\w+_iam_member\".*?^\}", module, re.MULTILINE | re.DOTALL)
        for who in re.findall(r"var\.(operators|scalers)", block)
        for role in (
            *re.findall(r'"(roles/[\w.]+)"', block),
            *(_role_id(module, name) for name in re.findall(r"custom_role\.(\w+)\[", block)),
        )
    }
    assert "setunion(var.api_invokers, var.operators)" in roots["services"]  # the api ...
    assert roots["services"].count("invokers        = var.operators") == 2  # ... both jobs ...
    assert "replay       = local.operators" in roots["main"]  # ... and the topic
    granted |= {("operators", "roles/run.invoker"), ("operators", "roles/pubsub.publisher")}
    assert said == granted


def _role_id(module: str, name: str) -> str:
    (found,) = re.findall(rf'custom_role" "{name}" \{{.*?role_id     = "(\w+)"', module, re.DOTALL)
    return str(found)


# What the commands of the page ask for, by the words that follow `gcloud`; Google's reference of each is the source.
PERMISSIONS = {
    "pubsub subscriptions pull": {"pubsub.subscriptions.consume"},
    "pubsub subscriptions ack": {"pubsub.subscriptions.consume"},
    "pubsub subscriptions modify-message-ack-deadline": {"pubsub.subscriptions.consume"},
    "pubsub subscriptions seek": {"pubsub.subscriptions.consume", "pubsub.snapshots.seek"},
    "pubsub subscriptions update": {"pubsub.subscriptions.update"},
    "pubsub subscriptions modify-push-config": {"pubsub.subscriptions.update", "roles/iam.serviceAccountUser"},
    "pubsub subscriptions describe": {"pubsub.subscriptions.get"},
    "pubsub snapshots create": {"pubsub.snapshots.create", "pubsub.subscriptions.consume"},
    "pubsub snapshots list": {"pubsub.snapshots.list"},
    "pubsub snapshots delete": {"pubsub.snapshots.delete"},
    "pubsub topics publish": {"roles/pubsub.publisher"},
    "scheduler jobs run": {"cloudscheduler.jobs.run"},
    "scheduler jobs pause": {"cloudscheduler.jobs.pause"},
    "scheduler jobs resume": {"cloudscheduler.jobs.enable"},
    "scheduler jobs describe": {"cloudscheduler.jobs.get"},
    "run jobs execute": {"roles/run.invoker", "run.jobs.get", "run.executions.get"},
    "run services describe": {"run.services.get"},
    "logging read": {"roles/logging.viewer"},
    "run services update": {"run.services.update", "roles/artifactregistry.reader"},
    "run worker-pools update": {"run.workerpools.update", "roles/artifactregistry.reader"},
}
OF_THE_OWNER = {"sql users", "secrets versions", "auth print-identity-token", "config get"}


def test_every_command_of_the_page_is_within_somebodys_rights() -> None:
    """Each gcloud command has its permissions written down above, and the root's roles hold them."""
    commands = re.sub(r"\\\n\s*", "", "".join(one["commands"] for one in _BLOCK.finditer(PAGE)))
    said = re.findall(r"\bgcloud (?:beta )?((?:[a-z][a-z-]+ ?){1,3})", commands)
    module = (ROOT / "infra" / "terraform" / "modules" / "operators" / "main.tf").read_text()
    root = (
        (ROOT / "infra" / "terraform" / "services.tf").read_text() + module + "roles/run.invoker roles/pubsub.publisher"
    )
    unknown = []
    for words in said:
        known = next((one for one in PERMISSIONS if words.startswith(one)), None)
        if known is None:
            unknown += [] if any(words.startswith(one) for one in OF_THE_OWNER) else [words]
            continue
        for permission in PERMISSIONS[known]:
            assert f'"{permission}"' in root or permission in root, f"{known}: {permission}"
    assert unknown == []
    assert set(PERMISSIONS) == {one for one in PERMISSIONS if any(words.startswith(one) for words in said)}


async def test_what_recover_may_read_is_enough_for_the_queries_of_the_page(road: Road) -> None:
    """Each query gives rows, or none, to the role that the page has people take: no table is closed to it."""
    road.bucket.put("a.txt", b"one")
    await road.notify("a.txt")
    blocks = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert blocks[0].splitlines() == ["grant headrace_recover to postgres;", "set role headrace_recover;"]
    queries = [*blocks[1:], *re.findall(r"`(select count\(.*?)`", PAGE)]
    assert len(queries) >= 4
    connection = await asyncpg.connect(road.url)
    try:
        async with connection.transaction():  # of which nothing stays: roles belong to all tests of the server
            await connection.execute(blocks[0].replace("postgres", "current_user"))
            for query in queries:
                await connection.fetch(query.replace("'ID'", "'0192f0c1-7d1e-7c3a-9d8e-000000000001'"))
            assert await connection.fetchval("select count(*) from job_events") > 0
            await connection.execute("reset role; revoke headrace_recover from current_user")
    finally:
        await connection.close()
