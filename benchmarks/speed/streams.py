"""Topics full of records, and the two loops that are held against each other: the worker and its ceiling."""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from numpy.typing import NDArray

from stream_detector.config import Config
from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema
from stream_detector.kafka import topics
from stream_detector.kafka.clients import plain_producer, transactional_producer, worker_consumer
from stream_detector.kafka.formats import decoder
from stream_detector.model import DetectorModel
from stream_detector.worker import loop, reporting
from stream_detector.worker.interpreter import frozen_gc
from stream_detector.worker.judge import BatchLimit
from stream_detector.worker.summary import RunSummary

__all__ = ["PARTITIONS", "Pace", "best", "ceiling", "configure", "fill", "settled", "work"]

PARTITIONS = 4
TIMEOUT = 60.0


Flag = Callable[[NDArray[np.float32]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Pace:
    """Records a second of wall time, and a second of the process's own processor time."""

    wall: float
    cpu: float


class Stopwatch:
    """Notes how far a loop has come, so that joining the group and leaving it are not counted."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, float, float]] = []

    def observe(self, summary: RunSummary) -> None:
        self.note(summary.records)

    def note(self, records: int) -> None:
        if records and (not self._marks or records > self._marks[-1][0]):
            self._marks.append((records, time.perf_counter(), time.process_time()))

    @property
    def pace(self) -> Pace:
        if len(self._marks) < 2:
            raise DataError("too few records to tell a pace by; give more")
        first, last = self._marks[0], self._marks[-1]
        records = last[0] - first[0]
        return Pace(records / (last[1] - first[1]), records / (last[2] - first[2]))


def configure(address: str, **sections: Any) -> Config:
    """A configuration with defaults, and topics and group of its own; the topics are created."""
    tag = uuid.uuid4().hex[:8]
    own: dict[str, dict[str, Any]] = {
        "kafka": {"bootstrap_servers": address, "group_id": f"speed-{tag}", "slot": tag},
        "topics": {
            "telemetry": f"telemetry-{tag}",
            "partitions": PARTITIONS,
            **{kind: f"{kind.replace('_', '-')}-{tag}" for kind in ("alerts", "dead_letters", "models", "feedback")},
        },
        "worker": {"device": "cpu"},
    }
    config = Config(**sections | {name: values | sections.get(name, {}) for name, values in own.items()})
    topics.create(config)
    return config


def fresh_group(config: Config) -> Config:
    """The same topics for another group, which begins at their beginning."""
    tag = uuid.uuid4().hex[:8]
    return config.model_copy(
        update={"kafka": config.kafka.model_copy(update={"group_id": f"speed-{tag}", "slot": tag})}
    )


def fill(config: Config, values: Sequence[bytes], count: int) -> None:
    """Writes `count` messages, the values over and over, round robin over the partitions."""
    producer = plain_producer(config.kafka)
    topic = config.topics.telemetry[0]
    for at in range(count):
        while True:
            try:
                producer.produce(topic, values[at % len(values)], partition=at % config.topics.partitions)
                break
            except BufferError:
                producer.poll(0.1)
        if at % 1_000 == 0:
            producer.poll(0)
    producer.flush(TIMEOUT)


def settled(config: Config) -> None:
    """Reads the topic once, so that both loops find it in the page cache."""
    consumer = Consumer(
        {"bootstrap.servers": config.kafka.bootstrap_servers, "group.id": "warm", "enable.partition.eof": True}
    )
    ends = topics.end_offsets(config.kafka, config.topics.telemetry)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in ends])
    left = len(ends)
    while left:
        left -= sum(message.error() is not None for message in consumer.consume(10_000, 1.0))
    consumer.close()


def work(config: Config, model: DetectorModel) -> tuple[Pace, RunSummary]:
    """A worker's pace over the whole topic, exactly-once, as `run --until-end` does it."""
    watch = Stopwatch()
    reporting.INTERVAL = 0.02  # seconds between two reports: one a turn, for short runs are measured, too
    summary = loop.run(fresh_group(config), lambda: model, until_end=True, observer=watch)
    return watch.pace, summary


def ceiling(config: Config, schema: FeatureSchema, flag: Flag | None = None, most: int = 2**62) -> Pace:
    """The pace of a bare loop on the same topic: consume, decode to the matrix, commit a transaction a batch.

    `flag` says which rows of the matrix are sent to the alerts topic; after `most` records it ends.
    """
    with frozen_gc():  # as a worker has it
        return _bare_loop(config, schema, flag, most)


def _bare_loop(config: Config, schema: FeatureSchema, flag: Flag | None, most: int) -> Pace:
    config = fresh_group(config)
    consumer, producer = worker_consumer(config), transactional_producer(config)
    ends = topics.end_offsets(config.kafka, config.topics.telemetry)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in ends])
    producer.init_transactions(TIMEOUT)
    reading, watch = decoder(config.record), Stopwatch()
    left, records, begun = len(ends), 0, time.monotonic()
    limit = BatchLimit(config.worker.batch_records, config.record.max_rows if reading.many else 1)  # as a worker's
    while left and records < most:
        messages = consumer.consume(limit.messages, config.worker.linger_ms / 1000)
        left -= sum(message.error() is not None for message in messages)
        messages = [message for message in messages if message.error() is None]
        if not messages:
            continue
        producer.begin_transaction()
        decoded = reading.decode([message.value() for message in messages], schema)
        for row in flag(decoded.features) if flag else ():
            producer.produce(config.topics.alerts, messages[decoded.kept[row]].value())
        rows = len(decoded.kept)
        records += rows
        offsets = {(m.topic(), m.partition()): m.offset() + 1 for m in messages}
        places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata(), TIMEOUT)
        producer.commit_transaction(TIMEOUT)
        watch.note(records)
        begun, turn = time.monotonic(), time.monotonic() - begun
        if 2 * len(messages) >= limit.messages:
            limit.lasted(turn)
        limit.passed(len(messages), rows)
    consumer.close()
    return watch.pace


def best(paces: Sequence[Pace]) -> Pace:
    """The highest of each: what was not taken away by others on the machine."""
    return Pace(max(pace.wall for pace in paces), max(pace.cpu for pace in paces))
