"""What the real service refuses, refused here too, with the same status codes.

The errors' `code` names the status of the API: NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, UNIMPLEMENTED or, by
default, INVALID_ARGUMENT.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from shared.errors import InvalidRequest
from shared.local.pubsub.filters import parse_filter
from shared.local.pubsub.wire import Raw

MAX_REQUEST_BYTES = 10 * 1024 * 1024
MAX_MESSAGES = 1000
MAX_ATTRIBUTES = 100
MAX_ATTRIBUTE_KEY_BYTES = 256
MAX_ATTRIBUTE_VALUE_BYTES = 1024
MAX_ORDERING_KEY_BYTES = 1024
MAX_ACK_DEADLINE_SECONDS = 600

_NAME = re.compile(
    r"projects/(?P<project>[^/]+)/(?P<kind>topics|subscriptions|snapshots)/(?P<id>[A-Za-z][\w.~+%-]{2,254})", re.ASCII
)


def invalid(sentence: str, code: str = "INVALID_ARGUMENT") -> InvalidRequest:
    """Return the refusal of a request, with the status the service answers."""
    return InvalidRequest(sentence, code=code)


def check_name(name: str, kind: str) -> None:
    """Refuse what is no full name of the given kind ("topics", "subscriptions", "snapshots")."""
    match = _NAME.fullmatch(name)
    if match is None or match["kind"] != kind or match["id"].startswith("goog"):
        raise invalid(f"{name!r} is not of the form projects/PROJECT/{kind}/ID with an id of 3 to 255 characters.")


def check_publish(messages: Sequence[Raw], request_bytes: int) -> None:
    """Refuse a publish request as a whole if anything in it is over a limit."""
    if not messages:
        raise invalid("A publish request needs a message.")
    if len(messages) > MAX_MESSAGES:
        raise invalid(f"A publish request holds at most {MAX_MESSAGES} messages.")
    if request_bytes > MAX_REQUEST_BYTES:
        raise invalid(f"A publish request holds at most {MAX_REQUEST_BYTES} bytes.")
    for message in messages:
        _check_message(message)


def _check_message(message: Raw) -> None:
    attributes = message.attributes
    if not message.data and not attributes:
        raise invalid("A message needs data or an attribute.")
    if len(message.ordering_key.encode()) > MAX_ORDERING_KEY_BYTES:
        raise invalid(f"An ordering key has at most {MAX_ORDERING_KEY_BYTES} bytes.")
    if len(attributes) > MAX_ATTRIBUTES:
        raise invalid(f"A message has at most {MAX_ATTRIBUTES} attributes.")
    for key, value in attributes.items():
        # The client libraries' own trace attributes are let through.
        if not key or (key.startswith("goog") and not key.startswith("googclient_")):
            raise invalid("The key of an attribute may not be empty or begin with goog.")
        if len(key.encode()) > MAX_ATTRIBUTE_KEY_BYTES:
            raise invalid(f"The key of an attribute has at most {MAX_ATTRIBUTE_KEY_BYTES} bytes.")
        if len(value.encode()) > MAX_ATTRIBUTE_VALUE_BYTES:
            raise invalid(f"The value of an attribute has at most {MAX_ATTRIBUTE_VALUE_BYTES} bytes.")


def check_subscription(config: Raw) -> None:
    """Refuse a configuration that the service would not take (existence of topics is the broker's to check).

    What the service has and the endpoint lacks is refused as well: a setting without effect would be a trap.
    """
    check_name(config.name, "subscriptions")
    if config.enable_exactly_once_delivery:
        raise invalid("The local endpoint has no exactly-once delivery.", "UNIMPLEMENTED")
    for field in ("bigquery_config", "cloud_storage_config", "bigtable_config"):
        if config.HasField(field) and getattr(config, field).ByteSize():
            raise invalid(f"The local endpoint exports nothing; it has no {field}.", "UNIMPLEMENTED")
    if config.message_transforms:
        raise invalid("The local endpoint transforms no messages.", "UNIMPLEMENTED")
    _check_push(config.push_config)
    parse_filter(config.filter)
    if config.ack_deadline_seconds and not 10 <= config.ack_deadline_seconds <= MAX_ACK_DEADLINE_SECONDS:
        raise invalid("The ack deadline is 10 to 600 seconds.")
    attempts = config.dead_letter_policy.max_delivery_attempts
    if attempts and not 5 <= attempts <= 100:
        raise invalid("A dead-letter policy allows 5 to 100 delivery attempts.")
    if config.HasField("retry_policy"):
        backoffs = [config.retry_policy.minimum_backoff, config.retry_policy.maximum_backoff]
        if not all(0 <= backoff.ToTimedelta().total_seconds() <= 600 for backoff in backoffs):
            raise invalid("Backoffs are 0 to 600 seconds.")
    _check_retention(config)


def check_topic(config: Raw) -> None:
    """Refuse the configuration of a topic that the service would not take."""
    check_name(config.name, "topics")
    _check_retention(config)


def _check_retention(config: Raw) -> None:
    if config.HasField("message_retention_duration"):
        seconds = config.message_retention_duration.ToTimedelta().total_seconds()
        if not 600 <= seconds <= 31 * 24 * 3600:
            raise invalid("Messages are retained for 10 minutes to 31 days.")


def _check_push(config: Raw) -> None:
    endpoint = config.push_endpoint
    if not endpoint:
        return
    url = urlsplit(endpoint)
    # The service takes https only; on one machine nobody has a certificate.
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise invalid(f"{endpoint!r} is no address that can be pushed to.")
    if config.HasField("oidc_token") and not config.oidc_token.service_account_email:
        raise invalid("A token needs the e-mail address of a service account.")


def check_ack_deadline(seconds: int, *, least: int = 0) -> None:
    """Refuse a deadline that cannot be set on a lease (from 0, a nack) or on a stream (from 10)."""
    if not least <= seconds <= MAX_ACK_DEADLINE_SECONDS:
        raise invalid(f"An ack deadline is {least} to {MAX_ACK_DEADLINE_SECONDS} seconds.")
