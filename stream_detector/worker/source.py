"""The worker's end of the consumer: membership, partitions and their starts, messages."""

# ruff: noqa: SLF001 - the names of librdkafka's own error codes begin with an underscore

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
from stream_detector.kafka.retry import Patience
from stream_detector.kafka.topic_descriptions import TopicIds
from stream_detector.records import Message, TopicPartition
from stream_detector.worker.candidate import Candidate
from stream_detector.worker.judge import Judge
from stream_detector.worker.output.producer import is_member
from stream_detector.worker.partitions.assignment import Assignment, Held
from stream_detector.worker.partitions.history import History
from stream_detector.worker.partitions.placing import Placing
from stream_detector.worker.partitions.starts import Start, Starts

__all__ = ["Source"]

PLACING = 0.25  # seconds that partitions are placed for before the group is heeded again
PROBE = 1.0  # seconds for a sign of life
UNREADABLE = 3  # times that records could not be inflated

log = structlog.get_logger(__name__)


class Source:
    """Reads the telemetry topics as a member of the group; used by one thread only.

    `finish` ends the open transaction before partitions are given up, `abandon` drops it when
    they are lost already. Partitions are assigned paused and read nothing until `place`.
    """

    def __init__(
        self,
        config: Config,
        judge: Judge,
        finish: Callable[[], None],
        abandon: Callable[[], None],
        history: History | None = None,
        health: Health | None = None,
        topic_ids: dict[str, str] | None = None,
    ) -> None:
        self._health = health or Health()
        self.assignment = Assignment(history)
        self.patience = Patience.of(config.worker, "reading", self._health)
        self.rebalances = self.restores = 0
        self._config = config
        self._judge = judge
        self._finish = finish
        self._abandon = abandon
        self._busy = self._joined = False
        self._heard: TopicIds = {}
        self._crash: Exception | None = None
        self._faults: list[Fault] = []
        self._unreadable = 0
        self._consumer: Consumer = worker_consumer(config, on_error=self._faults.append)
        self.starts = Starts(config, self._consumer, {} if topic_ids is None else topic_ids)
        self._placing = Placing(config.kafka, self.starts, self._health)

    def subscribe(self) -> None:
        """Joins the group. A group that never committed begins where `worker.start_from` says."""
        if self._config.worker.start_from == "latest":
            self.starts.begin_at_the_end()
        self._consumer.subscribe(
            list(self._config.topics.telemetry),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def receive(self, limit: int, wait: float) -> Held:
        """The next messages, at most `limit`, to be taken from `assignment`; waits `wait` seconds for the first.

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
        held = self.assignment.hold(sound, _ends(events))
        for message in events:
            self._on_event(message, cast("Fault", message.error()))
        self._heed_faults()
        return held

    def place(self) -> None:
        """Finds starts and thresholds of unplaced partitions and begins to read them, as many as a moment allows."""
        unplaced = self.assignment.unplaced
        if not unplaced or self.patience.waiting:
            return
        subject = f"topic {unplaced[0][0]!r}"
        until = time.monotonic() + PLACING
        try:
            self._placing.look_up(unplaced)
            if self._begin_anew():
                return
            for topic, partition in unplaced:
                subject = f"topic {topic!r}, partition {partition}"
                self._place(topic, partition, self._placing.starts[topic, partition])
                self._health.beat()
                if time.monotonic() > until:
                    break
        except KafkaException as error:
            self._fail_placing(explained(error.args[0], subject))
        except OffsetsLostError:
            raise
        except KafkaError as error:
            self._fail_placing(error)
        else:
            self.patience.succeeded()
        if not self.assignment.unplaced:
            self._placing.rest()

    def heed(self, ids: TopicIds) -> None:
        """Takes the ids of topics as somebody else saw them; the same object again is nothing new."""
        if ids is not self._heard:
            self._heard = ids
            self.starts.learn({topic: identity for topic, identity in ids.items() if topic in self.starts.ids})
            self._begin_anew()

    def displace(self, partitions: Iterable[TopicPartition]) -> None:
        """Stops reading partitions until they are placed anew."""
        displaced = list(partitions)
        self._placing.doubt({partition: self.assignment.committed(partition) for partition in displaced})
        self.assignment.displace(displaced)
        if displaced:
            self._consumer.pause([TopicPartitionOffset(*partition) for partition in displaced])

    def succeed(self, candidate: Candidate) -> None:
        """Goes on with another model: every threshold becomes what it would be had that model always served.

        Between two transactions only. A partition whose window is not at hand is placed anew.
        """
        self._judge = candidate.judge
        lacking = []
        for partition, past in self.assignment.history.pasts().items():
            threshold = candidate.threshold(partition, past)
            if threshold is None:
                lacking.append(partition)
            else:
                self.assignment.renew(partition, threshold, past)
        self.displace(lacking)

    def membership(self) -> bytes | None:
        """Who we are to the group, fresh: generation and member id change without a callback."""
        metadata: bytes | None = self._consumer.consumer_group_metadata()
        return metadata

    def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's committed offsets, those that exist and are of the topics that are there; raises KafkaException."""
        known = self.starts.ids
        return {
            (each.topic, each.partition): each.offset
            for each in self.starts.committed(partitions)
            if topic_id(each) in {None, known.get(each.topic)}
        }

    @property
    def is_settled(self) -> bool:
        """Whether it is a member of the group, and all that it was given is being read."""
        return self._joined and not self.assignment.unplaced

    def lag(self) -> int | None:
        """Records beyond the last one taken, over all assigned partitions; None while that is not known of one."""
        if not self._joined:
            return None
        lags = [self._lag(partition) for partition in self.assignment.owned]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if len(known) == len(lags) else None

    def tell(self) -> None:
        """Tells the health what is amiss with the membership and the partitions, and whether a commit is to come."""
        unplaced, group = self.assignment.unplaced, self._config.kafka.group_id
        member = self._joined and is_member(self.membership())
        self._health.trouble("group", None if member else f"group {group!r}: not a member of it now")
        waiting = f"{len(unplaced)} of {len(self.assignment.owned)} partitions are not being read yet"
        self._health.trouble("partitions", waiting if unplaced else None)
        self._health.behind(bool(unplaced or self.assignment.pending()))

    def close(self) -> None:
        """Leaves the group."""
        self._joined = False
        self._placing.rest()
        self._consumer.close()

    def _place(self, topic: str, partition: int, start: Start) -> None:
        threshold, past = self._placing.threshold((topic, partition), self._judge)
        self._seek(TopicPartitionOffset(topic, partition, start.offset))
        self.assignment.place((topic, partition), start.offset, threshold, past, committed=start.committed)
        self.restores += 1
        log.debug("reading", topic=topic, partition=partition, offset=start.offset, scores=threshold.seen)

    def _begin_anew(self) -> bool:
        """Has topics that were created anew placed again, before an offset of the old one is committed for the new."""
        anew = self.starts.take_anew()
        if anew:
            self._abandon()
            self.displace([partition for partition in self.assignment.owned if partition[0] in anew])
        return bool(anew)

    def _fail_placing(self, error: KafkaError) -> None:
        """What was looked up may be out of date by the next attempt."""
        self._placing.rest()
        self._placing.doubt(dict.fromkeys(self.assignment.unplaced))
        self.patience.failed(error)

    def _lag(self, partition: TopicPartition) -> int | None:
        """Of one partition; as long as nothing was fetched, by what it held when its start was looked up."""
        start = self._placing.starts.get(partition)
        if start is None:
            return None
        following = self.assignment.following(partition)
        _low, high = self._consumer.get_watermark_offsets(TopicPartitionOffset(*partition), cached=True)
        return max(0, max(high, start.high) - (start.offset if following is None else following))

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
            self._placing.forget(_places(partitions))
            self.assignment.add(_places(partitions))
            log.info("partitions assigned", partitions=_names(partitions))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartitionOffset]) -> None:
        with self._guarded():
            self.rebalances += 1
            log.info("partitions revoked", partitions=_names(partitions))
            try:
                self._finish()
            finally:
                self._drop(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartitionOffset]) -> None:
        with self._guarded():
            self.rebalances += 1
            self._joined = False
            log.warning("partitions lost", partitions=_names(partitions))
            try:
                self._abandon()
            finally:
                self._drop(partitions)

    def _drop(self, partitions: list[TopicPartitionOffset]) -> None:
        self._placing.forget(_places(partitions))
        self.assignment.drop(_places(partitions))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keeps an exception out of librdkafka; `receive` raises it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it may not leave a callback
            self._crash = self._crash or error

    def _on_event(self, message: Consumed, fault: Fault) -> None:
        partition = (message.topic() or "", message.partition() or 0)
        if fault.code() == Fault._PARTITION_EOF:
            return
        if fault.code() == Fault._AUTO_OFFSET_RESET:
            self._finish()
            self.displace([partition])
        elif fault.code() == Fault._MAX_POLL_EXCEEDED:
            log.warning("worker.max_poll_interval_ms exceeded; the partitions went to other workers")
        elif message.topic() and not fault.fatal():
            error = explained(fault, f"topic {message.topic()!r}, partition {message.partition()}")
            self._unreadable += fault.code() == Fault._BAD_COMPRESSION
            if self._unreadable >= UNREADABLE:  # the same batch again and again, while the broker answers all else
                raise error
            self.patience.failed(error)
        else:
            self._faults.append(fault)

    def _heed_faults(self) -> None:
        """Connection faults are trouble until the broker answers again."""
        faults, self._faults[:] = list(self._faults), []
        subject = f"group {self._config.kafka.group_id!r}, broker {self._config.kafka.bootstrap_servers}"
        for fault in faults:
            if fault.fatal():
                raise explained(fault, subject)
            self.patience.failed(explained(fault, subject))
        if not faults and self.patience.troubled and not self.patience.waiting:
            self._probe(subject)

    def _probe(self, subject: str) -> None:
        try:
            self._consumer.list_topics(self._config.topics.telemetry[0], timeout=PROBE)
        except KafkaException as error:
            self.patience.failed(explained(error.args[0], subject))
        else:
            self.patience.succeeded()


def _sorted_out(messages: list[Consumed]) -> tuple[list[Consumed], list[Message]]:
    """What are events, and what are records."""
    events = [message for message in messages if message.error()]
    if not events:
        return [], cast("list[Message]", messages)
    return events, cast("list[Message]", [message for message in messages if not message.error()])


def _ends(events: Iterable[Consumed]) -> list[tuple[TopicPartition, int]]:
    """The ends of partitions that were reached, by their offsets."""
    reached = (event for event in events if cast("Fault", event.error()).code() == Fault._PARTITION_EOF)
    return [((event.topic() or "", event.partition() or 0), event.offset() or 0) for event in reached]


def _places(partitions: list[TopicPartitionOffset]) -> list[TopicPartition]:
    return [(each.topic, each.partition) for each in partitions]


def _names(partitions: list[TopicPartitionOffset]) -> list[str]:
    return [f"{each.topic}-{each.partition}" for each in partitions]
