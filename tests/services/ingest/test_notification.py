"""Reading a bucket notification."""

import pytest

from services.ingest.notification import Notification
from shared.errors import InvalidRequest

GOOD = {
    "bucketId": "uploads",
    "objectId": "a/b.pdf",
    "eventType": "OBJECT_FINALIZE",
    "objectGeneration": "1",
    "notificationConfig": "projects/_/buckets/uploads/notificationConfigs/1",
}


@pytest.mark.parametrize("event", ["OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"])
def test_every_event_is_a_hint_about_a_name(event: str) -> None:
    """Each of the service's event types leads to the object it names."""
    hint = Notification.read(GOOD | {"eventType": event}, bucket="uploads")
    assert (hint.ref.uri, hint.event_type) == ("gs://uploads/a/b.pdf", event)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucketId": ""},
        {"bucketId": "another"},
        {"objectId": ""},
        {"objectId": "x" * 1025},
        {"objectId": "a\x00b"},
        {"eventType": "OBJECT_EXPLODED"},
        {"eventType": ""},
    ],
)
def test_what_is_no_notification_is_refused(wrong: dict[str, str]) -> None:
    """Missing, foreign and impossible values are refused with one code, and the value is not repeated."""
    with pytest.raises(InvalidRequest) as refused:
        Notification.read(GOOD | wrong, bucket="uploads")
    assert refused.value.code == "MALFORMED_NOTIFICATION"
    assert "xxxx" not in refused.value.message
