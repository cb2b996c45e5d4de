"""Reads the newest records of the telemetry topics, for fitting; nothing is committed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message

from stream_detector.config import Config
from stream_detector.kafka import reads, topics
from stream_detector.records import TopicPartition

__all__ = ["Reach", "Size", "newest", "reach", "records", "retained", "shares"]

Reach = dict[TopicPartition, tuple[int, int]]
"""First offset, and the one after the last, by (topic, partition)."""
Size = Callable[[Any], int]
"""Says how many records a message holds."""


def newest(config: Config, count: int, size: Size | None = None) -> list[Message]:
    """Reads the fewest newest messages that hold `count` records, in offset order within each partition."""
    return [message for batch in records(config, reach(config, count, size=size)) for message in batch]


def reach(config: Config, count: int, since_ms: int | None = None, size: Size | None = None) -> Reach:
    """Finds where the newest `count` records lie, none written before `since_ms` (epoch ms).

    Every partition gives an equal share; what a short one cannot give, the longer ones do. Records are
    counted by reading them, a message as one or as its `size` says: markers and aborted records have offsets,
    too, and compaction leaves gaps.
    """
    tails = {partition: _Tail(*span, size) for partition, span in retained(config, since_ms).items()}
    lengths = {partition: tail.most(count) for partition, tail in tails.items()}
    with reads.PartitionReader(config.kafka) as reader:
        while True:
            wanted = shares(lengths, count)
            short = {}
            for partition, share in wanted.items():
                if (found := tails[partition].count_back(reader, partition, share)) < share:
                    short[partition] = found
            if not short:
                return {partition: tails[partition].newest(share) for partition, share in wanted.items()}
            lengths |= short


def shares(lengths: Mapping[TopicPartition, int], count: int) -> dict[TopicPartition, int]:
    """Shares `count` records among partitions: equally, more from the longer where others are short."""
    found: dict[TopicPartition, int] = {}
    for left, partition in zip(range(len(lengths), 0, -1), sorted(lengths, key=lambda p: (lengths[p], p)), strict=True):
        found[partition] = min(lengths[partition], -(-(count - sum(found.values())) // left))
    return dict(sorted(found.items()))


def records(config: Config, reach: Reach) -> Iterator[list[Message]]:
    """Yields the committed records of `reach` that are still retained, batch by batch, partition after partition."""
    with reads.PartitionReader(config.kafka) as reader:
        for (topic, partition), (start, end) in reach.items():
            yield from reader.read(topic, partition, start, end)


def retained(config: Config, since_ms: int | None = None) -> Reach:
    """Finds the offsets that the telemetry topics hold; only of records written at `since_ms` (epoch ms) or later, where given.

    Raises `TopicMissingError` for a topic that is not there.
    """
    marks = topics.watermarks(config.kafka, config.topics.telemetry)
    starts = {partition: low for partition, (low, _) in marks.items()}
    if since_ms is not None:
        starts = topics.offsets_at(config.kafka, config.topics.telemetry, since_ms)
    return {partition: (max(starts[partition], low), high) for partition, (low, high) in marks.items()}


@dataclass(slots=True)
class _Tail:
    """Counts a partition in [low, end) backwards: `messages` are offset and size of the newest, ascending, as far as read."""

    low: int
    end: int
    size: Size | None
    messages: list[tuple[int, int]] = field(default_factory=list)
    start: int = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.start = self.end

    def most(self, count: int) -> int:
        """Gives as many of `count` records as there may be."""
        offsets = self.end - self.low
        return min(offsets, count) if self.size is None else count * (offsets > 0)

    def count_back(self, reader: reads.PartitionReader, partition: TopicPartition, count: int) -> int:
        """Counts on until there are `count` records, or the log begins; returns how many there are."""
        step = 0
        while self.count < count and self.start > self.low:
            step = max(count - self.count if self.size is None else 1, 2 * step)
            begin = max(self.low, self.start - step)
            batches = reader.read(*partition, begin, self.start)
            found = [(message.offset() or 0, self._size(message)) for batch in batches for message in batch]
            self.messages[:0] = found
            self.count += sum(size for _, size in found)
            self.start = begin
        return self.count

    def _size(self, message: Message) -> int:
        return 1 if self.size is None else self.size(message)

    def newest(self, count: int) -> tuple[int, int]:
        """Finds the first offset, and the one after the last, of the fewest newest messages with `count` records."""
        start = self.end
        for offset, size in reversed(self.messages):
            if count <= 0:
                break
            start, count = offset, count - size
        return start, self.end
