"""The environment, read once."""

import pytest

from services.process.settings import ProcessSettings
from services.recover.settings import RecoverSettings
from shared.errors import ConfigurationError
from shared.settings import CommonSettings, load

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
