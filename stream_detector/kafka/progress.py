"""How far a group has come: committed offsets beside the ends of the partitions."""

from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from stream_detector.config import Config
from stream_detector.kafka.clients import admin, require_broker, translate
from stream_detector.kafka.topics import require

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
    require(config.kafka, config.topics.telemetry)
    client = admin(config.kafka)
    try:
        partitions = _partitions(client, config.topics.telemetry)
        low, end = (_offsets(client, partitions, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
        committed = _committed(client, config.kafka.group_id, partitions)
    except KafkaException as error:
        raise translate(error, f"group {config.kafka.group_id}") from None
    return [PartitionProgress(t, p, committed.get((t, p)), low[t, p], end[t, p]) for t, p in partitions]


def _partitions(client: AdminClient, topics: tuple[str, ...]) -> list[tuple[str, int]]:
    metadata = client.list_topics(timeout=TIMEOUT).topics
    return [(topic, partition) for topic in topics for partition in sorted(metadata[topic].partitions)]


def _offsets(client: AdminClient, partitions: list[tuple[str, int]], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    wanted = {TopicPartition(topic, partition): spec for topic, partition in partitions}
    answers = client.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=TIMEOUT)
    return {(key.topic, key.partition): answer.result().offset for key, answer in answers.items()}


def _committed(client: AdminClient, group: str, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(t, p) for t, p in partitions])]
    answer = client.list_consumer_group_offsets(asked, request_timeout=TIMEOUT)[group].result()
    return {(tp.topic, tp.partition): tp.offset for tp in answer.topic_partitions if tp.offset >= 0}
