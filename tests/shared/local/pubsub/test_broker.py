"""The broker's rules of time, order and limits, on a clock that the tests move."""

from datetime import timedelta

import pytest

from shared.errors import InvalidRequest, NotFound
from shared.local.pubsub.broker import Broker
from shared.local.pubsub.lease import Consumer, Lease
from shared.local.pubsub.subscription import Subscription
from shared.local.pubsub.topology import SubscriptionSpec, Topology
from shared.local.pubsub.wire import PubsubMessage
from tests.plugins.clock import ManualClock

TOPIC = "projects/p/topics/work"


class Bench:
    """A broker with a topic `work`, a dead-letter topic `dead` (with subscription `letters`), and one subscription."""

    def __init__(self, **spec: object) -> None:
        self.clock = ManualClock()
        self.broker = Broker(self.clock)
        Topology(
            project="p",
            topics=("work", "dead"),
            subscriptions=(
                SubscriptionSpec(name="work", topic="work", **spec),
                SubscriptionSpec(name="letters", topic="dead"),
            ),
        ).create(self.broker)
        self.work = self.subscription("work")
        self.letters = self.subscription("letters")

    def subscription(self, name: str) -> Subscription:
        """Return a subscription by its short name."""
        return self.broker.subscription(f"projects/p/subscriptions/{name}")

    def publish(self, *texts: str, key: str = "", **attributes: str) -> list[str]:
        """Publish texts in one request and return their ids."""
        messages = [PubsubMessage(data=t.encode(), ordering_key=key, attributes=attributes) for t in texts]
        return self.broker.publish(TOPIC, messages, sum(m.ByteSize() for m in messages))

    def advance(self, seconds: float) -> None:
        """Move the clock and let the broker do what is due."""
        self.clock.advance(seconds)
        self.broker.tick()


def texts(leases: list[Lease]) -> list[str]:
    """Return the data of the leased messages."""
    return [lease.entry.message.data.decode() for lease in leases]


def ids(leases: list[Lease]) -> list[str]:
    """Return the ack ids."""
    return [lease.ack_id for lease in leases]


def test_message_ids_are_long_and_unique_and_times_are_the_clocks() -> None:
    """Each message gets an id like the service's and the time of publishing."""
    bench = Bench()
    published = bench.publish("a", "b", "c")
    assert len(set(published)) == 3
    assert all(len(message_id) >= 15 and message_id.isdecimal() for message_id in published)
    assert bench.work.pull(1)[0].entry.message.publish_time.ToDatetime() == bench.clock.now().replace(tzinfo=None)


def test_an_acknowledged_message_is_gone() -> None:
    """After an ack a message never comes back."""
    bench = Bench()
    bench.publish("a")
    assert bench.work.acknowledge(ids(bench.work.pull(1))) == []
    bench.advance(3600)
    assert bench.work.pull(10) == []
    assert bench.work.backlog == 0


def test_a_lease_that_nobody_settles_runs_out_at_its_deadline() -> None:
    """A message comes back at the ack deadline and not before."""
    bench = Bench(ack_deadline_seconds=10)
    bench.publish("a")
    bench.work.pull(1)
    bench.advance(9.9)
    assert bench.work.pull(1) == []
    bench.advance(0.2)
    assert texts(bench.work.pull(1)) == ["a"]


def test_a_deadline_can_be_extended() -> None:
    """A modified deadline counts from the moment of the request."""
    bench = Bench(ack_deadline_seconds=10)
    bench.publish("a")
    lease = bench.work.pull(1)[0]
    bench.advance(9)
    assert bench.work.modify_ack_deadline([lease.ack_id], 30) == []
    bench.advance(29)
    assert bench.work.pull(1) == []
    bench.advance(2)
    assert texts(bench.work.pull(1)) == ["a"]


def test_the_ack_of_an_expired_lease_removes_nothing() -> None:
    """Whoever is too late is told so, and the message stays for the next one."""
    bench = Bench(ack_deadline_seconds=10)
    bench.publish("a")
    late = ids(bench.work.pull(1))
    bench.clock.advance(11)  # no tick: the ack itself has to notice
    assert bench.work.acknowledge(late) == late
    again = bench.work.pull(1)
    assert texts(again) == ["a"]
    assert again[0].ack_id != late[0]
    assert bench.work.acknowledge(late) == late
    assert bench.work.backlog == 1


def test_ack_ids_cannot_be_guessed() -> None:
    """An ack id is random and belongs to one delivery."""
    bench = Bench()
    bench.publish(*"abcdefgh")
    taken = ids(bench.work.pull(8))
    assert len(set(taken)) == 8
    assert min(len(ack_id) for ack_id in taken) >= 32


def test_a_nack_without_retry_policy_redelivers_at_once() -> None:
    """Zero seconds of deadline give a message back."""
    bench = Bench()
    bench.publish("a")
    bench.work.modify_ack_deadline(ids(bench.work.pull(1)), 0)
    assert texts(bench.work.pull(1)) == ["a"]


def test_backoff_doubles_up_to_its_maximum() -> None:
    """With a retry policy the n-th redelivery waits min × 2ⁿ⁻¹ seconds, at most max."""
    bench = Bench(min_backoff_seconds=2, max_backoff_seconds=10)
    bench.publish("a")
    for wait in (2, 4, 8, 10, 10):
        bench.work.modify_ack_deadline(ids(bench.work.pull(1)), 0)
        bench.advance(wait - 0.1)
        assert bench.work.pull(1) == []
        bench.advance(0.2)
        assert bench.work.backlog == 1
    assert texts(bench.work.pull(1)) == ["a"]


def test_one_failing_message_does_not_hold_back_others() -> None:
    """Without ordering, a message in back-off lets those behind it pass."""
    bench = Bench(min_backoff_seconds=10)
    bench.publish("bad", "good")
    bench.work.modify_ack_deadline(ids(bench.work.pull(1)), 0)
    assert texts(bench.work.pull(10)) == ["good"]


def test_delivery_attempts_are_counted_and_the_last_one_is_dead_lettered() -> None:
    """Nacks and expiries count alike; after the last attempt the message moves with the four attributes."""
    bench = Bench(dead_letter_topic="dead", max_delivery_attempts=5)
    published_at = bench.clock.now()
    (message_id,) = bench.publish("bad", colour="red")
    for attempt in range(1, 6):
        (lease,) = bench.work.pull(1)
        assert lease.attempt == attempt
        assert bench.letters.backlog == 0
        if attempt % 2:
            bench.work.modify_ack_deadline([lease.ack_id], 0)
        else:
            bench.advance(10.1)
    assert bench.work.backlog == 0
    letter = bench.letters.pull(1)[0].entry.message
    assert letter.data == b"bad"
    assert letter.message_id != message_id
    assert dict(letter.attributes) == {
        "colour": "red",
        "CloudPubSubDeadLetterSourceSubscription": "work",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceTopicPublishTime": published_at.isoformat(timespec="milliseconds"),
    }


def test_without_the_dead_letter_topic_a_message_stays() -> None:
    """A dead-letter topic that was deleted loses nothing."""
    bench = Bench(dead_letter_topic="dead")
    bench.broker.delete_topic("projects/p/topics/dead")
    bench.publish("bad")
    for _ in range(7):
        bench.work.modify_ack_deadline(ids(bench.work.pull(1)), 0)
    assert bench.work.backlog == 1


def test_one_batch_of_an_ordering_key_is_outstanding_at_a_time() -> None:
    """While a batch of a key is out, later messages of the key wait; other keys do not."""
    bench = Bench(ordering=True)
    bench.publish("a1", "a2", key="a")
    first = bench.work.pull(2)
    bench.publish("a3", key="a")
    bench.publish("b1", key="b")
    assert texts(first) == ["a1", "a2"]
    others = bench.work.pull(10)
    assert texts(others) == ["b1"]
    bench.work.acknowledge(ids(first)[:1])
    assert bench.work.pull(10) == []
    bench.work.acknowledge(ids(first)[1:])
    assert texts(bench.work.pull(10)) == ["a3"]


@pytest.mark.parametrize("by_expiry", [False, True])
def test_a_failure_redelivers_it_and_all_later_ones_of_its_key_in_order(*, by_expiry: bool) -> None:
    """A nack or expiry rewinds the key to that message, even past messages that were acknowledged."""
    bench = Bench(ordering=True, ack_deadline_seconds=10)
    bench.publish("1", "2", "3", "4", key="k")
    leases = bench.work.pull(4)
    bench.publish("5", key="k")
    bench.work.acknowledge([leases[0].ack_id, leases[2].ack_id])
    if by_expiry:
        bench.work.modify_ack_deadline([leases[3].ack_id], 60)
        bench.advance(10.1)
    else:
        bench.work.modify_ack_deadline([leases[1].ack_id], 0)
    assert bench.work.acknowledge([leases[3].ack_id]) == [leases[3].ack_id]
    again = bench.work.pull(10)
    assert texts(again) == ["2", "3", "4", "5"]
    bench.work.acknowledge(ids(again)[:1])
    assert bench.work.backlog == 3  # the earlier ack of 3 does not count for its redelivery


def test_an_earlier_message_of_the_batch_still_out_holds_the_key_back() -> None:
    """After a nack in the middle nothing of the key moves until the earlier ones are settled."""
    bench = Bench(ordering=True)
    bench.publish("1", "2", "3", key="k")
    leases = bench.work.pull(3)
    bench.work.modify_ack_deadline([leases[1].ack_id], 0)
    assert bench.work.pull(10) == []
    bench.work.acknowledge([leases[0].ack_id])
    assert texts(bench.work.pull(10)) == ["2", "3"]


def test_a_key_waits_out_the_backoff_of_its_head() -> None:
    """With ordering and a retry policy the whole key is delayed, and stays in order."""
    bench = Bench(ordering=True, min_backoff_seconds=5)
    bench.publish("1", "2", key="k")
    bench.work.modify_ack_deadline(ids(bench.work.pull(2))[:1], 0)
    bench.advance(4.9)
    assert bench.work.pull(10) == []
    bench.advance(0.2)
    assert texts(bench.work.pull(10)) == ["1", "2"]


def test_a_dead_lettered_head_lets_its_key_go_on() -> None:
    """Ordering and dead letters together lose and stop nothing."""
    bench = Bench(ordering=True, dead_letter_topic="dead", max_delivery_attempts=5)
    bench.publish("bad", "2", "3", key="k")
    for _ in range(5):
        bench.work.modify_ack_deadline(ids(bench.work.pull(1)), 0)
    assert texts(bench.letters.pull(1)) == ["bad"]
    rest = bench.work.pull(10)
    assert texts(rest) == ["2", "3"]
    assert rest[0].attempt == 1
    bench.work.acknowledge(ids(rest))
    assert bench.work.backlog == 0


def test_the_filter_turns_messages_away() -> None:
    """A message that does not match is never delivered."""
    bench = Bench(filter='attributes.kind = "a"')
    bench.publish("yes", kind="a")
    bench.publish("no", kind="b")
    assert texts(bench.work.pull(10)) == ["yes"]
    assert bench.work.backlog == 1


def test_messages_beyond_retention_are_dropped() -> None:
    """After seven days an unread message is gone, ready, leased or delayed."""
    bench = Bench(ordering=True, min_backoff_seconds=600)
    bench.publish("plain")
    bench.publish("keyed", key="k")
    bench.work.modify_ack_deadline(ids(bench.work.pull(1)), 0)
    bench.advance(7 * 24 * 3600 - 1)
    assert bench.work.backlog == 2
    bench.advance(1)
    assert bench.work.backlog == 0
    assert bench.work.pull(10) == []
    bench.publish("again", key="k")
    assert texts(bench.work.pull(10)) == ["again"]


def test_seek_to_a_time_settles_before_it_and_replays_since() -> None:
    """A seek forward purges; a seek back redelivers what is retained, in order and from the first attempt."""
    bench = Bench(ordering=True, dead_letter_topic="dead")
    work = bench.work
    work.config.retain_acked_messages = True
    bench.publish("1", key="k")
    bench.advance(5)
    middle = bench.clock.now()
    bench.publish("2", "3", key="k")
    work.acknowledge(ids(work.pull(1)))
    held = work.pull(10)
    assert texts(held) == ["2", "3"]
    work.acknowledge(ids(held)[:1])
    work.seek(middle)
    assert work.acknowledge(ids(held)[1:]) == ids(held)[1:]
    again = work.pull(10)
    assert [(lease.entry.message.data, lease.attempt) for lease in again] == [(b"2", 1), (b"3", 1)]
    bench.advance(1)
    work.seek(bench.clock.now())
    assert (work.backlog, work.leased) == (0, 0)
    work.seek(middle - timedelta(hours=1))
    assert texts(work.pull(10)) == ["1", "2", "3"]


def test_seek_back_without_retention_finds_only_what_is_unread() -> None:
    """Acknowledged messages are gone unless the subscription keeps them."""
    bench = Bench()
    start = bench.clock.now()
    bench.publish("read", "unread")
    bench.work.acknowledge(ids(bench.work.pull(1)))
    bench.work.seek(start)
    assert texts(bench.work.pull(10)) == ["unread"]


def consumer(max_messages: int = 0, max_bytes: int = 0) -> Consumer:
    """Return an open stream that nobody waits on."""
    return Consumer(wake=lambda: None, ack_deadline_seconds=60, max_messages=max_messages, max_bytes=max_bytes)


def test_messages_spread_evenly_over_consumers() -> None:
    """Two streams get half each, whether the backlog was there first or not."""
    bench = Bench()
    one, two = consumer(), consumer()
    bench.work.attach(one)
    bench.work.attach(two)
    bench.publish(*[str(number) for number in range(10)])
    assert (len(one.inbox), len(two.inbox)) == (5, 5)


def test_a_consumer_gets_no_more_than_its_quota() -> None:
    """What exceeds max_outstanding_messages waits for an ack or another stream."""
    bench = Bench()
    first = consumer(max_messages=3)
    bench.work.attach(first)
    bench.publish(*"abcde")
    taken = first.take(10, 1000)
    assert texts(taken) == ["a", "b", "c"]
    bench.work.acknowledge(ids(taken)[:1])
    assert texts(first.take(10, 1000)) == ["d"]
    second = consumer()
    bench.work.attach(second)
    assert texts(second.take(10, 1000)) == ["e"]


def test_bytes_are_a_quota_too() -> None:
    """A stream over max_outstanding_bytes gets nothing more until something is settled."""
    bench = Bench()
    stream = consumer(max_bytes=1000)
    bench.work.attach(stream)
    bench.publish("x" * 900, "y" * 900, "z")
    assert len(stream.inbox) == 2
    bench.work.acknowledge(ids(stream.take(10, 10_000)))
    assert len(stream.inbox) == 1


def test_a_response_is_cut_by_size() -> None:
    """What is taken at once stays under the given bytes, but is never nothing."""
    bench = Bench()
    stream = consumer()
    bench.work.attach(stream)
    bench.publish("x" * 900, "y" * 900)
    assert [len(stream.take(10, 1000)) for _ in range(3)] == [1, 1, 0]
    bench.publish("z" * 2000)
    assert len(stream.take(10, 1000)) == 1


def test_an_ended_consumer_returns_what_it_never_received() -> None:
    """The undelivered part of a dead stream is available at once, the delivered part at its deadline."""
    bench = Bench(dead_letter_topic="dead")
    dead = consumer()
    bench.work.attach(dead)
    bench.publish("a", "b", "c")
    assert texts(dead.take(1, 1000)) == ["a"]
    bench.work.detach(dead)
    leases = bench.work.pull(10)
    assert texts(leases) == ["b", "c"]
    assert {lease.attempt for lease in leases} == {1}
    bench.advance(60.1)
    assert "a" in texts(bench.work.pull(10))


@pytest.mark.parametrize(
    "message",
    [
        PubsubMessage(),
        PubsubMessage(data=b"x", attributes={str(number): "" for number in range(101)}),
        PubsubMessage(data=b"x", attributes={"k" * 257: ""}),
        PubsubMessage(data=b"x", attributes={"k": "v" * 1025}),
        PubsubMessage(data=b"x", attributes={"googlish": "v"}),
        PubsubMessage(data=b"x", ordering_key="k" * 1025),
        PubsubMessage(data=b"x" * (10 * 1024 * 1024)),
    ],
    ids=["empty", "attributes", "key", "value", "goog", "ordering key", "size"],
)
def test_publish_refuses_what_the_service_refuses(message: object) -> None:
    """One message over a limit refuses the request as a whole."""
    bench = Bench()
    request = [PubsubMessage(data=b"fine"), message]
    with pytest.raises(InvalidRequest):
        bench.broker.publish(TOPIC, request, sum(m.ByteSize() for m in request))
    assert bench.work.backlog == 0


def test_a_request_holds_a_thousand_messages() -> None:
    """1,000 messages are taken, 1,001 are not."""
    bench = Bench()
    bench.publish(*["x"] * 1000)
    with pytest.raises(InvalidRequest):
        bench.publish(*["x"] * 1001)
    assert bench.work.backlog == 1000


@pytest.mark.parametrize(
    "spec",
    [
        {"ack_deadline_seconds": 9},
        {"ack_deadline_seconds": 601},
        {"dead_letter_topic": "dead", "max_delivery_attempts": 4},
        {"dead_letter_topic": "dead", "max_delivery_attempts": 101},
        {"dead_letter_topic": "work"},
        {"max_backoff_seconds": 601},
        {"filter": "this is not a filter ((("},
    ],
)
def test_create_subscription_refuses_what_the_service_refuses(spec: dict[str, object]) -> None:
    """A configuration out of bounds is refused."""
    with pytest.raises(InvalidRequest):
        Bench(**spec)


def test_a_dead_letter_topic_has_to_exist() -> None:
    """A policy cannot point to nothing."""
    with pytest.raises(NotFound):
        Bench(dead_letter_topic="nowhere")


def test_faults_can_be_asked_for() -> None:
    """A test can duplicate (with another id) and drop the messages published next."""
    bench = Bench()
    bench.broker.duplicate_next = 1
    bench.publish("twice", "once")
    leases = bench.work.pull(10)
    assert texts(leases) == ["twice", "twice", "once"]
    assert len({lease.entry.message.message_id for lease in leases}) == 3
    bench.broker.drop_next = 1
    bench.publish("lost", "kept")
    assert texts(bench.work.pull(10)) == ["kept"]


def test_leases_can_be_made_to_run_out() -> None:
    """A test can let time run out for all leases of a subscription without waiting."""
    bench = Bench(dead_letter_topic="dead")
    bench.publish("a", "b")
    bench.work.pull(2)
    assert bench.work.expire_leases() == 2
    assert [lease.attempt for lease in bench.work.pull(10)] == [2, 2]


def test_the_driver_is_told_when_something_is_due_earlier() -> None:
    """`arm` gives the next moment, and a call that makes it earlier says so."""
    clock, told = ManualClock(), []
    broker = Broker(clock, on_earlier_wakeup=lambda: told.append(clock.monotonic()))
    spec = SubscriptionSpec(name="work", topic="work", ack_deadline_seconds=20)
    Topology(project="p", topics=("work",), subscriptions=(spec,)).create(broker)
    broker.publish(TOPIC, [PubsubMessage(data=b"x")], 1)
    broker.arm()
    told.clear()
    subscription = broker.subscription("projects/p/subscriptions/work")
    (lease,) = subscription.pull(1)
    assert told == [0.0]
    assert broker.arm() == 20
    subscription.modify_ack_deadline([lease.ack_id], 30)
    assert told == [0.0]
