"""Alerts, runbooks and code agree: each log line that Terraform counts is written, each alert says what to do."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from shared import codes
from shared.clock import SystemClock
from shared.embedding.metered import MeteredEmbedder
from shared.errors import AuthenticationError, PoolExhausted
from shared.model.price import Prices
from shared.postgres.pool import open_database
from shared.postgres.recover import OVERDUE_SECONDS
from shared.pubsub.topics import PREFIX, SUBSCRIPTIONS
from shared.telemetry import instruments
from shared.telemetry.logs import configure_logs
from tests.architecture.repository import ROOT
from tests.plugins.road import Road

MODULE = ROOT / "infra" / "terraform" / "modules" / "monitoring"
HCL = {path.name: path.read_text().replace('\\"', '"') for path in sorted(MODULE.glob("*.tf"))}
PAGE = (ROOT / "docs" / "operations.md").read_text()

EVENT = re.compile(r'jsonPayload\.message=(?:"([\w.]+)"|\(([^)]*)\))')
WANTED = {
    "dead_letters", "unacked", "stuck_jobs", "failing_jobs", "failing_requests", "pool_exhausted", "budget",
    "budget_refusals", "recover_absent", "credentials",
}  # fmt: skip


def _block(text: str, name: str) -> dict[str, str]:
    """Return the entries of `name = {` two levels down, by their keys, as text."""
    start = re.search(rf"^  {name} = \{{$", text, re.MULTILINE)
    assert start is not None
    body = text[start.end() : re.compile(r"^  \}$", re.MULTILINE).search(text, start.end()).start()]  # type: ignore[union-attr]
    parts = re.split(r"^    (\w+) = \{$", body, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


ALERTS = _block(HCL["alerts.tf"], "alerts")
COUNTERS, FIGURES = _block(HCL["metrics.tf"], "counters"), _block(HCL["metrics.tf"], "figures")


def _events(text: str) -> set[str]:
    found = {event for one, several in EVENT.findall(text) for event in (one, *re.findall(r'"([\w.]+)"', several))}
    return (found | set(re.findall(r'^ *event = "([\w.]+)"', text, re.MULTILINE))) - {""}


def _anchors(page: str) -> set[str]:
    titles = re.findall(r"^##+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def _said() -> dict[str, set[str]]:
    """Return every event that the code logs, with the fields named where it does."""
    events: dict[str, set[str]] = {}
    for folder in ("shared", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and ast.unparse(call.func.value) == "_log"
                    and call.args
                    and isinstance(call.args[0], ast.Constant)
                ):
                    named = {keyword.arg for keyword in call.keywords if keyword.arg}
                    events.setdefault(str(call.args[0].value), set()).update(named)
    return events


def test_every_wanted_alert_is_there() -> None:
    """Dead letters, unacked messages, stuck jobs, errors, the pool, budgets, recover, and credentials."""
    assert set(ALERTS) == WANTED


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_alert_has_a_runbook(alert: str) -> None:
    """Its anchor is a heading of docs/operations.md, whose section says what it means, what to do and when it ends."""
    anchors = re.findall(r'^ *anchor *= "([\w-]+)"$', ALERTS[alert], re.MULTILINE)
    assert len(anchors) == 1
    assert anchors[0] in _anchors(PAGE)
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    [section] = [one for one in sections if _anchors(f"## {one}") >= {anchors[0]}]
    for part in ("**Means.**", "**First look.**", "**Do.**", "**Over**"):
        assert part in section, f"{alert}: {part}"
    assert f"| {alert.replace('_', '-')} | " in PAGE, "the list of alerts names it"
    assert f"(#{anchors[0]})" in PAGE


def test_every_policy_links_to_its_runbook() -> None:
    """The one resource that makes policies puts the address into the text and among the links, and notifies."""
    policy = HCL["main.tf"]
    assert policy.count('"${var.runbook_base_url}#${each.value.anchor}"') == 1
    assert "What to do: ${var.runbook_base_url}#${each.value.anchor}" in policy
    assert "notification_channels = var.notification_channels" in policy
    assert HCL["main.tf"].count('resource "google_monitoring_alert_policy"') == 1


def test_every_metric_that_is_used_is_made() -> None:
    """Alerts and dashboard name metrics of the module only, and each metric is used."""
    used = {name for text in HCL.values() for name in re.findall(r'local\.counted\["(\w+)"\]', text)}
    assert used == set(COUNTERS)
    figures = {name for text in HCL.values() for name in re.findall(r'local\.figure(?:d|_filter)\["(\w+)"\]', text)}
    figures |= set(re.findall(r'figure = "(\w+)"', HCL["dashboard.tf"]))
    assert figures == set(FIGURES)


def test_every_event_that_is_counted_is_logged() -> None:
    """An event that was renamed in the code would silence an alert."""
    counted = _events("".join(HCL.values()))
    assert len(counted) >= 5
    assert counted <= set(_said())


def test_every_event_that_a_runbook_looks_for_is_logged() -> None:
    """The commands of the page find what they look for."""
    looked_for = _events(PAGE.replace('\\"', '"'))
    assert len(looked_for) > 10
    assert looked_for <= set(_said())
    assert set(re.findall(r"`((?:recover|job|gate|pull|delivery|pool|model|service|http)\.[a-z_]+)`", PAGE)) <= set(
        _said()
    )


def test_every_metric_that_the_page_names_is_counted() -> None:
    """Names at /metrics, as the catalogue makes them."""
    shown = {instruments.shown_name(one) for one in instruments.CATALOGUE}
    operators = (MODULE.parent / "operators" / "main.tf").read_text()
    roles = {"headrace_recover", *re.findall(r'role_id     = "(\w+)"', operators)}
    named = set(re.findall(r"\bheadrace_[a-z_]+", PAGE)) - roles - {"headrace_now"}
    assert named
    assert {name for name in named if re.sub(r"_(bucket|sum|count)$", "", name) not in shown} == set()


def test_every_resource_that_the_page_names_exists() -> None:
    """Subscriptions in commands are those of the table."""
    named = set(re.findall(r"subscriptions (?:pull|ack|seek|update|describe|modify-[\w-]+) ([\w-]+)", PAGE))
    assert named
    assert named <= {PREFIX + entry.name for entry in SUBSCRIPTIONS}


def test_instruments_name_alerts_that_exist() -> None:
    """docs/metrics.md points to policies by their keys."""
    named = {instrument.alert for instrument in instruments.CATALOGUE if instrument.alert}
    assert named <= set(ALERTS)
    assert named >= WANTED - {"credentials"}


def test_codes_in_filters_exist() -> None:
    """Error codes that filters look for are in the catalogue of codes."""
    known = {entry.code for entries in codes.BY_PLACE.values() for entry in entries}
    looked_for = set(re.findall(r'"([A-Z][A-Z_]{4,})"', HCL["metrics.tf"] + HCL["alerts.tf"]))
    looked_for -= {word for word in looked_for if word.startswith(("ALIGN_", "REDUCE_", "COMPARISON_"))}
    looked_for -= {"ERROR", "WARNING", "CRITICAL", "DELTA", "DISTRIBUTION", "STRING"}
    assert looked_for == {"RATE_LIMITED", "BUDGET_EXHAUSTED", "AUTHENTICATION_FAILED", "DATABASE_LOGIN_REFUSED"}
    assert looked_for <= known


@pytest.fixture
def _json_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logs("INFO", "json")
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def _field(line: dict[str, Any], path: str) -> Any:
    value: Any = line
    for part in path.split("."):
        value = value[part]
    return value


async def _exhaust_the_pool(url: str) -> None:
    async with open_database(url, size=1, acquire_timeout_seconds=0.05) as database:
        held, enough = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with database.get_connection():
                held.set()
                await enough.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(hold())
            await held.wait()
            with pytest.raises(PoolExhausted):
                async with database.get_connection():
                    pass
            enough.set()


@pytest.mark.usefixtures("_json_logs")
async def test_every_field_that_is_read_is_written(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of real attempts, runs, calls and waits have each event and field of the filters; numbers are numbers."""
    for name in ("a.txt", "b.txt"):
        road.bucket.put(name, b"one\ntwo")
        await road.notify(name)
    embedder = MeteredEmbedder(
        road.embedder, metrics=road.metrics, clock=SystemClock(), prices=Prices(otherwise=1000.0)
    )
    road.work._embedder = embedder  # type: ignore[attr-defined]  # as `wiring.embedder` wraps it
    road.embedder.errors = [AuthenticationError("the key was refused.")]
    await road.ring()
    await road.ring()
    await _exhaust_the_pool(road.url)
    await road.recover()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    by_event = {line["message"]: line for line in lines}
    assert {line.get("error_code") for line in lines} >= {"AUTHENTICATION_FAILED", "POOL_EXHAUSTED"}
    for key, text in (COUNTERS | FIGURES).items():
        events = _events(text)
        assert events <= set(by_event), key
        for field in re.findall(r"jsonPayload\.([\w.]+)", text):
            if field != "message":
                assert any(_has(by_event[event], field) for event in events), f"{key}: {field}"
    for key, text in FIGURES.items():
        [event], [field] = _events(text), re.findall(r'^ *field = "([\w.]+)"', text, re.MULTILINE)
        assert isinstance(_field(by_event[event], field), int | float), key
    assert by_event["recover.done"]["figures"]["dead_letters_open"] == 1
    assert by_event["model.called"]["cost_micros"] == by_event["model.called"]["tokens"] * 1000 > 0
    assert by_event["model.call_failed"]["error_code"] == "AUTHENTICATION_FAILED"


def _has(line: dict[str, Any], path: str) -> bool:
    try:
        _field(line, path)
    except KeyError:
        return False
    return True


async def test_an_idle_lane_with_overdue_jobs_is_stuck_and_a_busy_one_is_not(road: Road) -> None:
    """A long queue that is worked on raises nothing; one that nobody works on does, and so do silent workers."""
    for n in range(3):
        road.bucket.put(f"{n}.txt", b"one")
        await road.notify(f"{n}.txt")
    assert (await road.recover())["figures"]["stuck_jobs"] == 0
    await road.shift_clock(OVERDUE_SECONDS + 60)
    figures = (await road.recover())["figures"]
    assert figures["stuck_jobs"] == figures["due_jobs"] == 3
    assert figures["oldest_due_seconds"] > OVERDUE_SECONDS
    await road.ring()
    figures = (await road.recover())["figures"]
    assert (figures["stuck_jobs"], figures["due_jobs"]) == (0, 2)
    await road.shift_clock(3 * OVERDUE_SECONDS)
    assert (await road.recover())["figures"]["stuck_jobs"] == 2


MISTAKES = [
    ("metrics.tf", 'jsonPayload.message="recover.done"', 'jsonPayload.message="recover.finished"', "event"),
    ("metrics.tf", 'event = "model.called"', 'event = "model.call"', "event"),
    ("alerts.tf", 'anchor   = "jobs-are-stuck"', 'anchor   = "stuck-jobs"', "runbook"),
    ("alerts.tf", 'local.counted["attempts"]', 'local.counted["tries"]', "metric"),
    ("alerts.tf", '("AUTHENTICATION_FAILED" OR', '("UNAUTHENTICATED" OR', "code"),
]


@pytest.mark.parametrize(("name", "right", "wrong", "what"), MISTAKES, ids=[one[2] for one in MISTAKES])
def test_a_mistake_is_noticed(name: str, right: str, wrong: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check above fails when its side of the agreement is changed alone."""
    assert right in HCL[name]
    monkeypatch.setitem(HCL, name, HCL[name].replace(right, wrong))
    with pytest.raises(AssertionError):
        match what:
            case "event":
                test_every_event_that_is_counted_is_logged()
            case "runbook":
                monkeypatch.setitem(ALERTS, "stuck_jobs", _block(HCL["alerts.tf"], "alerts")["stuck_jobs"])
                test_alert_has_a_runbook("stuck_jobs")
            case "metric":
                test_every_metric_that_is_used_is_made()
            case "code":
                test_codes_in_filters_exist()
