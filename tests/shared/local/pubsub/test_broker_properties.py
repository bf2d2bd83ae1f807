"""Whatever readers do, in whatever order: nothing is lost, and ordering keys stay in order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shared.local.pubsub.broker import Broker
from shared.local.pubsub.lease import Consumer, Lease
from shared.local.pubsub.topology import SubscriptionSpec, Topology
from shared.local.pubsub.wire import PubsubMessage
from tests.plugins.clock import ManualClock

KEYS = ("", "a", "b")


class Readers(RuleBasedStateMachine):
    """Publishers and readers that pull, ack, nack, wait, connect and die at random."""

    @initialize(min_backoff_seconds=st.sampled_from([None, 1.0, 30.0]))
    def open(self, min_backoff_seconds: float | None) -> None:
        """Start with an empty, ordered subscription with dead letters."""
        self.clock = ManualClock()
        self.broker = Broker(self.clock)
        Topology(
            project="p",
            topics=("work", "dead"),
            subscriptions=(
                SubscriptionSpec(
                    name="work",
                    topic="work",
                    dead_letter_topic="dead",
                    min_backoff_seconds=min_backoff_seconds,
                    ordering=True,
                ),
                SubscriptionSpec(name="dead", topic="dead"),
            ),
        ).create(self.broker)
        self.work = self.broker.subscription("projects/p/subscriptions/work")
        self.letters = self.broker.subscription("projects/p/subscriptions/dead")
        self.published: dict[str, list[bytes]] = {key: [] for key in KEYS}
        self.acked: set[bytes] = set()
        self.dead: set[bytes] = set()
        self.held: list[Lease] = []
        self.streams: list[Consumer] = []

    def _received(self, leases: list[Lease]) -> None:
        self.letters_in()
        for lease in leases:
            message = lease.entry.message
            assert 1 <= lease.attempt <= 5
            assert message.data not in self.dead
            if message.ordering_key:
                order = self.published[message.ordering_key]
                for earlier in order[: order.index(message.data)]:
                    assert earlier in self.acked | self.dead | {
                        held.entry.message.data for held in [*self.held, *leases] if held.entry.lease is held
                    }
        self.held += leases

    def letters_in(self) -> None:
        """Take in the dead letters."""
        letters = self.letters.pull(1000)
        self.letters.acknowledge([letter.ack_id for letter in letters])
        self.dead |= {letter.entry.message.data for letter in letters}

    @rule(key=st.sampled_from(KEYS), count=st.integers(1, 4))
    def publish(self, key: str, count: int) -> None:
        """Publish messages that are all different."""
        order = self.published[key]
        data = [f"{key}{len(order) + number}".encode() for number in range(count)]
        order += data
        messages = [PubsubMessage(data=item, ordering_key=key) for item in data]
        self.broker.publish("projects/p/topics/work", messages, 1)

    @rule(count=st.integers(1, 5))
    def pull(self, count: int) -> None:
        """Pull without waiting."""
        self._received(self.work.pull(count))

    @rule(max_messages=st.integers(0, 3))
    def connect(self, max_messages: int) -> None:
        """Open a stream."""
        stream = Consumer(wake=lambda: None, ack_deadline_seconds=20, max_messages=max_messages)
        self.streams.append(stream)
        self.work.attach(stream)

    @rule(data=st.data(), count=st.integers(1, 5))
    def read(self, data: st.DataObject, count: int) -> None:
        """Read from a stream."""
        if self.streams:
            stream = data.draw(st.sampled_from(self.streams))
            self._received(stream.take(count, 10**6))

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """End a stream."""
        if self.streams:
            stream = data.draw(st.sampled_from(self.streams))
            self.streams.remove(stream)
            self.work.detach(stream)

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        """Acknowledge something that was received, be it stale or not."""
        if self.held:
            lease = data.draw(st.sampled_from(self.held))
            if not self.work.acknowledge([lease.ack_id]):
                self.acked.add(lease.entry.message.data)

    @rule(data=st.data(), seconds=st.sampled_from([0, 0, 0, 5, 60]))
    def modify(self, data: st.DataObject, seconds: int) -> None:
        """Nack or extend something that was received, be it stale or not."""
        if self.held:
            self.work.modify_ack_deadline([data.draw(st.sampled_from(self.held)).ack_id], seconds)

    @rule(seconds=st.sampled_from([1, 9, 21, 100]))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.broker.tick()

    @invariant()
    def quotas_hold(self) -> None:
        """No stream holds more than it asked for, and the books are right."""
        for stream in self.streams if hasattr(self, "streams") else ():
            assert stream.outstanding_messages >= 0
            assert not stream.max_messages or stream.outstanding_messages <= stream.max_messages

    def teardown(self) -> None:
        """In the end every message can be read once more, or was acknowledged, or is a dead letter."""
        if not hasattr(self, "work"):
            return
        for stream in self.streams:
            self.work.detach(stream)
        for _ in ("leases run out", "the longest back-off ends"):
            self.clock.advance(1000)
            self.broker.tick()
        rest: set[bytes] = set()
        while leases := self.work.pull(100):
            self._received(leases)
            rest |= {lease.entry.message.data for lease in leases}
            assert self.work.acknowledge([lease.ack_id for lease in leases]) == []
            self.acked |= rest
        self.letters_in()
        assert self.work.backlog == 0
        everything = {item for order in self.published.values() for item in order}
        assert self.acked | self.dead == everything


TestReaders = Readers.TestCase
TestReaders.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
