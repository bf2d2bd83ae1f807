"""What is counted can be scraped, and only what is declared can be counted."""

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from shared.telemetry import instruments
from shared.telemetry.metrics import Metrics
from tests.architecture.repository import ROOT


@pytest.fixture
async def metrics() -> AsyncIterator[Metrics]:
    """Metrics of one service."""
    async with Metrics("test") as metrics:
        yield metrics


async def test_counter_shows_in_the_text(metrics: Metrics) -> None:
    """A count appears with its labels, under the Prometheus form of its name."""
    metrics.add(instruments.JOBS, job_type="document_processing", outcome="completed")
    metrics.add(instruments.JOBS, 2, job_type="document_processing", outcome="completed")
    assert 'headrace_jobs_total{job_type="document_processing",outcome="completed"} 3.0' in metrics.text()


async def test_histogram_uses_declared_buckets(metrics: Metrics) -> None:
    """A duration falls into the buckets that the catalogue declares."""
    metrics.record(instruments.STAGE_SECONDS, 2.0, stage="embedding")
    text = metrics.text()
    assert 'headrace_stage_duration_seconds_bucket{le="1",stage="embedding"} 0.0' in text
    assert 'headrace_stage_duration_seconds_bucket{le="2.5",stage="embedding"} 1.0' in text


async def test_watched_value_is_shown_while_watched(metrics: Metrics) -> None:
    """A gauge shows what is true at the moment of looking, and nothing once its owner is gone."""
    size = 1
    with metrics.watching(instruments.POOL_CONNECTIONS, lambda: size, pool="main", state="open"):
        size = 7
        assert 'headrace_pool_connections{pool="main",state="open"} 7.0' in metrics.text()
    assert "headrace_pool_connections{" not in metrics.text()


async def test_other_labels_are_refused(metrics: Metrics) -> None:
    """A label that is not declared is an error at once, not a new time series for each file."""
    with pytest.raises(ValueError, match="labels"):
        metrics.add(instruments.JOBS, job_type="x", outcome="y", file="z")
    with pytest.raises(ValueError, match="labels"):
        metrics.add(instruments.JOBS, job_type="x")


async def test_services_do_not_mix() -> None:
    """Two services in one process count apart."""
    async with Metrics("one") as one, Metrics("two") as two:
        one.add(instruments.RETRIES, reason="failure")
        assert "headrace_retries_total" not in two.text()


def test_catalogue_is_complete_and_named_well() -> None:
    """Every instrument is in the catalogue once, with one prefix, a unit, a sentence, and buckets if it needs them."""
    names = [instrument.name for instrument in instruments.CATALOGUE]
    assert len(names) == len(set(names)) > 15
    for instrument in instruments.CATALOGUE:
        assert instrument.name.startswith("headrace.")
        assert instrument.unit
        assert instrument.description
        assert bool(instrument.buckets) == (instrument.kind == "histogram")
        assert list(instrument.buckets) == sorted(instrument.buckets)


async def test_shown_names_are_those_of_the_text(metrics: Metrics) -> None:
    """docs/metrics.md gives the names under which a scraper finds them."""
    with ExitStack() as watched:
        for instrument in instruments.CATALOGUE:
            labels = dict.fromkeys(instrument.labels, "x")
            if instrument.kind == "counter":
                metrics.add(instrument, **labels)
            elif instrument.kind == "histogram":
                metrics.record(instrument, 1.0, **labels)
            else:
                watched.enter_context(metrics.watching(instrument, lambda: 1.0, **labels))
        shown = {line.split()[2] for line in metrics.text().splitlines() if line.startswith("# TYPE")}
    assert {instruments.shown_name(instrument) for instrument in instruments.CATALOGUE} <= shown


def test_every_instrument_is_counted_on() -> None:
    """A metric that no code writes is not in the catalogue."""
    places = [path for folder in ("shared", "services") for path in (ROOT / folder).rglob("*.py")]
    code = "".join(path.read_text() for path in places if path.name != "instruments.py")
    names = [name for name, value in vars(instruments).items() if isinstance(value, instruments.Instrument)]
    assert [name for name in names if not re.search(rf"[(\s]{name}\b[,)]", code)] == []
