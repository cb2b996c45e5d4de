"""The newest records of the telemetry topics, for fitting; nothing is committed."""

from collections.abc import Iterator

from confluent_kafka import Message

from stream_detector.config import Config
from stream_detector.kafka import topics, window
from stream_detector.kafka.topics import Place

__all__ = ["Reach", "available", "newest", "reach", "records", "retained"]

Reach = dict[Place, tuple[int, int]]
"""First offset, and the one after the last, by (topic, partition)."""


def available(config: Config) -> int:
    """How many offsets the telemetry topics retain; raises `TopicMissingError` for a topic that is not there."""
    return sum(end - start for start, end in retained(config).values())


def newest(config: Config, count: int) -> list[Message]:
    """At most `count` records, the newest of each partition, in offset order within it."""
    return [message for batch in records(config, reach(config, count)) for message in batch]


def reach(config: Config, count: int, since_ms: int | None = None) -> Reach:
    """Where the newest `count` offsets lie, none written before `since_ms` (epoch ms).

    Every partition gives an equal share; what a short one cannot give, the longer ones do.
    """
    whole = retained(config, since_ms)
    shares = _shares({place: end - start for place, (start, end) in whole.items()}, count)
    return {place: (whole[place][1] - share, whole[place][1]) for place, share in shares.items()}


def records(config: Config, reach: Reach) -> Iterator[list[Message]]:
    """The committed records of `reach` that are still retained, batch by batch, partition after partition."""
    for (topic, partition), (start, end) in reach.items():
        yield from window.read(config.kafka, topic, partition, start, end)


def retained(config: Config, since_ms: int | None = None) -> Reach:
    """What the telemetry topics hold; only what was written at `since_ms` (epoch ms) or later, where given.

    Raises `TopicMissingError` for a topic that is not there.
    """
    marks = topics.watermarks(config.kafka, config.topics.telemetry)
    starts = {place: low for place, (low, _) in marks.items()}
    if since_ms is not None:
        starts = topics.offsets_at(config.kafka, config.topics.telemetry, since_ms)
    return {place: (max(starts[place], low), high) for place, (low, high) in marks.items()}


def _shares(lengths: dict[Place, int], count: int) -> dict[Place, int]:
    shares: dict[Place, int] = {}
    for left, place in zip(range(len(lengths), 0, -1), sorted(lengths, key=lambda p: (lengths[p], p)), strict=True):
        shares[place] = min(lengths[place], -(-(count - sum(shares.values())) // left))
    return dict(sorted(shares.items()))
