"""Reads how much of its telemetry a cluster keeps: the offsets that are there, how fast they come, and the topics' settings."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException, Message
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

from stream_detector.config import Config, KafkaConfig
from stream_detector.kafka.clients import admin, require_broker
from stream_detector.kafka.reads import PartitionReader
from stream_detector.kafka.topics import offsets_at, watermarks
from stream_detector.records import TopicPartition

__all__ = ["Kept", "KeptPartition", "kept"]

TIMEOUT = 15.0  # seconds
DAY = 86_400_000  # milliseconds
SAMPLE = 100  # records at the beginning of a partition, whose mean size is taken
FOREVER = -1  # of a setting: no limit


@dataclass(frozen=True, slots=True)
class KeptPartition:
    """Says what one partition holds. `a_day` are the offsets of the last day, None where timestamps do not tell; `size` is
    the mean size of its first records, bytes without compression, None where it is empty.
    """

    low: int
    high: int
    a_day: float | None
    size: float | None

    @property
    def offsets(self) -> int:
        """Counts the offsets between the first that is retained and the end."""
        return self.high - self.low

    @property
    def is_whole(self) -> bool:
        """Whether nothing was deleted yet."""
        return self.low == 0


@dataclass(frozen=True, slots=True)
class Kept:
    """Says what a telemetry topic keeps: its partitions by number, and its settings by Kafka's names, None if not readable."""

    topic: str
    partitions: Mapping[int, KeptPartition]
    settings: Mapping[str, str] | None

    @property
    def is_compacted(self) -> bool:
        """Whether records are removed for newer ones of their key, so that the log cannot be read as it was."""
        return "compact" in (self.settings or {}).get("cleanup.policy", "")

    def limit(self, name: str) -> int | None:
        """The value of a numeric setting; None where it is unlimited or not readable."""
        value = (self.settings or {}).get(name)
        return int(value) if value is not None and int(value) != FOREVER else None

    def promised(self, number: int) -> float | None:
        """The offsets of a partition that the settings keep at least, at today's rate; None where nothing limits it, or
        the rate is not known.
        """
        partition = self.partitions[number]
        return min(self._within("retention.ms", "retention.bytes", partition), default=None)

    def segment(self, number: int) -> float:
        """The offsets of a segment, which retention deletes at once, at today's rate; 0 where that is not known."""
        return min(self._within("segment.ms", "segment.bytes", self.partitions[number]), default=0.0)

    def _within(self, span: str, size: str, partition: KeptPartition) -> Iterator[float]:
        milliseconds, most = self.limit(span), self.limit(size)
        if milliseconds is not None and partition.a_day is not None:
            yield partition.a_day * milliseconds / DAY
        if most is not None and partition.size:
            yield most / partition.size


def kept(config: Config) -> list[Kept]:
    """Reads what every telemetry topic keeps, in order; raises `BrokerUnavailableError` or `TopicMissingError`."""
    require_broker(config.kafka)
    names = list(dict.fromkeys(config.topics.telemetry))
    now = round(time.time() * 1000)
    reach, yesterday = watermarks(config.kafka, names), offsets_at(config.kafka, names, now - DAY)
    settings = _settings(config.kafka, names)
    found: dict[str, dict[int, KeptPartition]] = {name: {} for name in names}
    with PartitionReader(config.kafka) as reader:
        for place, (low, high) in sorted(reach.items()):
            first = _first(reader, place, low, high)
            a_day = _a_day(first, low, high, yesterday[place], now)
            found[place[0]][place[1]] = KeptPartition(low, high, a_day, _size(first))
    return [Kept(name, found[name], settings.get(name)) for name in names]


def _first(reader: PartitionReader, place: TopicPartition, low: int, high: int) -> list[Message]:
    """The first records of a partition."""
    return next(reader.read(*place, low, min(high, low + SAMPLE)), []) if low < high else []


def _a_day(first: list[Message], low: int, high: int, yesterday: int, now: int) -> float | None:
    """The offsets of the last day; of a log that began within it, as many as a whole day would have at that rate."""
    if yesterday > low:
        return float(high - yesterday)
    age = now - first[0].timestamp()[1] if first else 0
    return (high - low) * DAY / age if age > 0 else None


def _size(first: list[Message]) -> float | None:
    return (
        sum(len(message.value() or b"") + len(message.key() or b"") for message in first) / len(first)
        if first
        else None
    )


def _settings(kafka: KafkaConfig, names: list[str]) -> dict[str, Mapping[str, str]]:
    """Settings of topics, by name; reading them needs a right of its own, and without it they are not there."""
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found: dict[str, Mapping[str, str]] = {}
    client = admin(kafka)
    for resource, future in client.describe_configs(asked, request_timeout=TIMEOUT).items():
        try:
            found[resource.name] = {name: entry.value for name, entry in future.result().items()}
        except KafkaException:
            continue
    return found
