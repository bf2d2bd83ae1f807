"""Pages that are made from the code are as the code; links in pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import generate
from services.api.settings import ApiSettings
from shared.events.catalogue import CATALOGUE
from tests.architecture.repository import ROOT, files, shown

PAGES = [path for path in files() if path.suffix == ".md"]
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", generate.PAGES)
def test_page_equals_the_code(page: str) -> None:
    """`python -m docs.generate --write` records a wanted change."""
    assert (ROOT / "docs" / page).read_text() == generate.PAGES[page]()


def test_stale_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The command fails and names a page that differs, and `--write` mends it."""
    for name, make in generate.PAGES.items():
        (tmp_path / name).write_text(make())
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    assert generate.main([]) == 0
    (tmp_path / "events.md").write_text("old\n")
    assert generate.main([]) == 1
    assert "docs/events.md" in capsys.readouterr().err
    assert generate.main(["--write"]) == 0
    assert generate.main([]) == 0


def test_every_setting_says_what_it_does() -> None:
    """Each variable has a description; the page is made of them."""
    for settings in generate.SERVICES.values():
        assert [name for name, field in settings.model_fields.items() if not field.description] == []


def test_configuration_names_variables_as_the_environment_does() -> None:
    """A variable with other names in the environment is listed under those."""
    page = generate.configuration()
    assert "`GEMINI_API_KEY` or `GOOGLE_API_KEY`" in page
    assert "`OTEL_EXPORTER_OTLP_ENDPOINT`" in page
    for name in ApiSettings.__annotations__:
        assert f"`{name.upper()}`" in page


def test_every_event_has_a_topic() -> None:
    """The page knows where each event of the catalogue is said."""
    assert set(generate.SAID_ON) == set(CATALOGUE)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the repository."""
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_decisions_are_numbered_and_complete() -> None:
    """Decisions are numbered without gaps, each says what a reader asks, and the list of them is whole."""
    records = sorted(path for path in files() if path.parent == ROOT / "docs" / "adr" and path.name[0].isdigit())
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    listed = (ROOT / "docs" / "adr" / "README.md").read_text()
    for path in records:
        text = path.read_text()
        for part in ("Status:", "## Context", "## Decision", "## Consequences", "## Alternatives"):
            assert part in text, f"{shown(path)} has no {part}"
        assert f"({path.name})" in listed, f"{shown(path)} is not listed"
