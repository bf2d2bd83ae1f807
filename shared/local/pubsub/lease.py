"""What one subscription keeps about a message: its entry, its lease, its ordering lane, and who reads it."""

import secrets
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from shared.errors import HeadraceError
from shared.local.pubsub.wire import Raw

INBOX_LIMIT = 1000
"""Messages leased to a stream but not yet written to it; bounds what a stream without flow control can pile up."""


class Published(NamedTuple):
    """A message as it was published, without any subscription's view of it."""

    message: Raw
    size_bytes: int
    published_at_seconds: float


class Entry:
    """A message as one subscription sees it, from publish until it is settled."""

    __slots__ = ("acked", "failures", "gone", "lane", "lease", "message", "published_at_seconds", "size_bytes")

    def __init__(self, message: Raw, size_bytes: int, published_at_seconds: float) -> None:
        self.message = message
        self.size_bytes = size_bytes
        self.published_at_seconds = published_at_seconds
        self.failures = 0  # nacks and expiries; the next delivery is attempt failures + 1
        self.lease: Lease | None = None
        self.lane: Lane | None = None
        self.acked = False  # acknowledged, but kept while an earlier message of its key may be redelivered
        self.gone = False  # settled; queues that still hold it skip it

    def published(self) -> Published:
        """Return the message as it was published."""
        return Published(self.message, self.size_bytes, self.published_at_seconds)


class Lease:
    """The right to settle one delivery of a message, until its deadline."""

    __slots__ = ("ack_id", "attempt", "consumer", "deadline_seconds", "entry")

    def __init__(self, entry: Entry, consumer: "Consumer", deadline_seconds: float) -> None:
        self.ack_id = secrets.token_urlsafe(24)
        self.entry = entry
        self.consumer = consumer
        self.deadline_seconds = deadline_seconds
        self.attempt = entry.failures + 1


class Consumer:
    """A reader of a subscription with its quota: an open stream, or one unary pull.

    `wake` is called, synchronously, when something was put into the inbox or the consumer was closed; it must not
    call back into the broker.
    """

    def __init__(
        self, *, wake: Callable[[], None], ack_deadline_seconds: float, max_messages: int = 0, max_bytes: int = 0
    ) -> None:
        """A limit of zero (or less, as in the API) means no limit."""
        self.wake = wake
        self.ack_deadline_seconds = ack_deadline_seconds
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.paused = False
        """Takes nothing for now: a push endpoint that refused is left alone for a while."""
        self.one_of_a_key = False
        """Takes the next message of an ordering key only when the one before is settled, as push has to."""
        self.outstanding_messages = 0
        self.outstanding_bytes = 0
        self.turn = 0
        self.inbox: deque[Lease] = deque()
        self.closed_by: HeadraceError | None = None  # why the stream has to end

    def room(self) -> int:
        """Return how many more messages may be leased to this consumer now."""
        if self.paused or 0 < self.max_bytes <= self.outstanding_bytes:
            return 0
        room = INBOX_LIMIT - len(self.inbox)
        return room if self.max_messages <= 0 else min(room, self.max_messages - self.outstanding_messages)

    def take(self, max_messages: int, max_bytes: int) -> list[Lease]:
        """Take leases out of the inbox that still hold: at least one if there is one, whatever its size."""
        taken: list[Lease] = []
        size_bytes = 0
        while self.inbox and len(taken) < max_messages:
            if self.inbox[0].entry.lease is not self.inbox[0]:  # ran out before it could be written
                self.inbox.popleft()
                continue
            size_bytes += self.inbox[0].entry.size_bytes
            if taken and size_bytes > max_bytes:
                break
            taken.append(self.inbox.popleft())
        return taken


class Lane:
    """The messages of one ordering key: one outstanding batch at a time, and those that wait behind it."""

    __slots__ = ("batch", "key", "not_before_seconds", "queued", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: deque[Entry] = deque()
        self.batch: deque[Entry] = deque()
        self.not_before_seconds = 0.0
        self.queued = False  # stands in the ready queue or among the delayed

    def start_batch(self, count: int) -> list[Entry]:
        """Move up to `count` waiting messages into the batch and return them, in order."""
        while self.waiting and len(self.batch) < count:
            entry = self.waiting.popleft()
            if not entry.gone:
                self.batch.append(entry)
        return list(self.batch)

    def trim(self) -> list[Entry]:
        """Drop what is settled from the head of the batch; return those that were acknowledged."""
        dropped = []
        while self.batch and (self.batch[0].acked or self.batch[0].gone):
            entry = self.batch.popleft()
            if not entry.gone:
                dropped.append(entry)
        return dropped

    def rewind(self, failed: Entry) -> list[Entry]:
        """Put `failed` and all later messages of the batch back in front of the waiting ones, and return them."""
        keep = self.batch.index(failed)
        returned = [entry for entry in islice(self.batch, keep, None) if not entry.gone]
        while len(self.batch) > keep:
            self.batch.pop()
        self.waiting.extendleft(reversed(returned))
        return returned
