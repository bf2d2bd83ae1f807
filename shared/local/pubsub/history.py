"""What a subscription can be taken back to: the messages that topics retain, and snapshots."""

import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.clock import Clock
from shared.errors import NotFound
from shared.local.pubsub.lease import Published
from shared.local.pubsub.limits import check_name, invalid
from shared.local.pubsub.subscription import Subscription
from shared.local.pubsub.wire import Raw, Snapshot

SNAPSHOT_LIFE = timedelta(days=7)
SHORTEST_SNAPSHOT_LIFE = timedelta(hours=1)


@dataclass(slots=True)
class _Held:
    """A snapshot: what was unread when it was taken, and everything that was published since then."""

    config: Raw
    unread: dict[str, Published] = field(default_factory=dict)

    @property
    def expires_at(self) -> datetime:
        moment: datetime = self.config.expire_time.ToDatetime(UTC)
        return moment


class History:
    """The retained messages and the snapshots of one broker; what is over is dropped when somebody looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._retained: dict[str, deque[Published]] = {}
        self._snapshots: dict[str, _Held] = {}

    def record(self, topic: Raw, published: Published) -> None:
        """Keep a message that was published now, for as long as the topic or a snapshot asks for it."""
        if topic.HasField("message_retention_duration"):
            self._retained.setdefault(topic.name, deque()).append(published)
            self.retained(topic)
        else:
            self._retained.pop(topic.name, None)
        for held in self._live().values():
            if held.config.topic == topic.name:
                held.unread[published.message.message_id] = published

    def retained(self, topic: Raw) -> list[Published]:
        """Return what the topic retains of itself, oldest first."""
        kept = self._retained.get(topic.name, deque())
        oldest_seconds = self._clock.monotonic() - topic.message_retention_duration.ToTimedelta().total_seconds()
        while kept and kept[0].published_at_seconds <= oldest_seconds:
            kept.popleft()
        return list(kept)

    def forget_topic(self, name: str) -> None:
        """Drop what a deleted topic retained; its snapshots stay, and belong to no topic any more."""
        self._retained.pop(name, None)

    def take(self, name: str, subscription: Subscription, labels: dict[str, str]) -> Raw:
        """Make a snapshot of what a subscription has not read yet.

        Raises:
            InvalidRequest: there is one of that name, or the oldest message leaves it less than an hour to live.
        """
        project = subscription.config.name.split("/")[1]
        name = name or f"projects/{project}/snapshots/s-{secrets.token_hex(8)}"
        check_name(name, "snapshots")
        if name in self._live():
            raise invalid(f"The snapshot {name} exists already.", "ALREADY_EXISTS")
        now = self._clock.now()
        unread = {published.message.message_id: published for published in subscription.unread()}
        oldest = min((published.message.publish_time.ToDatetime(UTC) for published in unread.values()), default=now)
        if oldest + SNAPSHOT_LIFE - now < SHORTEST_SNAPSHOT_LIFE:
            raise invalid("The backlog is too old for a snapshot: it would end within the hour.", "FAILED_PRECONDITION")
        config = Snapshot(name=name, topic=subscription.config.topic, labels=labels)
        config.expire_time.FromDatetime(oldest + SNAPSHOT_LIFE)
        self._snapshots[name] = _Held(config, unread)
        return config

    def snapshot(self, name: str) -> Raw:
        """Return a snapshot's configuration."""
        return self._held(name).config

    def unread(self, name: str) -> dict[str, Published]:
        """Return what a subscription has to have unread when it is taken back to this snapshot, by message id."""
        return dict(self._held(name).unread)

    def snapshots(self, project: str = "", *, topic: str = "") -> list[Raw]:
        """Return the snapshots of a project ("projects/p") or of a topic."""
        return [
            held.config
            for name, held in sorted(self._live().items())
            if (name.startswith(f"{project}/") if project else held.config.topic == topic)
        ]

    def delete(self, name: str) -> None:
        """Delete a snapshot."""
        self._held(name)
        del self._snapshots[name]

    def _held(self, name: str) -> _Held:
        check_name(name, "snapshots")
        held = self._live().get(name)
        if held is None:
            raise NotFound(f"The snapshot {name} does not exist.")
        return held

    def _live(self) -> dict[str, _Held]:
        now = self._clock.now()
        for name in [name for name, held in self._snapshots.items() if held.expires_at <= now]:
            del self._snapshots[name]
        return self._snapshots
