"""One subscription: who holds which message until when, and what happens to those that nobody settles."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from shared.clock import Clock
from shared.errors import HeadraceError
from shared.local.pubsub.filters import parse_filter
from shared.local.pubsub.lease import Consumer, Entry, Lane, Lease, Published
from shared.local.pubsub.limits import invalid
from shared.local.pubsub.wire import Raw


class Subscription:
    """The queue of one subscription.

    A message is ready, delayed, leased, or gone; with ordering, messages of one key move through a lane that is ready
    or delayed as a whole. Every public method first lets time catch up, so that nobody can settle a lease that has
    run out.
    """

    def __init__(
        self,
        config: Raw,
        clock: Clock,
        *,
        forward: Callable[["Subscription", Entry], bool],
        alarm: Callable[[float], None],
    ) -> None:
        """Take a configuration with all defaults filled in.

        `forward` publishes an entry to the dead-letter topic and says whether it could; `alarm` is told the monotonic
        second of everything that becomes due.
        """
        self._clock = clock
        self._forward = forward
        self._alarm = alarm
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # by publishing; a dict finds its oldest slowly
        self._retained: deque[Entry] = deque()  # settled ones, for seek, if the configuration asks for it
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Entry | Lane] = deque()
        self._delayed: list[tuple[float, int, Entry | Lane]] = []
        self._leases: dict[str, Lease] = {}
        self._deadlines: list[tuple[float, int, Lease]] = []
        self._consumers: list[Consumer] = []
        self._serial = count(1)
        self.configure(config)

    def configure(self, config: Raw) -> None:
        """Apply a new configuration; a message that is delayed already stays so."""
        self.config = config
        self.matches = parse_filter(config.filter)
        self.ack_deadline_seconds: int = config.ack_deadline_seconds
        retry = config.retry_policy  # without a policy both are zero: redelivered at once
        self._min_backoff_seconds: float = retry.minimum_backoff.ToTimedelta().total_seconds()
        self._max_backoff_seconds: float = retry.maximum_backoff.ToTimedelta().total_seconds()
        self.dead_letter_topic: str = config.dead_letter_policy.dead_letter_topic
        self._max_attempts: int = config.dead_letter_policy.max_delivery_attempts
        self._retention_seconds: float = config.message_retention_duration.ToTimedelta().total_seconds()
        if not config.retain_acked_messages:
            self._retained.clear()
        if self._entries:  # they may be over sooner now
            self._alarm(self.next_wakeup())

    @property
    def push_endpoint(self) -> str:
        """Where messages are pushed to; empty: they are pulled."""
        return str(self.config.push_config.push_endpoint)

    @property
    def backlog(self) -> int:
        """Messages that are not settled: ready, delayed and leased."""
        return len(self._entries)

    @property
    def leased(self) -> int:
        """Messages that a consumer holds now."""
        return len(self._leases)

    @property
    def readers(self) -> int:
        """Open streams, and unary pulls that wait."""
        return len(self._consumers)

    def offer(self, message: Raw, size_bytes: int, published_at_seconds: float) -> None:
        """Enqueue a published message unless the filter turns it away; call `dispatch` after a batch of them."""
        if not self.matches(message.attributes):
            return
        if not self._entries:
            self._alarm(published_at_seconds + self._retention_seconds)
        entry = self._entries[message.message_id] = Entry(message, size_bytes, published_at_seconds)
        if message.ordering_key and self.config.enable_message_ordering:
            lane = self._lanes.get(message.ordering_key)
            if lane is None:
                lane = self._lanes[message.ordering_key] = Lane(message.ordering_key)
            entry.lane = lane
            lane.waiting.append(entry)
            self._queue_lane(lane)
        else:
            self._ready.append(entry)

    def check_pulled(self) -> None:
        """Refuse to be pulled from.

        Raises:
            InvalidRequest: the subscription was detached from its topic, or pushes.
        """
        if self.config.detached:
            raise invalid("The subscription was detached from its topic.", "FAILED_PRECONDITION")
        if self.push_endpoint:
            raise invalid("The subscription pushes; nothing can be pulled from it.", "FAILED_PRECONDITION")

    def attach(self, consumer: Consumer) -> None:
        """Begin to lease messages to this consumer, evenly with the others."""
        self._consumers.append(consumer)
        self.dispatch()

    def detach(self, consumer: Consumer) -> None:
        """Stop leasing to a consumer that has ended.

        What it never received is available at once and counts no attempt; what it did receive stays leased until the
        deadline, as nobody can know whether it is being worked on.
        """
        if consumer in self._consumers:
            self._consumers.remove(consumer)
        while consumer.inbox:
            lease = consumer.inbox.pop()
            if self._leases.get(lease.ack_id) is lease:
                self._end(lease)
                self._give_back(lease.entry, delay_seconds=0.0, first=True)
        self.dispatch()

    def pull(self, max_messages: int) -> list[Lease]:
        """Lease up to `max_messages` that are ready now, without waiting."""
        consumer = Consumer(
            wake=lambda: None, ack_deadline_seconds=self.ack_deadline_seconds, max_messages=max_messages
        )
        self.tick()
        while consumer.room() > 0 and self._ready:
            self._lease_next(consumer)
        return list(consumer.inbox)

    def acknowledge(self, ack_ids: Iterable[str]) -> list[str]:
        """Settle leases for good; return the ids that hold no lease (any more), whose messages stay."""
        self.tick()
        stale = []
        for ack_id in ack_ids:
            lease = self._leases.get(ack_id)
            if lease is None:
                stale.append(ack_id)
            else:
                self._end(lease)
                self._settle(lease.entry)
        self.dispatch()
        return stale

    def modify_ack_deadline(self, ack_ids: Iterable[str], seconds: float) -> list[str]:
        """Move deadlines to `seconds` from now; zero is a nack. Return the ids that hold no lease (any more)."""
        self.tick()
        stale = []
        for ack_id in ack_ids:
            lease = self._leases.get(ack_id)
            if lease is None:
                stale.append(ack_id)
            elif seconds <= 0:
                self._fail(lease)
            else:
                self._set_deadline(lease, self._clock.monotonic() + seconds)
        self.dispatch()
        return stale

    def expire_leases(self) -> int:
        """Let every lease run out now, as if its time had come; return their number."""
        leases = list(self._leases.values())
        for lease in leases:
            if lease.ack_id in self._leases:  # a lane may have revoked it meanwhile
                self._fail(lease)
        self.dispatch()
        return len(leases)

    def unread(self) -> list[Published]:
        """Return what is not acknowledged, oldest first."""
        self.tick()
        return [entry.published() for entry in self._entries.values() if not entry.acked]

    def seek(self, moment: datetime, topic_history: Iterable[Published] = ()) -> None:
        """Make everything published before `moment` settled and everything since then (still known) unread.

        Attempts begin anew and all leases end. Going back over settled messages needs `retain_acked_messages`, or a
        topic that retains its own.
        """
        self._rewind(lambda message: message.publish_time.ToDatetime(UTC) >= moment, topic_history)

    def restore(self, unread: Mapping[str, Published]) -> None:
        """Make exactly these messages unread, and all others that are known settled; attempts begin anew."""
        self._rewind(lambda message: message.message_id in unread, unread.values())

    def _rewind(self, is_unread: Callable[[Raw], bool], history: Iterable[Published]) -> None:
        self.tick()
        own = [entry.published() for entry in (*self._retained, *self._entries.values())]
        known = {published.message.message_id: published for published in (*history, *own)}
        for lease in list(self._leases.values()):
            self._end(lease)
        self._forget()
        for _, published in sorted(known.items(), key=lambda item: int(item[0])):
            if is_unread(published.message):
                self.offer(*published)
            elif self.config.retain_acked_messages:
                self._retained.append(Entry(*published))
        self.dispatch()

    def tick(self) -> None:
        """Do what is due: expire leases, end back-offs, drop messages beyond retention. Does not dispatch."""
        now = self._clock.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline_seconds, _, lease = heappop(self._deadlines)
            if lease.deadline_seconds == deadline_seconds and lease.ack_id in self._leases:
                self._fail(lease)
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.append(heappop(self._delayed)[2])
        while self._entries:
            entry = next(iter(self._entries.values()))
            if entry.published_at_seconds + self._retention_seconds > now:
                break
            if entry.lease is not None:
                self._end(entry.lease)
            self._settle(entry, keep_for_redelivery=False)
        while self._retained and self._retained[0].published_at_seconds + self._retention_seconds <= now:
            self._retained.popleft()

    def next_wakeup(self) -> float:
        """Return the clock's monotonic second at which `tick` may have something to do; infinity if never."""
        due = inf
        if self._deadlines:
            due = self._deadlines[0][0]
        if self._delayed:
            due = min(due, self._delayed[0][0])
        if self._entries:
            oldest = next(iter(self._entries.values()))
            due = min(due, oldest.published_at_seconds + self._retention_seconds)
        return due

    def dispatch(self) -> None:
        """Lease what is ready to the consumers that have room, the one with the least outstanding first."""
        woken: set[Consumer] = set()
        while self._ready:
            consumer = min(
                (consumer for consumer in self._consumers if consumer.room() > 0),
                key=lambda consumer: (consumer.outstanding_messages, consumer.turn),
                default=None,
            )
            if consumer is None:
                break
            self._lease_next(consumer)
            woken.add(consumer)
        for consumer in woken:
            consumer.wake()

    def close(self, reason: HeadraceError) -> None:
        """Forget everything and end the consumers with a reason."""
        self.end_consumers(reason)
        self._forget()

    def end_consumers(self, reason: HeadraceError) -> None:
        """End who reads now, with a reason; what they hold stays leased."""
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            consumer.closed_by = reason
            self.detach(consumer)
            consumer.wake()

    def _forget(self) -> None:
        self._entries.clear()
        self._retained.clear()
        self._lanes.clear()
        self._ready.clear()
        self._delayed.clear()
        self._leases.clear()
        self._deadlines.clear()

    def _lease_next(self, consumer: Consumer) -> None:
        item = self._ready.popleft()
        if isinstance(item, Lane):
            item.queued = False
            entries = item.start_batch(1 if consumer.one_of_a_key else consumer.room())
        else:
            entries = [] if item.gone else [item]
        if isinstance(item, Lane) and not entries:
            self._queue_lane(item)
        consumer.turn = next(self._serial)
        deadline_seconds = self._clock.monotonic() + consumer.ack_deadline_seconds
        for entry in entries:
            lease = entry.lease = Lease(entry, consumer, deadline_seconds)
            self._leases[lease.ack_id] = lease
            self._set_deadline(lease, deadline_seconds)
            consumer.outstanding_messages += 1
            consumer.outstanding_bytes += entry.size_bytes
            consumer.inbox.append(lease)

    def _set_deadline(self, lease: Lease, deadline_seconds: float) -> None:
        lease.deadline_seconds = deadline_seconds
        heappush(self._deadlines, (deadline_seconds, next(self._serial), lease))
        self._alarm(deadline_seconds)
        if len(self._deadlines) > 2 * len(self._leases) + 1000:  # most are of leases that have ended or moved on
            self._deadlines = [
                item
                for item in self._deadlines
                if item[2].ack_id in self._leases and item[2].deadline_seconds == item[0]
            ]
            heapify(self._deadlines)

    def _delay(self, item: Entry | Lane, due_seconds: float) -> None:
        heappush(self._delayed, (due_seconds, next(self._serial), item))
        self._alarm(due_seconds)

    def _end(self, lease: Lease) -> None:
        del self._leases[lease.ack_id]
        lease.entry.lease = None
        lease.consumer.outstanding_messages -= 1
        lease.consumer.outstanding_bytes -= lease.entry.size_bytes

    def _settle(self, entry: Entry, *, keep_for_redelivery: bool = True) -> None:
        lane = entry.lane
        if lane is None:
            self._remove(entry)
            return
        if keep_for_redelivery:
            entry.acked = True
        else:
            self._remove(entry)
        for settled in lane.trim():
            self._remove(settled)
        self._queue_lane(lane)

    def _remove(self, entry: Entry) -> None:
        entry.gone = True
        del self._entries[entry.message.message_id]
        if self.config.retain_acked_messages:
            self._retained.append(entry)

    def _fail(self, lease: Lease) -> None:
        entry = lease.entry
        self._end(lease)
        entry.failures += 1
        if self.dead_letter_topic and entry.failures >= self._max_attempts and self._forward(self, entry):
            self._settle(entry, keep_for_redelivery=False)
            return
        delay_seconds = min(self._max_backoff_seconds, self._min_backoff_seconds * 2 ** min(entry.failures - 1, 32))
        self._give_back(entry, delay_seconds=delay_seconds)

    def _give_back(self, entry: Entry, *, delay_seconds: float, first: bool = False) -> None:
        due_seconds = self._clock.monotonic() + delay_seconds
        if entry.lane is not None:
            for returned in entry.lane.rewind(entry):
                returned.acked = False
                if returned.lease is not None:
                    self._end(returned.lease)
            entry.lane.not_before_seconds = max(entry.lane.not_before_seconds, due_seconds)
            self._queue_lane(entry.lane)
        elif delay_seconds > 0:
            self._delay(entry, due_seconds)
        elif first:
            self._ready.appendleft(entry)
        else:
            self._ready.append(entry)

    def _queue_lane(self, lane: Lane) -> None:
        """Make a lane available when nothing of it is outstanding; forget it when nothing is left."""
        if lane.queued or lane.batch:
            return
        if not lane.waiting:
            del self._lanes[lane.key]
            return
        lane.queued = True
        if lane.not_before_seconds > self._clock.monotonic():
            self._delay(lane, lane.not_before_seconds)
        else:
            self._ready.append(lane)
