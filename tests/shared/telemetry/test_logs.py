"""Lines that machines can read, with the ids that join them and without secrets."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from shared.settings import ModelSettings, load
from shared.telemetry.logs import MASK, configure_logs, mask_secrets, secret_values
from shared.telemetry.tracing import Tracing


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_line_has_the_names_of_cloud_logging(capsys: pytest.CaptureFixture[str]) -> None:
    """Severity, message and time are where Cloud Logging looks, and bound context is in every line."""
    configure_logs()
    with structlog.contextvars.bound_contextvars(job_id="j1", attempt=2, stage="embedding"):
        structlog.get_logger("x").warning("job.deferred", reason="RATE_LIMITED")
    [line] = _lines(capsys)
    assert line.pop("time").endswith("Z")
    source = line.pop("logging.googleapis.com/sourceLocation")
    assert source["file"] == "shared/telemetry/test_logs.py"
    assert source["function"] == "test_line_has_the_names_of_cloud_logging"
    assert int(source["line"]) > 0
    assert line == {
        "logging.googleapis.com/labels": {"job_id": "j1", "attempt": "2", "stage": "embedding"},
        "severity": "WARNING",
        "message": "job.deferred",
        "reason": "RATE_LIMITED",
        "job_id": "j1",
        "attempt": 2,
        "stage": "embedding",
    }


async def test_line_joins_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """A line within a span carries its ids, and the link form when the project is known."""
    configure_logs(project_id="proj")
    async with Tracing("test") as tracing:
        with tracing.span("work"):
            structlog.get_logger().info("inside")
    [line] = _lines(capsys)
    assert line["logging.googleapis.com/trace"] == f"projects/proj/traces/{line['trace_id']}"
    assert line["logging.googleapis.com/spanId"] == line["span_id"]
    assert line["logging.googleapis.com/trace_sampled"] is True


async def test_line_says_whether_its_trace_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """The console offers a trace only where there is one."""
    configure_logs(project_id="proj")
    async with Tracing("test", sample_ratio=0.0) as tracing:
        with tracing.span("work"):
            structlog.get_logger().info("inside")
    [line] = _lines(capsys)
    assert line["logging.googleapis.com/trace_sampled"] is False


def test_libraries_log_through_the_same_road(capsys: pytest.CaptureFixture[str]) -> None:
    """A library's warning is a line like ours; its chatter is not shown."""
    configure_logs("DEBUG")
    logging.getLogger("vendor").warning("refused %s", "postgresql://me:hunter2@host/db")
    logging.getLogger("vendor").info("chatter")
    [line] = _lines(capsys)
    assert line["severity"] == "WARNING"
    assert line["logger"] == "vendor"
    assert line["logging.googleapis.com/sourceLocation"]["function"] == "test_libraries_log_through_the_same_road"
    assert line["message"] == f"refused postgresql://me:{MASK}@host/db"


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """Configuration is idempotent: one line stays one line, and the last level counts."""
    configure_logs("DEBUG")
    configure_logs("WARNING")
    structlog.get_logger().info("hidden")
    structlog.get_logger().error("shown")
    logging.getLogger("vendor").error("also")
    assert [line["message"] for line in _lines(capsys)] == ["shown", "also"]


def test_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The other format is one readable line."""
    configure_logs(format="console")
    structlog.get_logger().info("service.started", address="http://127.0.0.1:1")
    [line] = capsys.readouterr().err.splitlines()
    assert "service.started" in line
    assert "address=http://127.0.0.1:1" in line


@pytest.mark.parametrize(
    "key",
    ["authorization", "Authorization", "password", "db_password", "database_url", "api_key", "apiKey", "secret",
     "client_secret", "private_key", "access_token", "token", "set-cookie"],
)  # fmt: skip
def test_secret_keys_are_masked(key: str) -> None:
    """Values of keys that name secrets are never written, at any depth."""
    event = mask_secrets(None, "info", {key: "hunter2", "inner": [{"deep": {key: "hunter2"}}]})
    assert "hunter2" not in json.dumps(event)


@pytest.mark.parametrize("key", ["tokens", "tokens_used", "key", "keyword", "ordering_key", "monkey"])
def test_other_keys_are_not(key: str) -> None:
    """Words that only look like secrets stay readable."""
    assert mask_secrets(None, "info", {key: "value"}) == {key: "value"}


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hunter2@host:5432/db",
        "Bearer hunter2.x-y",
        "https://host/v1?key=hunter2&x=1",
        "https://host/o?X-Goog-Algorithm=a&X-Goog-Signature=hunter2",
        "the key AIzahunter2-0123456789abcdefghijklmnop",
        "a token ya29.hunter2.x",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2",
        "-----BEGIN " + "PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
    ],
)
def test_secrets_inside_text_are_masked(text: str) -> None:
    """Addresses with passwords, bearer tokens and keys in queries are masked wherever they stand."""
    event = mask_secrets(None, "info", {"event": f"got {text} back", "list": (text,)})
    assert "hunter2" not in json.dumps(event)
    assert MASK in event["event"]


def test_exceptions_are_masked_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A stack trace that quotes an address does not give its password away."""
    configure_logs()
    try:
        raise ValueError("postgresql://me:hunter2@host/db")
    except ValueError:
        structlog.get_logger().exception("failed")
    [line] = _lines(capsys)
    assert "ValueError" in line["stack_trace"]
    assert "hunter2" not in line["stack_trace"]


def test_known_secrets_are_masked_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    """A secret of this process does not get out by a field, a message, an exception or a library, escaped or not."""
    required = {"GOOGLE_CLOUD_PROJECT_ID": "p", "BUCKET": "bucket"}
    settings = load(
        ModelSettings,
        required | {"DATABASE_URL": "postgresql://me:pass%2Fw0rd@host/db", "GEMINI_API_KEY": 'plain "key" 123'},
    )
    configure_logs(secrets=secret_values(settings))
    structlog.get_logger().warning('said plain "key" 123', note="pass/w0rd", deep=[{"x": 'plain "key" 123'}])
    logging.getLogger("vendor").error("it was pass%2Fw0rd")
    try:
        raise ValueError('plain "key" 123')
    except ValueError:
        structlog.get_logger().exception("failed")
    written = capsys.readouterr().err
    assert written.count(MASK) >= 5
    assert "w0rd" not in written
    assert "plain" not in written
