"""Topics and subscriptions as data, to be there from the first moment on."""

from pydantic import BaseModel, ConfigDict

from shared.local.pubsub.broker import Broker
from shared.local.pubsub.wire import Subscription, Topic


class SubscriptionSpec(BaseModel):
    """One subscription; names are short ids, times are seconds, and what is left out has the service's default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    topic: str
    ack_deadline_seconds: int = 0
    dead_letter_topic: str = ""
    max_delivery_attempts: int = 0
    min_backoff_seconds: float | None = None
    max_backoff_seconds: float | None = None
    filter: str = ""
    ordering: bool = False
    retention_seconds: int = 0
    push_endpoint: str = ""
    push_service_account: str = ""
    """Whose token a push request carries; its audience is the address."""


class Topology(BaseModel):
    """All topics and subscriptions of a project."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str
    topics: tuple[str, ...] = ()
    subscriptions: tuple[SubscriptionSpec, ...] = ()

    def create(self, broker: Broker) -> None:
        """Create everything in a broker.

        Raises:
            InvalidRequest, NotFound: a name or a limit is wrong, or a topic is missing.
        """
        for name in self.topics:
            broker.create_topic(Topic(name=self._topic(name)))
        for spec in self.subscriptions:
            config = Subscription(
                name=f"projects/{self.project}/subscriptions/{spec.name}",
                topic=self._topic(spec.topic),
                ack_deadline_seconds=spec.ack_deadline_seconds,
                filter=spec.filter,
                enable_message_ordering=spec.ordering,
            )
            if spec.retention_seconds:
                config.message_retention_duration.FromSeconds(spec.retention_seconds)
            if spec.push_endpoint:
                config.push_config.push_endpoint = spec.push_endpoint
                if spec.push_service_account:
                    config.push_config.oidc_token.service_account_email = spec.push_service_account
            if spec.dead_letter_topic:
                config.dead_letter_policy.dead_letter_topic = self._topic(spec.dead_letter_topic)
                config.dead_letter_policy.max_delivery_attempts = spec.max_delivery_attempts
            if spec.min_backoff_seconds is not None:
                config.retry_policy.minimum_backoff.FromMilliseconds(round(spec.min_backoff_seconds * 1000))
            if spec.max_backoff_seconds is not None:
                config.retry_policy.maximum_backoff.FromMilliseconds(round(spec.max_backoff_seconds * 1000))
            broker.create_subscription(config)

    def _topic(self, name: str) -> str:
        return f"projects/{self.project}/topics/{name}"
