"""What is logged of whole jobs: who, which attempt, which stage, which trace; and never what is secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from services.process.settings import ProcessSettings
from shared.errors import AuthenticationError, DependencyUnavailable
from shared.settings import load
from shared.telemetry.logs import configure_logs, secret_values
from tests.fakes import LineExtractor
from tests.plugins.road import Road, delivery

PASSWORD, KEY, CONTENT = "correct-horse-battery", "AIzaSyNotARealKey0123456789abcdefghij", "the salary of Ada is 12345"


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logs as a process service of the cloud writes them, with secrets in its environment."""
    for name, value in {
        "DATABASE_URL": f"postgresql://headrace:{PASSWORD}@10.0.0.3:5432/headrace",
        "GEMINI_API_KEY": KEY,
        "GOOGLE_CLOUD_PROJECT_ID": "proj",
        "BUCKET": "bucket",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load(ProcessSettings)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logs("DEBUG", "json", project_id="proj", secrets=secret_values(settings))
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def _lines(written: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.splitlines()]


async def test_a_whole_road_logs_no_secret_and_no_content(
    road: Road, logs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors that quote the environment, known and unknown ones, on every service: none of it reaches the log."""
    said = f"refused {KEY} at postgresql://headrace:{PASSWORD}@10.0.0.3:5432/headrace?key={KEY}"
    for n, error in enumerate(
        [AuthenticationError(said), DependencyUnavailable(said), RuntimeError(said), ConnectionError(said)]
    ):
        road.bucket.put(f"{n}.txt", f"{CONTENT}\n{n}".encode())
        await road.notify(f"{n}.txt")
        road.embedder.errors = [error]
        await road.ring()
    await road.ingest(delivery("uploads-ingest", CONTENT.encode(), {"eventType": "OBJECT_FINALIZE", "key": KEY}))
    await road.process(delivery("work-interactive", CONTENT.encode(), {"authorization": f"Bearer {KEY}"}))
    road.bucket.put("good.txt", CONTENT.encode())
    await road.notify("good.txt")
    await road.work_off()
    logging.getLogger("vendor").error("%s", said)
    await road.recover()
    written = capsys.readouterr().err
    events = {line["message"] for line in _lines(written)}
    assert {"job.attempt_failed", "job.completed", "recover.done", "bell.refused", "notification.refused"} <= events
    for secret in (PASSWORD, KEY, "the salary", "12345"):
        assert secret not in written


async def test_lines_of_a_job_name_it_and_its_trace(
    road: Road, logs: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Job, attempt and trace stand on every line of an attempt, and the stage on what is said within it."""
    vendor = logging.getLogger("vendor")
    sniff = LineExtractor.sniff
    monkeypatch.setattr(LineExtractor, "sniff", lambda *given, **named: vendor.warning("odd") or sniff(*given, **named))
    road.bucket.put("a.txt", b"one\ntwo")
    with road.tracing.span("receive uploads-ingest") as upload:
        await road.notify("a.txt")
    await road.ring()
    [job_id] = [str(row["id"]) for row in await road.fetch("select id from document_processing_jobs")]
    lines = {line["message"]: line for line in _lines(capsys.readouterr().err) if "job_id" in line}
    done, odd = lines["job.completed"], lines["odd"]
    assert done["logging.googleapis.com/labels"] == {"job_id": job_id, "attempt": "1"}
    assert odd["logging.googleapis.com/labels"] == {"job_id": job_id, "attempt": "1", "stage": "downloading"}
    trace = format(upload.get_span_context().trace_id, "032x")
    assert done["logging.googleapis.com/trace"] == f"projects/proj/traces/{trace}"
    assert done["logging.googleapis.com/trace"] == odd["logging.googleapis.com/trace"]
