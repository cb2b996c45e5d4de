"""The worker's end of the consumer: membership, partitions and their starts, messages."""

# ruff: noqa: SLF001 - the names of librdkafka's own error codes begin with an underscore

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import cast

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as Fault
from confluent_kafka import Message as Consumed

from stream_detector.config import Config
from stream_detector.errors import KafkaError, OffsetsLostError
from stream_detector.kafka import topics, window
from stream_detector.kafka.assignment import Assignment, Held, Partition
from stream_detector.kafka.candidate import Candidate
from stream_detector.kafka.clients import worker_consumer
from stream_detector.kafka.faults import explained
from stream_detector.kafka.history import History, Past
from stream_detector.kafka.judge import Judge
from stream_detector.kafka.patience import Patience
from stream_detector.kafka.restore import restored
from stream_detector.records import Message

__all__ = ["Source"]

REQUEST = 5.0  # seconds for a request about offsets
PROBE = 1.0  # seconds for a sign of life

log = structlog.get_logger(__name__)


class Source:
    """Reads the telemetry topics as a member of the group; used by one thread only.

    `finish` ends the open transaction before partitions are given up, `abandon` drops it when
    they are lost already. Partitions are assigned paused and read nothing until `place_next`.
    """

    def __init__(
        self,
        config: Config,
        judge: Judge,
        finish: Callable[[], None],
        abandon: Callable[[], None],
        history: History | None = None,
    ) -> None:
        self.assignment = Assignment(history)
        self.patience = Patience("reading", config.worker.unavailable_timeout_ms / 1000)
        self.rebalances = self.restores = self.offsets_lost = 0
        self._config = config
        self._judge = judge
        self._finish = finish
        self._abandon = abandon
        self._busy = False
        self._crash: Exception | None = None
        self._faults: list[Fault] = []
        self._consumer: Consumer = worker_consumer(config, on_error=self._faults.append)

    def subscribe(self) -> None:
        """Joins the group. A group that never committed begins where `worker.start_from` says."""
        if self._config.worker.start_from == "latest":
            self._begin_at_the_end()
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

    def place_next(self) -> None:
        """Finds start and threshold of one unplaced partition, and begins to read it."""
        unplaced = self.assignment.unplaced
        if not unplaced or self.patience.waiting:
            return
        topic, partition = unplaced[0]
        subject = f"topic {topic!r}, partition {partition}"
        try:
            self._place(topic, partition)
        except KafkaException as error:
            self.patience.failed(explained(error.args[0], subject))
        except OffsetsLostError:
            raise
        except KafkaError as error:
            self.patience.failed(error)
        else:
            self.patience.succeeded()

    def displace(self, partitions: Iterable[Partition]) -> None:
        """Stops reading partitions until they are placed anew."""
        displaced = [TopicPartition(*partition) for partition in partitions]
        self.assignment.displace((each.topic, each.partition) for each in displaced)
        if displaced:
            self._consumer.pause(displaced)

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

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The group's committed offsets, those that exist; raises KafkaException."""
        asked = [TopicPartition(*partition) for partition in partitions]
        held = self._consumer.committed(asked, timeout=REQUEST)
        for each in held:
            if each.error is not None:
                raise KafkaException(each.error)
        return {(each.topic, each.partition): each.offset for each in held if each.offset >= 0}

    def lag(self) -> int:
        """Records beyond the last one taken, over the placed partitions, as far as the client knows."""
        lag = 0
        for partition in self.assignment.placed:
            _low, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            lag += max(0, high - (self.assignment.following(partition) or 0))
        return lag

    def close(self) -> None:
        """Leaves the group."""
        self._consumer.close()

    def _place(self, topic: str, partition: int) -> None:
        start, committed = self._start(topic, partition)
        kafka, judge = self._config.kafka, self._judge
        read: list[list[Message]] = []
        chunks = window.backwards(kafka, topic, partition, start, judge.lookback)
        threshold = restored(judge.limits, _noting(cast("Iterator[list[Message]]", chunks), read), judge.scores)
        past = Past(tuple(chain.from_iterable(reversed(read))), whole=threshold.seen < judge.limits.window)
        self._seek(TopicPartition(topic, partition, start))
        self.assignment.place((topic, partition), start, threshold, past, committed=committed)
        self.restores += 1
        log.debug("reading", topic=topic, partition=partition, offset=start, scores=threshold.seen)

    def _start(self, topic: str, partition: int) -> tuple[int, bool]:
        """Where to begin, and whether that is committed: without an offset, or with a lost one, it is the first."""
        committed = self.committed([(topic, partition)]).get((topic, partition))
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST)
        if committed is not None and low <= committed <= high:
            return committed, True
        if committed is not None:
            self._report_loss(topic, partition, committed, low, high)
        return low, False

    def _report_loss(self, topic: str, partition: int, committed: int, low: int, high: int) -> None:
        gap = (
            f"offsets {committed:,} to {low - 1:,} were deleted before they were read"
            if committed < low
            else f"offset {committed:,} was committed, but the partition ends at {high:,}: it was created anew"
        )
        message = f"topic {topic!r}, partition {partition}: {gap}"
        if self._config.worker.on_offsets_lost == "fail":
            raise OffsetsLostError(f"{message}; set worker.on_offsets_lost: continue to go on at {low:,}")
        self.offsets_lost += max(0, low - committed)
        log.error("offsets lost, going on", topic=topic, partition=partition, committed=committed, low=low, high=high)

    def _seek(self, start: TopicPartition) -> None:
        try:
            self._consumer.seek(start)
        except KafkaException as error:
            if error.args[0].code() != Fault._STATE:
                raise
            self._consumer.incremental_unassign([start])  # an offset error stopped it: begin anew
            self._consumer.incremental_assign([start])
        self._consumer.resume([start])

    def _begin_at_the_end(self) -> None:
        """Commits the ends for a group that has no offset at all; refused, and rightly, once it has members."""
        marks = topics.watermarks(self._config.kafka, self._config.topics.telemetry)
        try:
            if self.committed(marks):
                return
            ends = [TopicPartition(*partition, reach.high) for partition, reach in marks.items()]
            self._consumer.commit(offsets=ends, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in {Fault.UNKNOWN_MEMBER_ID, Fault.ILLEGAL_GENERATION}:
                raise explained(error.args[0], f"group {self._config.kafka.group_id!r}") from None

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with self._guarded():
            self.rebalances += 1
            # Nothing is read before the seek, but it must be a number: the broker is asked what the end is, and its
            # answer, coming after the seek, moves the position to the end. Records were skipped so, 9 times in 50.
            consumer.incremental_assign([TopicPartition(each.topic, each.partition, 0) for each in partitions])
            if partitions:
                consumer.pause(partitions)
            self.assignment.add((each.topic, each.partition) for each in partitions)
            log.info("partitions assigned", partitions=_names(partitions))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with self._guarded():
            self.rebalances += 1
            log.info("partitions revoked", partitions=_names(partitions))
            try:
                self._finish()
            finally:
                self.assignment.drop((each.topic, each.partition) for each in partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with self._guarded():
            self.rebalances += 1
            log.warning("partitions lost", partitions=_names(partitions))
            try:
                self._abandon()
            finally:
                self.assignment.drop((each.topic, each.partition) for each in partitions)

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
            self.patience.failed(explained(fault, f"topic {message.topic()!r}, partition {message.partition()}"))
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


def _ends(events: Iterable[Consumed]) -> list[tuple[Partition, int]]:
    """The ends of partitions that were reached, by their offsets."""
    reached = (event for event in events if cast("Fault", event.error()).code() == Fault._PARTITION_EOF)
    return [((event.topic() or "", event.partition() or 0), event.offset() or 0) for event in reached]


def _noting(chunks: Iterable[list[Message]], read: list[list[Message]]) -> Iterator[list[Message]]:
    """The chunks, each also added to `read`."""
    for chunk in chunks:
        read.append(chunk)
        yield chunk


def _names(partitions: list[TopicPartition]) -> list[str]:
    return [f"{each.topic}-{each.partition}" for each in partitions]
