"""The newest records of the telemetry topics, for fitting; nothing is committed."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from confluent_kafka import Message

from stream_detector.config import Config
from stream_detector.kafka import reads, topics
from stream_detector.records import TopicPartition

__all__ = ["Reach", "newest", "reach", "records", "retained"]

Reach = dict[TopicPartition, tuple[int, int]]
"""First offset, and the one after the last, by (topic, partition)."""


def newest(config: Config, count: int) -> list[Message]:
    """At most `count` records, the newest of each partition, in offset order within it."""
    return [message for batch in records(config, reach(config, count)) for message in batch]


def reach(config: Config, count: int, since_ms: int | None = None) -> Reach:
    """Where the newest `count` records lie, none written before `since_ms` (epoch ms).

    Every partition gives an equal share; what a short one cannot give, the longer ones do. Records are
    counted by reading them: markers and aborted records have offsets, too, and compaction leaves gaps.
    """
    tails = {place: _Tail(*span) for place, span in retained(config, since_ms).items()}
    lengths = {place: tail.end - tail.low for place, tail in tails.items()}
    with reads.PartitionReader(config.kafka) as reader:
        while True:
            shares = _shares(lengths, count)
            short = {}
            for place, share in shares.items():
                if (found := tails[place].count_back(reader, place, share)) < share:
                    short[place] = found
            if not short:
                return {place: tails[place].newest(share) for place, share in shares.items()}
            lengths |= short


def records(config: Config, reach: Reach) -> Iterator[list[Message]]:
    """The committed records of `reach` that are still retained, batch by batch, partition after partition."""
    with reads.PartitionReader(config.kafka) as reader:
        for (topic, partition), (start, end) in reach.items():
            yield from reader.read(topic, partition, start, end)


def retained(config: Config, since_ms: int | None = None) -> Reach:
    """What the telemetry topics hold; only what was written at `since_ms` (epoch ms) or later, where given.

    Raises `TopicMissingError` for a topic that is not there.
    """
    marks = topics.watermarks(config.kafka, config.topics.telemetry)
    starts = {place: low for place, (low, _) in marks.items()}
    if since_ms is not None:
        starts = topics.offsets_at(config.kafka, config.topics.telemetry, since_ms)
    return {place: (max(starts[place], low), high) for place, (low, high) in marks.items()}


@dataclass(slots=True)
class _Tail:
    """A partition's records in [low, end): the offsets of the newest, ascending, as far as they were counted."""

    low: int
    end: int
    offsets: list[int] = field(default_factory=list)
    start: int = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.end

    def count_back(self, reader: reads.PartitionReader, place: TopicPartition, count: int) -> int:
        """Counts on until there are `count`, or the log begins; returns how many there are."""
        step = 0
        while len(self.offsets) < count and self.start > self.low:
            step = max(count - len(self.offsets), 2 * step)
            begin = max(self.low, self.start - step)
            found = [message.offset() or 0 for batch in reader.read(*place, begin, self.start) for message in batch]
            self.offsets[:0] = found
            self.start = begin
        return len(self.offsets)

    def newest(self, count: int) -> tuple[int, int]:
        return (self.offsets[-count] if count else self.end), self.end


def _shares(lengths: dict[TopicPartition, int], count: int) -> dict[TopicPartition, int]:
    shares: dict[TopicPartition, int] = {}
    for left, place in zip(range(len(lengths), 0, -1), sorted(lengths, key=lambda p: (lengths[p], p)), strict=True):
        shares[place] = min(lengths[place], -(-(count - sum(shares.values())) // left))
    return dict(sorted(shares.items()))
