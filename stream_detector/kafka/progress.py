"""How far a group has come: committed offsets beside the ends of the partitions."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from stream_detector.config import Config
from stream_detector.errors import BrokerUnavailableError
from stream_detector.kafka.clients import TRANSLATION, admin, require_broker, translate
from stream_detector.kafka.topics import Place, watermarks

__all__ = ["PartitionProgress", "progress"]

TIMEOUT = 10.0  # seconds


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


def _committed(config: Config, places: list[Place]) -> dict[Place, int]:
    group = config.kafka.group_id
    asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(t, p) for t, p in places])]
    client = admin(config.kafka)  # must outlive its future, which otherwise never resolves
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            answer = client.list_consumer_group_offsets(asked, request_timeout=TIMEOUT)[group].result()
            break
        except KafkaException as error:
            # A broker that nobody has asked before has no coordinator for the group yet.
            if TRANSLATION.get(error.args[0].code()) is not BrokerUnavailableError or time.monotonic() > deadline:
                raise translate(error, f"group {group!r}") from None
        time.sleep(0.1)
    return {(tp.topic, tp.partition): tp.offset for tp in answer.topic_partitions if tp.offset >= 0}
