"""The environment, read once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
import structlog

from services.api.settings import ApiSettings
from services.ingest.settings import IngestSettings
from services.process.settings import ProcessSettings
from services.recover.settings import RecoverSettings
from shared.errors import ConfigurationError
from shared.settings import CommonSettings, DatabaseSettings, MigrateSettings, load, misspelt
from shared.telemetry.logs import configure_logs

GOOD = {
    "DATABASE_URL": "postgresql://user:hunter2@db/headrace",
    "GOOGLE_CLOUD_PROJECT_ID": "project",
    "BUCKET": "uploads",
}


def test_all_problems_are_told_at_once_and_no_value_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wrong or missing variable is named in one message; what was in them is not shown."""
    for name in GOOD:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError) as refused:
        load(CommonSettings, {"DATABASE_URL": "hunter2", "DATABASE_POOL_SIZE": "hunter2", "LOG_LEVEL": "hunter2"})
    for name in ("GOOGLE_CLOUD_PROJECT_ID", "BUCKET", "DATABASE_POOL_SIZE", "LOG_LEVEL"):
        assert name in refused.value.message
    assert "hunter2" not in refused.value.message


def test_names_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is read under the upper-case names, and overrides win."""
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STUCK_JOB_THRESHOLD_MINUTES", "7")
    monkeypatch.setenv("MAX_RETRY_ATTEMPTS", "2")
    monkeypatch.setenv("GEMINI_API_KEY", "key-123")
    recover = load(RecoverSettings)
    assert (recover.stuck_job_threshold_minutes, recover.max_retry_attempts) == (7, 2)
    process = load(ProcessSettings, {"PROCESS_CONCURRENCY": "3"})
    assert process.process_concurrency == 3
    assert process.gemini_api_key is not None


def test_secrets_are_not_shown() -> None:
    """Neither the text nor the representation of settings holds a password or a key."""
    settings = load(ProcessSettings, GOOD | {"GEMINI_API_KEY": "key-123"})
    assert "hunter2" not in f"{settings} {settings!r}"
    assert "key-123" not in f"{settings} {settings!r}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PUBSUB_EMULATOR_HOST", "127.0.0.1:1"), ("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")],
)
def test_stand_ins_are_refused_in_the_cloud(name: str, value: str) -> None:
    """On Cloud Run a stand-in's address is a mistake that would lose uploads."""
    with pytest.raises(ConfigurationError, match="Cloud Run"):
        load(CommonSettings, GOOD | {"K_SERVICE": "ingest", name: value})


def test_settings_that_contradict_each_other_are_refused() -> None:
    """A heartbeat slower than half a lease, and too few delays for the attempts, cannot work."""
    with pytest.raises(ConfigurationError, match="HEARTBEAT"):
        load(CommonSettings, GOOD | {"LEASE_SECONDS": "30", "HEARTBEAT_SECONDS": "20"})
    with pytest.raises(ConfigurationError, match="RETRY_DELAYS"):
        load(CommonSettings, GOOD | {"MAX_RETRY_ATTEMPTS": "9"})


KINDS = (IngestSettings, ProcessSettings, RecoverSettings, ApiSettings, MigrateSettings)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Give a function that makes these variables the whole environment."""

    def say(variables: dict[str, str]) -> None:
        for name in list(os.environ):
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return say


def test_text_that_is_no_json_is_one_problem_among_the_others(said: Callable[[dict[str, str]], None]) -> None:
    """A list or an object that does not parse is named together with everything else, and not shown."""
    said(GOOD | {"RETRY_DELAYS_SECONDS": "hunter2", "DATABASE_ROLE_MEMBERS": "{hunter2", "LEASE_SECONDS": "x"})
    with pytest.raises(ConfigurationError) as refused:
        load(RecoverSettings)
    for name in ("RETRY_DELAYS_SECONDS: ", "LEASE_SECONDS: "):
        assert name in refused.value.message
    with pytest.raises(ConfigurationError, match=r"DATABASE_ROLE_MEMBERS: .*JSON"):
        load(MigrateSettings)
    assert "hunter2" not in refused.value.message


def test_lists_are_read_as_json_from_environment_and_overrides(said: Callable[[dict[str, str]], None]) -> None:
    """Both ways of saying it give the same value."""
    said(GOOD | {"RETRY_DELAYS_SECONDS": "[0, 1, 2, 3]"})
    assert load(IngestSettings).retry_delays_seconds == (0, 1, 2, 3)
    assert load(IngestSettings, {"RETRY_DELAYS_SECONDS": "[0, 9, 9, 9]"}).retry_delays_seconds == (0, 9, 9, 9)


@pytest.mark.parametrize("kind", [ApiSettings, ProcessSettings])
@pytest.mark.parametrize(
    ("prices", "missing"),
    [
        ('{"gemini-embedding-001": 0.15}', ["no price for gemini-2.5-flash,", "no price for gemini-2.5-flash:output,"]),
        ('{"gemini-2.5-flash": 0.3}', ["no price for gemini-2.5-flash:output,"]),
        ('{"gemini-2.5-flash": 0.3, "gemini-2.5-flash:output": 2.5}', []),
        ("{}", []),
    ],
)
def test_a_table_of_prices_names_the_model_that_reads_images(
    kind: type[ApiSettings | ProcessSettings], prices: str, missing: list[str]
) -> None:
    """What had no price would pass every budget; without any prices, nobody counts money."""
    said = GOOD | {"READ_IMAGES": "gemini", "MODEL_PRICES": prices}
    if not missing:
        assert load(kind, said).vision_model == "gemini-2.5-flash"
        assert load(kind, said | {"READ_IMAGES": "ocr"}).vision_model is None
        return
    with pytest.raises(ConfigurationError) as refused:
        load(kind, said)
    assert [name for name in missing if name not in refused.value.message] == []
    assert refused.value.message.count("no price for") == len(missing)
    load(kind, said | {"MODEL_PRICE_PER_MILLION_TOKENS": "1"})


def test_all_contradictions_are_told_at_once(said: Callable[[dict[str, str]], None]) -> None:
    """What is wrong between settings is told together, whichever class knows of it."""
    said(
        GOOD | {"HEARTBEAT_SECONDS": "60", "MAX_RETRY_ATTEMPTS": "9", "DELIVERY": "push", "RECOVER_CALLERS": '["a@b"]'}
    )
    with pytest.raises(ConfigurationError) as refused:
        load(RecoverSettings)
    for name in ("HEARTBEAT_SECONDS", "RETRY_DELAYS_SECONDS", "DELIVERY=push", "RECOVER_CALLERS"):
        assert name in refused.value.message


def test_contradictions_are_told_beside_what_is_wrong_by_itself(said: Callable[[dict[str, str]], None]) -> None:
    """A wrong and a missing variable hide no contradiction between others, and make none up about themselves."""
    said(
        {"DATABASE_URL": GOOD["DATABASE_URL"], "GOOGLE_CLOUD_PROJECT_ID": "project", "LOG_LEVEL": "loud"}
        | {"MAX_RETRY_ATTEMPTS": "9", "LEASE_SECONDS": "soon", "HEARTBEAT_SECONDS": "60", "HTTP_HOST": "0.0.0.0"}
        | {"OTEL_EXPORTER_OTLP_ENDPOINT": "", "TELEMETRY_EXPORTER": "otlp", "K_SERVICE": "", "READ_IMAGES": "gemini"}
        | {"MODEL_PRICES": '{"x": 1}'}
    )
    with pytest.raises(ConfigurationError) as refused:
        load(ApiSettings)
    lines = [line.strip() for line in refused.value.message.splitlines()[1:]]
    starts = [line.partition(" ")[0] for line in lines if not line.startswith("together")]
    assert sorted(starts) == ["BUCKET:", "LEASE_SECONDS:", "LOG_LEVEL:"]
    told = "\n".join(line for line in lines if line.startswith("together: "))
    for name in ("RETRY_DELAYS_SECONDS", "TELEMETRY_EXPORTER=otlp", "MODEL_PRICES", "API_CALLERS_VERIFIED_BY"):
        assert name in told
    assert "HEARTBEAT_SECONDS" not in told


def test_a_variable_with_several_names_that_is_wrong_hides_no_contradiction(
    said: Callable[[dict[str, str]], None],
) -> None:
    """What is wrong under one of its names is left out of the rules, and the others are told."""
    said(GOOD | {"RETRY_DELAYS_SECONDS": "never", "HEARTBEAT_SECONDS": "60", "PUSH_CERTS_URL": "http://else.test"})
    with pytest.raises(ConfigurationError, match="together: LEASE_SECONDS") as refused:
        load(IngestSettings)
    assert "together: RETRY_DELAYS" not in refused.value.message


def test_what_is_set_to_nothing_is_not_set(said: Callable[[dict[str, str]], None]) -> None:
    """An empty variable has its default, and an empty required one is missing."""
    said(GOOD | {"DEFAULT_ORGANIZATION_ID": "", "LEASE_SECONDS": ""})
    settings = load(IngestSettings)
    assert (settings.default_organization_id, settings.lease_seconds) == (None, 60)
    said(GOOD | {"BUCKET": ""})
    with pytest.raises(ConfigurationError, match="BUCKET: Field required"):
        load(IngestSettings)


def test_a_misspelt_variable_is_named(said: Callable[[dict[str, str]], None]) -> None:
    """A variable that is nearly one of ours, which is not set, was meant to be it; others are nobody's business."""
    said(GOOD | {"INGEST_CONCURENCY": "3", "LEASE_SECOND": "50", "LEASE_SECONDS": "60", "PATH": "/bin", "API_KEY": "x"})
    assert misspelt(IngestSettings) == {"INGEST_CONCURENCY": "INGEST_CONCURRENCY"}
    assert misspelt(ProcessSettings) == {}
    without = {name: value for name, value in GOOD.items() if name != "DATABASE_URL"}
    said(without | {"DATABASE_URI": "postgresql://user:hunter2@db/headrace"})
    with pytest.raises(
        ConfigurationError, match="DATABASE_URI: not a variable of this process; DATABASE_URL is"
    ) as refused:
        load(IngestSettings)
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_secret_is_a_secret(kind: type[DatabaseSettings]) -> None:
    """A setting whose name says key, password or token, or that holds a password, cannot be printed by accident."""
    telling = re.compile(r"database_url|api_key|password|secret|(?<!per_million_)tokens?$")
    for name, field in kind.model_fields.items():
        if telling.search(name):
            assert "SecretStr" in str(field.annotation), name


@pytest.mark.parametrize("kind", KINDS)
def test_no_form_of_settings_shows_a_secret(
    kind: type[DatabaseSettings], said: Callable[[dict[str, str]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither text, representation, dump nor log line of any process's settings holds a password or a key."""
    said(GOOD | {"GEMINI_API_KEY": "key-123"})
    settings = load(kind)
    configure_logs("INFO", "json")
    structlog.get_logger("test").info("settings", settings=settings, dumped=settings.model_dump())
    shown = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()} {capsys.readouterr().err}"
    assert "settings" in shown
    assert "hunter2" not in shown
    assert "key-123" not in shown
