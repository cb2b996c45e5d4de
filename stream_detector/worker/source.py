"""Holds the worker's consumer: membership, partitions and their starts, messages."""

# ruff: noqa: SLF001 - the names of librdkafka's own error codes begin with an underscore

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import cast

import structlog
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import KafkaError as Fault
from confluent_kafka import Message as Consumed
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.config import Config
from stream_detector.errors import KafkaError, OffsetsLostError
from stream_detector.health import Health
from stream_detector.kafka.clients import worker_consumer
from stream_detector.kafka.faults import explained
from stream_detector.kafka.group import topic_id
from stream_detector.kafka.retry import Retry
from stream_detector.kafka.topic_descriptions import TopicIds
from stream_detector.records import Message, TopicPartition
from stream_detector.worker.output.producer import is_member
from stream_detector.worker.output.transaction import exclusive
from stream_detector.worker.partitions.assignment import Assignment, OwnedPartition, Received
from stream_detector.worker.partitions.restore import LogReader
from stream_detector.worker.partitions.starts import Starts

__all__ = ["Source"]

RESTORING = 0.25  # seconds that partitions are restored for before the group is served again
PROBE = 1.0  # seconds for a sign of life
UNREADABLE = 3  # times that records could not be inflated

log = structlog.get_logger(__name__)


class Source:
    """Reads the telemetry topics as a member of the group, and restores partitions.

    One thread at a time may use it: one that comes while another is inside gets a `RuntimeError`. Between two calls it may be
    handed to another thread, as for a commit beside the worker's loop. Partitions are assigned paused and read nothing until `restore`.
    """

    def __init__(self, config: Config, assignment: Assignment, health: Health | None = None) -> None:
        self._inside = RLock()
        self._health = health or Health()
        self.assignment = assignment
        self.retry = Retry.of(config.worker, "reading", self._health)
        self.rebalances = self.restores = 0
        self._config = config
        self._busy = self._joined = False
        self._seen_ids: TopicIds = {}
        self._crash: Exception | None = None
        self._faults: list[Fault] = []
        self._unreadable = 0
        self._consumer: Consumer = worker_consumer(config, on_error=self._faults.append)
        self.starts = Starts(config, self._consumer)
        self._log_reader = LogReader(config.kafka, self._health.beat)

    def subscribe(self, on_revoke: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """Joins the group. A group that never committed begins where `worker.start_from` says.

        `on_revoke` is called before partitions are given up, `on_lost` when they are lost already.
        """
        if self._config.worker.start_from == "latest":
            self.starts.begin_at_the_end()
        self._consumer.subscribe(
            list(self._config.topics.telemetry),
            on_assign=self._on_assign,
            on_revoke=partial(self._on_revoke, on_revoke),
            on_lost=partial(self._on_lost, on_lost),
        )

    @exclusive
    def receive(self, limit: int, wait: float) -> Received:
        """Receives the next messages, at most `limit`, to be taken from `assignment`; waits `wait` seconds for the first.

        After a silence the first is handed out at once, under load a batch gets time to fill.
        Rebalances happen in here, and their exceptions come out here.
        """
        messages = self._consumer.consume(1, wait)
        if messages and limit > 1:
            linger = self._config.worker.linger_ms / 1000 if self._busy else 0.0
            messages += self._consumer.consume(limit - 1, linger)
        self._busy = bool(messages)
        if self._crash:
            raise self._crash
        events, sound = _sorted_out(messages)
        received = self.assignment.received(
            sound, _partitions_of(events, Fault._PARTITION_EOF), dict(_partitions_of(events, Fault._AUTO_OFFSET_RESET))
        )
        for message in events:
            self._on_event(message, cast("Fault", message.error()))
        self._handle_faults()
        return received

    @exclusive
    def restore(self) -> None:
        """Finds starts and thresholds of partitions and begins to read them, as many as a moment allows.

        Does nothing more once a topic turns out to be created anew: those partitions are to be rewound first.
        """
        restoring = self.assignment.restoring
        if not restoring or self.retry.waiting:
            return
        subject = f"topic {restoring[0].name[0]!r}"
        until = time.monotonic() + RESTORING
        try:
            self._look_up([owned for owned in restoring if owned.start_is_stale])
            if self.starts.recreated_topics:
                return
            for owned in restoring:
                subject = "topic {!r}, partition {}".format(*owned.name)
                self._restore(owned)
                self._health.beat()
                if time.monotonic() > until:
                    break
        except KafkaException as error:
            self._fail_restoring(explained(error.args[0], subject))
        except OffsetsLostError:
            raise
        except KafkaError as error:
            self._fail_restoring(error)
        else:
            self.retry.succeeded()
        if not self.assignment.restoring:
            self._log_reader.close()

    def learn_ids(self, ids: TopicIds) -> None:
        """Takes the ids of topics as somebody else saw them; the same object again is nothing new."""
        if ids is not self._seen_ids:
            self._seen_ids = ids
            self.starts.learn({topic: identity for topic, identity in ids.items() if topic in self.starts.ids})

    def take_recreated(self) -> list[TopicPartition]:
        """Names the owned partitions of topics that turned out to be created anew since the last call."""
        recreated, self.starts.recreated_topics = self.starts.recreated_topics, set()
        return [name for name in self.assignment.owned if name[0] in recreated]

    @exclusive
    def rewind(self, partitions: Iterable[TopicPartition]) -> None:
        """Stops reading partitions until they are restored. What was taken of them must be committed, or aborted, before."""
        names = list(partitions)
        self.assignment.rewind(names)
        if names:
            self._consumer.pause([TopicPartitionOffset(*name) for name in names])

    @exclusive
    def membership(self) -> bytes | None:
        """Asks the client who we are to the group; generation and member id change without a callback."""
        metadata: bytes | None = self._consumer.consumer_group_metadata()
        return metadata

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Asks for the group's committed offsets, those that exist and are of the topics that are there; raises KafkaException."""
        known = self.starts.ids
        return {
            (each.topic, each.partition): each.offset
            for each in self.starts.committed(partitions)
            if topic_id(each) in {None, known.get(each.topic)}
        }

    @property
    def is_settled(self) -> bool:
        """Whether it is a member of the group, and all that it was given is being read."""
        return self._joined and not self.assignment.restoring

    def lag(self) -> int | None:
        """Counts the records beyond the last one taken, over all assigned partitions; None while that is not known of one."""
        if not self._joined:
            return None
        lags = [self._lag(owned) for owned in self.assignment]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if len(known) == len(lags) else None

    def report_health(self) -> None:
        """Tells the health what is amiss with the membership and the partitions, and whether a commit is to come."""
        restoring, group = self.assignment.restoring, self._config.kafka.group_id
        member = self._joined and is_member(self.membership())
        self._health.trouble("group", None if member else f"group {group!r}: not a member of it now")
        waiting = f"{len(restoring)} of {len(self.assignment.owned)} partitions are not being read yet"
        self._health.trouble("partitions", waiting if restoring else None)
        self._health.behind(bool(restoring or self.assignment.pending()))

    @exclusive
    def close(self) -> None:
        """Leaves the group."""
        self._joined = False
        self._log_reader.close()
        self._consumer.close()

    def _look_up(self, stale: list[OwnedPartition]) -> None:
        if stale:
            found = self.starts.find([owned.name for owned in stale])
            for owned in stale:
                owned.locate(found[owned.name])
            self._health.beat()

    def _restore(self, owned: OwnedPartition) -> None:
        start = owned.start
        assert start is not None, "a partition is restored after its start was looked up"
        restored = self._log_reader.restored(owned.name, start.low, start.offset, self.assignment.judge)
        self._seek(TopicPartitionOffset(*owned.name, start.offset))
        self.assignment.restore(owned.name, start, restored)
        self.restores += 1
        topic, partition = owned.name
        log.debug("reading", topic=topic, partition=partition, offset=start.offset, scores=restored.threshold.seen)

    def _fail_restoring(self, error: KafkaError) -> None:
        """Counts a failure; what was looked up may be out of date by the next attempt."""
        self._log_reader.close()
        for owned in self.assignment.restoring:
            owned.start_is_stale = True
        self.retry.failed(error)

    def _lag(self, owned: OwnedPartition) -> int | None:
        """Counts the records beyond the last one taken; before the first fetch, by what was there when the start was looked up."""
        start = owned.start
        if start is None:
            return None
        _low, high = self._consumer.get_watermark_offsets(TopicPartitionOffset(*owned.name), cached=True)
        return max(0, max(high, start.high) - (start.offset if owned.epoch is None else owned.next_offset))

    def _seek(self, start: TopicPartitionOffset) -> None:
        try:
            self._consumer.seek(start)
        except KafkaException as error:
            if error.args[0].code() != Fault._STATE:
                raise
            self._consumer.incremental_unassign([start])  # an offset error stopped it: begin anew
            self._consumer.incremental_assign([start])
        self._consumer.resume([start])

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartitionOffset]) -> None:
        with self._guarded():
            self.rebalances += 1
            self._joined = True
            # Nothing is read before the seek, but it must be a number: the broker is asked what the end is, and its
            # answer, coming after the seek, moves the position to the end. Records were skipped so, 9 times in 50.
            consumer.incremental_assign([TopicPartitionOffset(each.topic, each.partition, 0) for each in partitions])
            if partitions:
                consumer.pause(partitions)
            self.assignment.add(_topic_partitions(partitions))
            log.info("partitions assigned", partitions=_names(partitions))

    def _on_revoke(
        self, finish: Callable[[], None], _consumer: Consumer, partitions: list[TopicPartitionOffset]
    ) -> None:
        with self._guarded():
            self.rebalances += 1
            log.info("partitions revoked", partitions=_names(partitions))
            try:
                finish()
            finally:
                self.assignment.drop(_topic_partitions(partitions))

    def _on_lost(
        self, abandon: Callable[[], None], _consumer: Consumer, partitions: list[TopicPartitionOffset]
    ) -> None:
        with self._guarded():
            self.rebalances += 1
            self._joined = False
            log.warning("partitions lost", partitions=_names(partitions))
            try:
                abandon()
            finally:
                self.assignment.drop(_topic_partitions(partitions))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keeps an exception out of librdkafka; `receive` raises it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it may not leave a callback
            self._crash = self._crash or error

    def _on_event(self, message: Consumed, fault: Fault) -> None:
        if fault.code() in {Fault._PARTITION_EOF, Fault._AUTO_OFFSET_RESET}:
            return
        if fault.code() == Fault._MAX_POLL_EXCEEDED:
            log.warning("worker.max_poll_interval_ms exceeded; the partitions went to other workers")
        elif message.topic() and not fault.fatal():
            error = explained(fault, f"topic {message.topic()!r}, partition {message.partition()}")
            self._unreadable += fault.code() == Fault._BAD_COMPRESSION
            if self._unreadable >= UNREADABLE:  # the same batch again and again, while the broker answers all else
                raise error
            self.retry.failed(error)
        else:
            self._faults.append(fault)

    def _handle_faults(self) -> None:
        """Connection faults are trouble until the broker answers again."""
        faults, self._faults[:] = list(self._faults), []
        subject = f"group {self._config.kafka.group_id!r}, broker {self._config.kafka.bootstrap_servers}"
        for fault in faults:
            if fault.fatal():
                raise explained(fault, subject)
            self.retry.failed(explained(fault, subject))
        if not faults and self.retry.failing and not self.retry.waiting:
            self._probe(subject)

    def _probe(self, subject: str) -> None:
        try:
            self._consumer.list_topics(self._config.topics.telemetry[0], timeout=PROBE)
        except KafkaException as error:
            self.retry.failed(explained(error.args[0], subject))
        else:
            self.retry.succeeded()


def _sorted_out(messages: list[Consumed]) -> tuple[list[Consumed], list[Message]]:
    """Separates events from records."""
    events = [message for message in messages if message.error()]
    if not events:
        return [], cast("list[Message]", messages)
    return events, cast("list[Message]", [message for message in messages if not message.error()])


def _partitions_of(events: Iterable[Consumed], code: int) -> list[tuple[TopicPartition, int]]:
    """Finds the partitions that events with this code are about, and the offset of each."""
    found = (event for event in events if cast("Fault", event.error()).code() == code)
    return [((event.topic() or "", event.partition() or 0), event.offset() or 0) for event in found]


def _topic_partitions(partitions: list[TopicPartitionOffset]) -> list[TopicPartition]:
    return [(each.topic, each.partition) for each in partitions]


def _names(partitions: list[TopicPartitionOffset]) -> list[str]:
    return [f"{each.topic}-{each.partition}" for each in partitions]
