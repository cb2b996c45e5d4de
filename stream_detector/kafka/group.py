"""A consumer group by its committed offsets: how far it has come, and in which topics.

A topic that is deleted and created anew under the same name has another id. So the id is committed beside each offset,
in its metadata.
"""

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as TopicPartitionOffset

from stream_detector.config import Config
from stream_detector.kafka.clients import offsets_reader, require_broker
from stream_detector.kafka.faults import translate
from stream_detector.kafka.topics import watermarks
from stream_detector.records import TopicPartition

__all__ = ["PartitionProgress", "offset_metadata", "progress", "topic_id"]

LABEL = "topic_id="
TIMEOUT = 10.0  # seconds
STARTING = {Fault.COORDINATOR_LOAD_IN_PROGRESS, Fault.COORDINATOR_NOT_AVAILABLE, Fault.NOT_COORDINATOR}


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """One partition: the group's committed offset (None = none yet), and the offsets that are retained."""

    topic: str
    partition: int
    committed: int | None
    low: int
    end: int

    @property
    def lag(self) -> int:
        """Offsets still to be read; those that retention dropped are not counted."""
        return self.end - min(max(self.committed or self.low, self.low), self.end)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "lag": self.lag}


@cache
def offset_metadata(topic_id: str | None) -> str:
    """Gives the text to commit beside an offset of a topic; the id is None where it is not known."""
    return "" if topic_id is None else f"{LABEL}{topic_id}"


def topic_id(committed: TopicPartitionOffset) -> str | None:
    """Reads the topic's id that was committed beside an offset; None without one."""
    text = committed.metadata or ""
    return text.removeprefix(LABEL) if text.startswith(LABEL) else None


def progress(config: Config) -> list[PartitionProgress]:
    """Every partition of the telemetry topics, in order.

    Raises `BrokerUnavailableError` or `TopicMissingError`.
    """
    require_broker(config.kafka)
    reaches = watermarks(config.kafka, config.topics.telemetry)
    committed = _committed(config, list(reaches))
    return [
        PartitionProgress(topic, partition, committed.get((topic, partition)), low, high)
        for (topic, partition), (low, high) in sorted(reaches.items())
    ]


def _committed(config: Config, places: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the group has come to, asked by a consumer that does not join it.

    A broker that nobody has asked before has no coordinator for the group yet: asked again. The admin client is of no
    use for that, it has crashed after such an answer.
    """
    deadline = time.monotonic() + TIMEOUT
    with closing(offsets_reader(config.kafka)) as consumer:
        while True:
            try:
                found = consumer.committed([TopicPartitionOffset(t, p) for t, p in places], TIMEOUT)
                break
            except KafkaException as error:
                if error.args[0].code() not in STARTING or time.monotonic() > deadline:
                    raise translate(error, f"group {config.kafka.group_id!r}") from None
            time.sleep(0.1)
    return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}
