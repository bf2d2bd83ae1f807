"""An event that travels arrives as it was, or as one clear error."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRequest
from shared.events import envelope
from shared.events.catalogue import CATALOGUE, DeadLettered, Event, StageChanged, WorkBell
from shared.model.job import Lane, Stage, Status

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001

EVENTS = st.one_of(
    st.builds(WorkBell, lane=st.sampled_from(Lane), job_id=st.none() | st.uuids()),
    st.builds(
        StageChanged,
        job_id=st.uuids(),
        seq=st.integers(1, 2**31),
        organization_id=_TEXT,
        file_path=st.none() | _TEXT,
        generation=st.none() | st.integers(1, 2**63 - 1),
        attempt=st.integers(0, 10),
        status=st.sampled_from(Status),
        stage=st.sampled_from(Stage),
        occurred_at=_TIMES,
        error_code=st.none() | _TEXT,
    ),
    st.builds(
        DeadLettered,
        dead_letter_id=st.uuids(),
        origin=st.sampled_from(["job", "message"]),
        job_id=st.none() | st.uuids(),
        code=_TEXT,
        stage=st.none() | st.sampled_from(Stage),
        occurred_at=_TIMES,
    ),
)


@given(EVENTS)
def test_round_trip(event: Event) -> None:
    """Every event of the catalogue comes out as it went in."""
    assert envelope.read(type(event), envelope.body_of(event), envelope.attributes_of(event)) == event


def test_strategies_cover_the_catalogue() -> None:
    """An event that is added must be added to the round trip too."""
    assert set(CATALOGUE) == {WorkBell, StageChanged, DeadLettered}


def test_unknown_fields_are_ignored() -> None:
    """A newer sender may add fields."""
    body = b'{"lane": "bulk", "added_later": 1}'
    assert envelope.read(WorkBell, body, {}) == WorkBell(lane=Lane.BULK)


@pytest.mark.parametrize(
    ("body", "attributes"),
    [
        (b"{}", {}),
        (b"not json", {}),
        (b"\xff", {}),
        (b'{"lane": "express"}', {}),
        (b'{"lane": "bulk"}', {"event_type": StageChanged.TYPE}),
        (b'{"lane": "bulk"}', {"event_type": WorkBell.TYPE, "event_version": "2"}),
    ],
    ids=["missing", "no-json", "no-text", "wrong-value", "other-type", "other-version"],
)
def test_malformed_is_one_error(body: bytes, attributes: dict[str, str]) -> None:
    """What cannot be read is `MALFORMED_EVENT`, and the sentence repeats nothing of the body."""
    with pytest.raises(InvalidRequest) as caught:
        envelope.read(WorkBell, body, attributes)
    assert caught.value.code == "MALFORMED_EVENT"
    assert "express" not in str(caught.value)


def test_attributes_carry_identity_and_trace() -> None:
    """Type, version, trace and the words for filters travel outside of the body."""
    bell = WorkBell(lane=Lane.BULK, job_id=UUID(int=1))
    assert envelope.attributes_of(bell, trace_parent="00-a-b-01", lane="bulk") == {
        "event_type": "headrace.work.bell",
        "event_version": "1",
        "traceparent": "00-a-b-01",
        "lane": "bulk",
    }
