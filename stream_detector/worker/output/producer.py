"""Runs librdkafka's transactional producer: one instance after another, its calls, and what it reports back.

A producer reports lost connections, statistics and the fate of each message by callbacks, which run inside
its own calls. They are gathered here, so that a transaction can ask for them when it ends.
"""

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeGuard

import orjson
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, Producer
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.kafka.faults import PURGED, FaultClass, classify
from stream_detector.kafka.group import Beside
from stream_detector.records import Header, TopicPartition

__all__ = ["ANY", "NO_TIME", "Connect", "Delivered", "Outgoing", "TransactionalProducer", "call_within", "is_member"]

ErrorCallback = Callable[[Fault], None]
StatsCallback = Callable[[str], None]
Connect = Callable[[ErrorCallback, StatsCallback], Producer]
Delivered = Callable[[Fault | None, Any], None]

QUEUE_WAIT = 0.1  # seconds to let a full queue drain
REFUSAL = 0.05  # seconds; how late it is noticed that a message was refused
DELIVERY = 0.2  # seconds to wait for messages to arrive; most take a few milliseconds
RETRY_PAUSE = 0.05  # seconds; most retriable calls have waited long enough themselves
GRACE = 5.0  # seconds beyond its own time limit that a call of the client may take
BEAT = 1.0  # seconds between two signs of life
QUICK = 0.05  # seconds; the client repeats a request that got no answer later than this
STATS_WAIT = 2.0  # seconds; statistics come far more often
STATS_PAUSE = 0.05  # seconds that the client is polled at a time meanwhile
NO_TIME = -1  # a timestamp that says there is none, which a topic takes whatever the time
ANY = -1  # the client chooses the partition, by the key
METADATA = b"CGMDv2:"

LOST = Fault(Fault._TRANSPORT, "a connection was lost during the transaction")  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Holds a message for a topic; `id` names what it tells of. `timestamp_ms` 0 is the time of sending.

    `structured`: the value is a JSON object, and whatever is left of it must be one.
    """

    id: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()
    timestamp_ms: int = 0
    structured: bool = True


class TransactionalProducer:
    """Sends a transaction's messages, and notes what becomes of them.

    `doomed`: a message of the transaction cannot arrive. `fault` is the last one that was reported. `beat` is called
    while it waits. `connect` makes an instance that reports errors and statistics to the callbacks given. `beside` tells
    what is committed beside a partition's offset.
    """

    def __init__(self, connect: Connect, beat: Callable[[], None], beside: Beside) -> None:
        self.doomed = False
        self.fault: Fault | None = None
        self.connections = Connections()
        self._beside = beside
        self._slow = False
        self._connect = connect
        self._beat = beat
        self._instance: Producer | None = None

    @property
    def live(self) -> Producer:
        """Gives the instance in use."""
        assert self._instance is not None, "no producer: take_over() comes first"
        return self._instance

    def start(self, timeout: float) -> None:
        """Makes an instance, if there is none, and has it take the transactional id; raises the client's `KafkaException`.

        What its connections went through until then does not count.
        """
        if self._instance is None:
            self._instance = self._connect(self._on_error, self.connections.on_stats)
        self._instance.init_transactions(timeout)
        self.connections.restart()
        self.check_connections()

    def discard(self) -> None:
        """Lets the instance go, with the messages that were not sent yet."""
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.purge()

    def partitions(self, topics: Sequence[str], timeout: float) -> list[TopicPartition]:
        """Asks for every partition of the topics, `timeout` seconds each; raises the client's `KafkaException`."""
        known = [self.live.list_topics(topic, timeout).topics[topic] for topic in topics]
        # A topic that is not there says so when it is written to.
        return [(topic.topic, partition) for topic in known for partition in topic.partitions or [ANY]]

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        timestamp_ms: int,
        delivered: Delivered | None,
        partition: int,
        timeout: float,
    ) -> None:
        """Sends a message; the transaction is doomed when the queue is full for longer than `timeout`, seconds.

        `delivered` is told its outcome. Raises the client's `KafkaException`.
        """
        send = partial(
            self.live.produce,
            topic,
            key=key,
            value=value,
            partition=partition,
            headers=list(headers),
            timestamp=timestamp_ms,
            on_delivery=partial(self._on_delivery, delivered),
        )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                send()
            except BufferError:
                self._beat()
                self.poll(QUEUE_WAIT)
            else:
                self.poll(0)
                return
        self.doomed = True

    def send_offsets(self, offsets: Mapping[TopicPartition, int], membership: bytes, timeout: float) -> None:
        """Adds offsets to the transaction, each with what stands beside it; raises as `retried` does."""
        sent = [
            TopicPartitionOffset(topic, partition, offset, self._beside((topic, partition)))
            for (topic, partition), offset in offsets.items()
        ]
        self.retried(partial(self.live.send_offsets_to_transaction, sent, membership, timeout / 2), timeout)

    def retried(self, call: Callable[[], object], timeout: float) -> None:
        """Makes a call, and repeats it with the same arguments while its fault is retriable, for `timeout` seconds.

        Raises the client's `KafkaException`.
        """
        deadline = time.monotonic() + timeout
        while True:
            started = time.monotonic()
            try:
                call_within(timeout + GRACE, call, self._beat)
            except KafkaException as error:
                self.fault = error.args[0]
                if classify(error.args[0]) is not FaultClass.RETRIABLE or time.monotonic() > deadline:
                    raise
                self.connections.lost = True
                self.poll(RETRY_PAUSE)
            else:
                return
            finally:
                self._slow = self._slow or time.monotonic() - started > QUICK

    def await_arrival(self, timeout: float) -> bool:
        """Waits until all messages have arrived, or one is refused; whether all can still arrive."""
        deadline = time.monotonic() + timeout
        while len(self.live) and not self.doomed and time.monotonic() < deadline:
            self._serve(lambda instance: instance.flush(REFUSAL))
            self._beat()
        return not self.doomed

    def deliver(self) -> None:
        """Waits a moment for the messages to arrive."""
        self._serve(lambda instance: instance.flush(DELIVERY))

    def poll(self, seconds: float) -> None:
        """Lets the client call back."""
        self._serve(lambda instance: instance.poll(seconds))

    def check_connections(self) -> bool:
        """Tells whether a connection was lost since the last check."""
        self._slow = False
        self.poll(0)
        lost = self.connections.check()
        if lost:
            self.fault = self.fault or LOST
        return lost

    def check_repetition(self) -> None:
        """Finds out, at the end of a transaction, whether the client repeated a request of the end by itself."""
        self.poll(0)
        if self._slow and not self.connections.lost:
            self.connections.await_statistics(self.poll)

    def _serve(self, call: Callable[[Producer], object]) -> None:
        """Makes a call that calls back; a fault that ended the instance is raised here first, and again by the next."""
        try:
            if self._instance is not None:
                call(self._instance)
        except KafkaException as error:
            self.doomed = self.connections.lost = True
            self.fault = error.args[0]

    def _on_error(self, fault: Fault) -> None:
        """Notes that a connection failed: an EndTxn in flight may have been sent twice."""
        self.connections.lost = True
        self.fault = fault

    def _on_delivery(self, delivered: Delivered | None, fault: Fault | None, message: Any) -> None:
        if fault is not None and fault.code() in PURGED:
            return
        if fault is not None:
            self.doomed = True
            self.fault = fault
        if delivered:
            delivered(fault, message)


class Connections:
    """Watches the connections of one producer after another, as far as its callbacks tell.

    `lost`: a request may have been sent twice, or its answer may still be on its way.
    """

    def __init__(self) -> None:
        self.lost = False
        self._stats = ""
        self._reports = 0
        self._known: tuple[int, int] | None = None

    def restart(self) -> None:
        """Begins with another producer; what its connections go through until the next check does not count."""
        self._stats, self._known = "", None

    def on_stats(self, stats: str) -> None:
        """Takes the client's statistics, JSON."""
        self._stats = stats
        self._reports += 1

    def check(self) -> bool:
        """Tells whether a connection was lost since the last check; forgets what else went wrong before."""
        before, self._known = self._known, _faults(self._stats)
        self.lost = before is not None and self._known != before
        return self.lost

    def lost_since_check(self) -> bool:
        """Tells whether a connection was lost since the last check; this is no check itself."""
        return self._known is not None and _faults(self._stats) != self._known

    def reset(self) -> None:
        """Forgets the losses until now."""
        self._known = _faults(self._stats)

    def await_statistics(self, poll: Callable[[float], None]) -> None:
        """Counts a connection as lost unless fresh statistics say that none was; to be called after a slow call.

        `poll` lets the client call back for so many seconds.
        """
        stale, deadline = self._reports, time.monotonic() + STATS_WAIT
        while self._reports == stale and time.monotonic() < deadline:
            poll(STATS_PAUSE)
        self.lost = self.lost or self._reports == stale or _faults(self._stats) != self._known


def call_within(seconds: float, call: Callable[[], object], beat: Callable[[], None] = lambda: None) -> None:
    """Makes a call of the client in a thread; raises its exception, or a fatal `KafkaException` after `seconds`.

    After a broker was killed and came back, `send_offsets_to_transaction` of librdkafka 2.16 has been seen never to
    return, its own time limit notwithstanding. Such a call is left behind in its thread, with its producer. `beat` is
    called once a second while the caller waits.
    """
    outcome: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
            outcome.put(error)
        else:
            outcome.put(None)

    Thread(target=work, name="transaction", daemon=True).start()
    error = _outcome(outcome, seconds, beat)
    if error is not None:
        try:
            raise error
        finally:
            del error  # or the exception, this frame and the producer would keep each other alive


def is_member(membership: bytes | None) -> TypeGuard[bytes]:
    """Tells whether group metadata names a live member: the broker does not check a generation of -1.

    The form is librdkafka's own (`CGMDv2:`, generation, group, member); another one passes unchecked.
    """
    if not membership:
        return False
    if not membership.startswith(METADATA):
        return True
    head = len(METADATA)
    try:
        (generation,) = struct.unpack_from("=i", membership, head)
        _group, member, *_rest = membership[head + 4 :].split(b"\0")
    except (struct.error, ValueError):
        return True
    return generation >= 0 and bool(member)


def _outcome(
    outcome: SimpleQueue[BaseException | None], seconds: float, beat: Callable[[], None]
) -> BaseException | None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        with suppress(Empty):
            return outcome.get(timeout=min(BEAT, left))
        beat()
    message = f"the client did not return within {seconds:.0f} s"
    raise KafkaException(Fault(Fault._TIMED_OUT, message, True, False, False))  # noqa: SLF001


def _faults(stats: str) -> tuple[int, int] | None:
    """Counts lost connections to brokers, and requests that timed out; None when the statistics do not tell."""
    try:
        brokers = orjson.loads(stats)["brokers"].values()
        return sum(each["disconnects"] for each in brokers), sum(each["req_timeouts"] for each in brokers)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
