"""A bucket notification, read as what it is: a hint that something may have changed at a name.

Attributes and event types are those of https://cloud.google.com/storage/docs/pubsub-notifications. Generations in it
are looked at by nobody: they are not ordered, and the event may be late, early, doubled or about the past.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import InvalidRequest
from shared.model.document import ObjectRef

EVENT_TYPES = frozenset({"OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"})

MAX_NAME_BYTES = 1024
"""The service's own limit on object names."""


@dataclass(frozen=True, slots=True)
class Notification:
    """Where to look, and (for logs only) what is said to have happened there."""

    ref: ObjectRef
    event_type: str

    @classmethod
    def read(cls, attributes: Mapping[str, str], *, bucket: str) -> Notification:
        """Return the hint in a message of the uploads topic.

        Raises:
            InvalidRequest: `MALFORMED_NOTIFICATION`, with what is wrong; bringing it again changes nothing.
        """
        missing = [name for name in ("bucketId", "objectId", "eventType") if not attributes.get(name)]
        if missing:
            raise _malformed(f"the attributes {', '.join(missing)} are missing")
        if attributes["eventType"] not in EVENT_TYPES:
            raise _malformed("the event type is none of a bucket notification")
        if attributes["bucketId"] != bucket:
            raise _malformed("it is about another bucket than the one that is indexed")
        name = attributes["objectId"]
        if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES or "\x00" in name:
            raise _malformed("the object's name is not one that Cloud Storage allows")
        return cls(ObjectRef(bucket, name), attributes["eventType"])


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"this message is not a bucket notification: {what}.", code="MALFORMED_NOTIFICATION")
