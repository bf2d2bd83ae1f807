"""The broker: topics, subscriptions and the way of a message between them, without any I/O."""

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from math import inf

from shared.clock import Clock
from shared.errors import DependencyUnavailable, NotFound
from shared.local.pubsub.history import History
from shared.local.pubsub.lease import Entry, Published
from shared.local.pubsub.limits import check_name, check_publish, check_subscription, check_topic, invalid
from shared.local.pubsub.subscription import Subscription
from shared.local.pubsub.wire import PubsubMessage, Raw, Topic
from shared.local.pubsub.wire import Subscription as SubscriptionConfig

ACTIVE = 1  # the state of a topic and of a subscription; both enumerations give it this number
DELETED_TOPIC = "_deleted-topic_"
DEFAULT_ACK_DEADLINE_SECONDS = 10
DEFAULT_MAX_DELIVERY_ATTEMPTS = 5
DEFAULT_MIN_BACKOFF = timedelta(seconds=10)
DEFAULT_MAX_BACKOFF = timedelta(seconds=600)
DEFAULT_RETENTION = timedelta(days=7)
DEFAULT_EXPIRATION = timedelta(days=31)

_IMMUTABLE_FIELDS = frozenset({"name", "topic", "filter", "enable_message_ordering"})


class Broker:
    """All topics and subscriptions of one endpoint; lives on one event loop and does nothing by itself.

    Whoever drives it asks `arm` when to call `tick`, and is told through `on_earlier_wakeup` when that moment has
    come closer; through `on_push_change`, when there may be another subscription to push for.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_earlier_wakeup: Callable[[], None] = lambda: None,
        on_push_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._on_earlier_wakeup = on_earlier_wakeup
        self._on_push_change = on_push_change
        self._history = History(clock)
        self._armed_seconds = inf
        self._topics: dict[str, Raw] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._by_topic: dict[str, list[Subscription]] = {}
        self._next_message_id = 10**16 + secrets.randbelow(10**16)
        self.duplicate_next = 0
        """Fault: deliver this many of the messages published next a second time, with an id of their own."""
        self.drop_next = 0
        """Fault: acknowledge this many of the messages published next without delivering them."""

    # --- topics

    def create_topic(self, config: Raw) -> Raw:
        """Create a topic and return its configuration."""
        check_topic(config)
        if config.name in self._topics:
            raise invalid(f"The topic {config.name} exists already.", "ALREADY_EXISTS")
        config.state = ACTIVE
        self._topics[config.name] = config
        self._by_topic[config.name] = []
        return config

    def topic(self, name: str) -> Raw:
        """Return the configuration of a topic."""
        check_name(name, "topics")
        config = self._topics.get(name)
        if config is None:
            raise NotFound(f"The topic {name} does not exist.")
        return config

    def update_topic(self, config: Raw, paths: Sequence[str]) -> Raw:
        """Take the named fields of `config` over into the topic."""
        changed = Topic()
        changed.CopyFrom(self.topic(config.name))
        _merge(changed, config, paths, immutable=frozenset({"name"}))
        check_topic(changed)
        self._topics[config.name] = changed
        return changed

    def topics(self, project: str) -> list[Raw]:
        """Return the topics of a project ("projects/p")."""
        return [topic for name, topic in sorted(self._topics.items()) if name.startswith(f"{project}/")]

    def delete_topic(self, name: str) -> None:
        """Delete a topic; its subscriptions stay and keep what they have."""
        self.topic(name)
        del self._topics[name]
        self._history.forget_topic(name)
        for snapshot in self._history.snapshots(topic=name):
            snapshot.topic = DELETED_TOPIC
        for subscription in self._by_topic.pop(name):
            subscription.config.topic = DELETED_TOPIC

    def topic_subscriptions(self, name: str) -> list[str]:
        """Return the names of a topic's subscriptions."""
        self.topic(name)
        return sorted(subscription.config.name for subscription in self._by_topic[name])

    # --- subscriptions

    def create_subscription(self, config: Raw) -> Raw:
        """Create a subscription, which gets what is published from now on, and return its full configuration."""
        check_subscription(config)
        self.topic(config.topic)
        if config.name in self._subscriptions:
            raise invalid(f"The subscription {config.name} exists already.", "ALREADY_EXISTS")
        self._check_dead_letter_topic(config)
        subscription = Subscription(_with_defaults(config), self._clock, forward=self._forward, alarm=self._alarm)
        self._subscriptions[config.name] = subscription
        self._by_topic[config.topic].append(subscription)
        self._on_push_change()
        return subscription.config

    def subscription(self, name: str) -> Subscription:
        """Return a subscription."""
        check_name(name, "subscriptions")
        subscription = self._subscriptions.get(name)
        if subscription is None:
            raise NotFound(f"The subscription {name} does not exist.")
        return subscription

    def update_subscription(self, config: Raw, paths: Sequence[str]) -> Raw:
        """Take the named fields of `config` over into the subscription."""
        subscription = self.subscription(config.name)
        changed = SubscriptionConfig()
        changed.CopyFrom(subscription.config)
        _merge(changed, config, paths, immutable=_IMMUTABLE_FIELDS)
        check_subscription(changed)
        self._check_dead_letter_topic(changed)
        before = subscription.config
        delivers_anew = changed.push_config != before.push_config or (
            subscription.push_endpoint and changed.ack_deadline_seconds != before.ack_deadline_seconds
        )
        subscription.configure(_with_defaults(changed))
        if delivers_anew:
            subscription.end_consumers(invalid("The subscription delivers in another way now.", "FAILED_PRECONDITION"))
            self._on_push_change()
        return subscription.config

    def subscriptions(self, project: str) -> list[Raw]:
        """Return the configurations of a project's subscriptions ("projects/p")."""
        found = sorted(self._subscriptions.items())
        return [subscription.config for name, subscription in found if name.startswith(f"{project}/")]

    def delete_subscription(self, name: str) -> None:
        """Delete a subscription with all its messages; its streams end."""
        subscription = self.subscription(name)
        del self._subscriptions[name]
        self._part(subscription)
        subscription.close(NotFound(f"The subscription {name} was deleted."))

    def detach_subscription(self, name: str) -> None:
        """Take a subscription off its topic for good: it keeps its name, loses its messages, and gets no more."""
        subscription = self.subscription(name)
        self._part(subscription)
        subscription.config.detached = True
        subscription.close(invalid("The subscription was detached from its topic.", "FAILED_PRECONDITION"))

    def pushing(self) -> list[Subscription]:
        """Return the subscriptions that push."""
        return [entry for entry in self._subscriptions.values() if entry.push_endpoint and not entry.config.detached]

    # --- history

    def create_snapshot(self, name: str, subscription: str, labels: dict[str, str]) -> Raw:
        """Keep what a subscription has not read, and what is published from now on, for a later seek."""
        return self._history.take(name, self.subscription(subscription), labels)

    def snapshot(self, name: str) -> Raw:
        """Return the configuration of a snapshot."""
        return self._history.snapshot(name)

    def update_snapshot(self, config: Raw, paths: Sequence[str]) -> Raw:
        """Take the named fields of `config` over into the snapshot."""
        current = self._history.snapshot(config.name)
        _merge(current, config, paths, immutable=frozenset({"name", "topic"}))
        return current

    def snapshots(self, project: str) -> list[Raw]:
        """Return the snapshots of a project ("projects/p")."""
        return self._history.snapshots(project)

    def topic_snapshots(self, topic: str) -> list[str]:
        """Return the names of a topic's snapshots."""
        self.topic(topic)
        return [snapshot.name for snapshot in self._history.snapshots(topic=topic)]

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot."""
        self._history.delete(name)

    def seek_to_time(self, name: str, moment: datetime) -> None:
        """Make unread in a subscription what was published since `moment`, and nothing else."""
        subscription = self.subscription(name)
        topic = self._topics.get(subscription.config.topic)
        subscription.seek(moment, self._history.retained(topic) if topic is not None else ())

    def seek_to_snapshot(self, name: str, snapshot: str) -> None:
        """Make unread in a subscription what was unread when the snapshot was taken, and what came since."""
        subscription = self.subscription(name)
        if self._history.snapshot(snapshot).topic != subscription.config.topic:
            raise invalid("The snapshot is of another topic than the subscription.", "FAILED_PRECONDITION")
        subscription.restore(self._history.unread(snapshot))

    def close(self) -> None:
        """End every stream as a service does that goes away; the clients come back by themselves."""
        for subscription in self._subscriptions.values():
            subscription.close(DependencyUnavailable("The endpoint is going down.", code="UNAVAILABLE"))

    # --- messages

    def publish(self, topic: str, messages: Sequence[Raw], request_bytes: int) -> list[str]:
        """Give each message an id and a time, hand it to the topic's subscriptions, and return the ids.

        The messages are kept, not copied. All of them are refused if one is over a limit.
        """
        self.topic(topic)
        check_publish(messages, request_bytes)
        ids = [self._enqueue(topic, message) for message in messages]
        self._dispatch(topic)
        return ids

    # --- time

    def tick(self) -> None:
        """Do what is due in every subscription."""
        for subscription in self._subscriptions.values():
            subscription.tick()
        for subscription in self._subscriptions.values():  # after all ticks: one may dead-letter into another
            subscription.dispatch()

    def arm(self) -> float:
        """Return the clock's monotonic second of the next thing that is due (infinity: nothing).

        If a later call makes something due before that, `on_earlier_wakeup` is called.
        """
        self._armed_seconds = min((queue.next_wakeup() for queue in self._subscriptions.values()), default=inf)
        return self._armed_seconds

    def _alarm(self, due_seconds: float) -> None:
        if due_seconds < self._armed_seconds:
            self._armed_seconds = due_seconds
            self._on_earlier_wakeup()

    def _enqueue(self, topic: str, message: Raw) -> str:
        self._next_message_id += 1
        message.message_id = str(self._next_message_id)
        message.publish_time.FromDatetime(self._clock.now())
        if self.drop_next > 0:
            self.drop_next -= 1
            return str(message.message_id)
        size_bytes = message.ByteSize()
        published = Published(message, size_bytes, self._clock.monotonic())
        self._history.record(self._topics[topic], published)
        for subscription in self._by_topic[topic]:
            subscription.offer(*published)
        message_id = str(message.message_id)
        if self.duplicate_next > 0:
            self.duplicate_next -= 1
            again, left = _copy(message), self.duplicate_next
            self.duplicate_next = 0  # the duplicate itself is not duplicated
            self._enqueue(topic, again)
            self.duplicate_next = left
        return message_id

    def _part(self, subscription: Subscription) -> None:
        siblings = self._by_topic.get(subscription.config.topic, [])
        if subscription in siblings:
            siblings.remove(subscription)

    def _dispatch(self, topic: str) -> None:
        for subscription in self._by_topic[topic]:
            subscription.dispatch()

    def _forward(self, source: Subscription, entry: Entry) -> bool:
        """Publish an entry to its dead-letter topic as a new message; a topic that is gone leaves it where it is."""
        topic = source.dead_letter_topic
        if topic not in self._topics:
            return False
        letter = _copy(entry.message)
        project, subscription_id = source.config.name.split("/")[1::2]
        published_at = entry.message.publish_time.ToDatetime(UTC).isoformat(timespec="milliseconds")
        letter.attributes["CloudPubSubDeadLetterSourceSubscription"] = subscription_id
        letter.attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] = project
        letter.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] = str(entry.failures)
        letter.attributes["CloudPubSubDeadLetterSourceTopicPublishTime"] = published_at
        self._enqueue(topic, letter)
        self._dispatch(topic)
        return True

    def _check_dead_letter_topic(self, config: Raw) -> None:
        topic = config.dead_letter_policy.dead_letter_topic
        if topic:
            self.topic(topic)
            if topic == config.topic:
                raise invalid("A dead-letter topic is another topic than the subscription's own.")


def _copy(message: Raw) -> Raw:
    copy = PubsubMessage()
    copy.CopyFrom(message)
    return copy


def _with_defaults(config: Raw) -> Raw:
    """Fill in what the service fills in, so that clients read back what applies."""
    config.state = ACTIVE
    config.ack_deadline_seconds = config.ack_deadline_seconds or DEFAULT_ACK_DEADLINE_SECONDS
    if not config.HasField("message_retention_duration"):
        config.message_retention_duration.FromTimedelta(DEFAULT_RETENTION)
    if not config.HasField("expiration_policy"):
        config.expiration_policy.ttl.FromTimedelta(DEFAULT_EXPIRATION)
    if config.HasField("dead_letter_policy") and not config.dead_letter_policy.max_delivery_attempts:
        config.dead_letter_policy.max_delivery_attempts = DEFAULT_MAX_DELIVERY_ATTEMPTS
    if config.HasField("retry_policy"):
        policy = config.retry_policy
        if not policy.HasField("minimum_backoff"):
            policy.minimum_backoff.FromTimedelta(DEFAULT_MIN_BACKOFF)
        if not policy.HasField("maximum_backoff"):
            policy.maximum_backoff.FromTimedelta(DEFAULT_MAX_BACKOFF)
    return config


def _merge(target: Raw, source: Raw, paths: Sequence[str], *, immutable: frozenset[str]) -> None:
    if not paths:
        raise invalid("An update names the fields it changes.")
    for path in paths:
        field, *nested = path.split(".")
        if field in immutable or field not in target.DESCRIPTOR.fields_by_name:
            raise invalid(f"The field {path} cannot be updated.")
        if nested:
            if source.HasField(field):
                _merge(getattr(target, field), getattr(source, field), [".".join(nested)], immutable=frozenset())
            continue
        target.ClearField(field)
        part = type(target)()
        part.CopyFrom(source)
        for other in list(part.DESCRIPTOR.fields_by_name):
            if other != field:
                part.ClearField(other)
        target.MergeFrom(part)
