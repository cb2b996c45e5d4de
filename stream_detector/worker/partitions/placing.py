"""What a partition needs before it is read: its start, and its threshold from the records before that."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import cast

from stream_detector.config import KafkaConfig
from stream_detector.health import Health
from stream_detector.kafka.reads import PartitionReader
from stream_detector.records import Message, TopicPartition, values_of
from stream_detector.scoring.threshold import RollingThreshold
from stream_detector.worker.judge import Judge
from stream_detector.worker.partitions.history import KEPT_BYTES, Past
from stream_detector.worker.partitions.restore import backwards, restored
from stream_detector.worker.partitions.starts import Start, Starts

__all__ = ["Placing"]


class Placing:
    """Starts of owned partitions, looked up together, and one client that reads what is before them."""

    def __init__(self, kafka: KafkaConfig, finder: Starts, health: Health) -> None:
        self._kafka = kafka
        self._finder = finder
        self._health = health
        self.starts: dict[TopicPartition, Start] = {}
        """As looked up last; of owned partitions only."""
        self._stale: set[TopicPartition] = set()
        self._reader: PartitionReader | None = None

    def look_up(self, partitions: Iterable[TopicPartition]) -> None:
        """Finds the starts that are not known, or out of date; raises as `Starts.find`."""
        unknown = [each for each in partitions if each not in self.starts or each in self._stale]
        if unknown:
            self.starts |= self._finder.find(unknown)
            self._stale.difference_update(unknown)
            self._health.beat()

    def threshold(self, partition: TopicPartition, judge: Judge) -> tuple[RollingThreshold, Past]:
        """The threshold that the first record of a partition meets, and what it was rebuilt from.

        Its start must have been looked up. Raises as `window.read`.
        """
        start, limits = self.starts[partition], judge.limits
        noted = _Noted()
        chunks = self._before(partition, start.offset, judge.lookback) if start.offset > start.low else iter(())
        threshold = restored(limits, self._noting(chunks, judge, noted), judge.scores)
        return threshold, noted.past(threshold.seen < limits.window)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """These partitions are another's, or new."""
        for partition in partitions:
            self.starts.pop(partition, None)

    def doubt(self, partitions: Mapping[TopicPartition, int | None]) -> None:
        """These starts are to be looked up anew; until then the offsets given, where known, are the best guess."""
        for partition, offset in partitions.items():
            if start := self.starts.get(partition):
                self.starts[partition] = replace(start, offset=start.offset if offset is None else offset)
                self._stale.add(partition)

    def rest(self) -> None:
        """Lets go of the client until the next partition needs it."""
        if self._reader:
            self._reader.close()
            self._reader = None

    def _before(self, partition: TopicPartition, end: int, step: int) -> Iterator[list[Message]]:
        self._reader = self._reader or PartitionReader(self._kafka, self._health.beat)
        return cast("Iterator[list[Message]]", self._reader.backwards(*partition, end, step))

    def _noting(
        self, chunks: Iterable[Sequence[Message]], judge: Judge, noted: "_Noted"
    ) -> Iterator[Sequence[Message]]:
        """The chunks, cut to what the judge takes at once, each also noted."""
        for piece in chain.from_iterable(backwards(chunk, judge.limit) for chunk in chunks):
            self._health.beat()
            noted.add(piece)
            yield piece


@dataclass(slots=True)
class _Noted:
    """Pieces of a log, the latest first, as far as they are light enough to be kept."""

    pieces: list[Sequence[Message]] = field(default_factory=list)
    bytes: int = 0

    def add(self, piece: Sequence[Message]) -> None:
        self.bytes += sum(map(len, filter(None, values_of(piece))))
        if self.bytes <= KEPT_BYTES:
            self.pieces.append(piece)

    def past(self, whole: bool) -> Past:  # noqa: FBT001 - whether the log held no more
        return Past(tuple(chain.from_iterable(reversed(self.pieces))), whole=whole and self.bytes <= KEPT_BYTES)
