"""What the whole suite shares: its plugins, and the choice of servers it runs against."""

from __future__ import annotations

from pathlib import Path

import pytest

_PLUGINS = ("clock", "model_server", "postgres", "road", "desk", "stack", "watchdog")

pytest_plugins = [
    f"tests.plugins.{name}" for name in _PLUGINS if (Path(__file__).parent / "plugins" / f"{name}.py").exists()
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--stack`."""
    parser.addoption(
        "--stack",
        choices=("embedded", "emulator", "cloud"),
        default="embedded",
        help="the servers that are tested against: our own, or Google's emulator of Pub/Sub, which its contract suite "
        "alone runs on; `cloud` skips what needs servers",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have `--stack=emulator` choose what can run on it, whatever tier that belongs to."""
    if config.getoption("--stack") == "emulator":
        config.option.markexpr = "emulator"


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> str:
    """Say which servers were asked for."""
    return str(request.config.getoption("--stack"))
