"""The transactional producer itself, one after another: what is sent through it, and what it calls back."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, Producer

from stream_detector.kafka.connections import Connections
from stream_detector.kafka.faults import PURGED
from stream_detector.records import Header, TopicPartition

__all__ = ["ANY", "NO_TIME", "Connect", "Delivered", "TransactionalClient"]

ErrorCallback = Callable[[Fault], None]
StatsCallback = Callable[[str], None]
Connect = Callable[[ErrorCallback, StatsCallback], Producer]
Delivered = Callable[[Fault | None, Any], None]

QUEUE_WAIT = 0.1  # seconds to let a full queue drain
REFUSAL = 0.05  # seconds; how late it is noticed that a message was refused
DELIVERY = 0.2  # seconds to wait for messages to arrive; most take a few milliseconds
NO_TIME = -1  # a timestamp that says there is none, which a topic takes whatever the time
ANY = -1  # the client chooses the partition, by the key

LOST = Fault(Fault._TRANSPORT, "a connection was lost during the transaction")  # noqa: SLF001


class TransactionalClient:
    """Sends a transaction's messages, and notes what becomes of them and of the connections.

    `doomed`: a message of the transaction cannot arrive. `fault` is the last one that was told. `beat` is called
    while it waits.
    """

    def __init__(self, connect: Connect, beat: Callable[[], None]) -> None:
        self.doomed = False
        self.fault: Fault | None = None
        self.connections = Connections()
        self._connect = connect
        self._beat = beat
        self._producer: Producer | None = None

    @property
    def live(self) -> Producer:
        """The producer there is."""
        assert self._producer is not None, "no producer: take_over() comes first"
        return self._producer

    def connect(self) -> Producer:
        """Makes a producer, if there is none."""
        if self._producer is None:
            self._producer = self._connect(self._on_error, self.connections.on_stats)
        return self._producer

    def discard(self) -> None:
        """Lets the producer go, with what was not sent yet."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    def places(self, topics: Sequence[str], timeout: float) -> list[TopicPartition]:
        """Every partition of the topics, asked for `timeout` seconds each; raises the client's `KafkaException`."""
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
        patience: float,
    ) -> None:
        """Sends a message; it is doomed when the queue is full for longer than `patience`, seconds.

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
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                send()
            except BufferError:
                self._beat()
                self.serve(QUEUE_WAIT)
            else:
                self.serve(0)
                return
        self.doomed = True

    def have_arrived(self, patience: float) -> bool:
        """Waits for the messages; at one that is refused it ends, while the client would wait for those behind it."""
        deadline = time.monotonic() + patience
        while len(self.live) and not self.doomed and time.monotonic() < deadline:
            self._served(lambda producer: producer.flush(REFUSAL))
            self._beat()
        return not self.doomed

    def deliver(self) -> None:
        """Waits a moment for the messages to arrive."""
        self._served(lambda producer: producer.flush(DELIVERY))

    def serve(self, seconds: float) -> None:
        """Lets the client call back."""
        self._served(lambda producer: producer.poll(seconds))

    def look_back(self) -> bool:
        """Whether a connection was lost since the last time."""
        self.serve(0)
        lost = self.connections.look_back()
        if lost:
            self.fault = self.fault or LOST
        return lost

    def _served(self, call: Callable[[Producer], object]) -> None:
        """A call that calls back; a fault that ended the producer is raised here first, and again by the next call."""
        try:
            if self._producer is not None:
                call(self._producer)
        except KafkaException as error:
            self.doomed = self.connections.shaken = True
            self.fault = error.args[0]

    def _on_error(self, fault: Fault) -> None:
        """A connection failed: an EndTxn in flight may have been sent twice."""
        self.connections.shaken = True
        self.fault = fault

    def _on_delivery(self, delivered: Delivered | None, fault: Fault | None, message: Any) -> None:
        if fault is not None and fault.code() in PURGED:
            return
        if fault is not None:
            self.doomed = True
            self.fault = fault
        if delivered:
            delivered(fault, message)
