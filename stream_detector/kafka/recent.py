"""The newest records of the telemetry topics, for fitting; nothing is committed."""

from confluent_kafka import Message

from stream_detector.config import Config
from stream_detector.kafka import topics, window
from stream_detector.kafka.topics import Place

__all__ = ["available", "newest"]


def available(config: Config) -> int:
    """Offsets that the telemetry topics retain; raises `TopicMissingError` for a topic that is not there."""
    return sum(high - low for low, high in topics.watermarks(config.kafka, config.topics.telemetry).values())


def newest(config: Config, count: int) -> list[Message]:
    """At most `count` records, the newest of each partition, in offset order within it.

    Every partition gives an equal share; what a short one cannot give, the longer ones do.
    """
    reaches = topics.watermarks(config.kafka, config.topics.telemetry)
    shares = _shares({place: high - low for place, (low, high) in reaches.items()}, count)
    found: list[Message] = []
    for (topic, partition), share in shares.items():
        end = reaches[topic, partition].high
        for batch in window.read(config.kafka, topic, partition, end - share, end):
            found += batch
    return found


def _shares(lengths: dict[Place, int], count: int) -> dict[Place, int]:
    shares: dict[Place, int] = {}
    for left, place in zip(range(len(lengths), 0, -1), sorted(lengths, key=lambda p: (lengths[p], p)), strict=True):
        shares[place] = min(lengths[place], -(-(count - sum(shares.values())) // left))
    return dict(sorted(shares.items()))
