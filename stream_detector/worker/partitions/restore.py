"""Rebuilds a partition's threshold from the scores of the records before an offset, read backwards.

The records come from the log when a partition begins to be read, and from what a worker has kept when another model
takes over. The threshold is the one that a worker without any interruption would have.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar, cast

from stream_detector.config import KafkaConfig
from stream_detector.health import Health
from stream_detector.kafka.reads import PartitionReader
from stream_detector.records import Message, TopicPartition
from stream_detector.records.message import byte_count
from stream_detector.scoring.threshold import Limits, RollingThreshold
from stream_detector.worker.judge import Judge
from stream_detector.worker.partitions.starts import Start

__all__ = [
    "KEPT_BYTES",
    "NO_PAST",
    "CaughtUp",
    "LogReader",
    "Past",
    "catch_up",
    "earlier_scores",
    "rebuild_threshold",
]

KEPT_BYTES = 256 * 2**20  # of messages' values, over all partitions of a worker

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Past:
    """Holds messages of one partition in offset order, up to the last one judged.

    `whole`: the log held nothing before them when the partition was restored, and none was let go since.
    """

    messages: tuple[Message, ...] = ()
    whole: bool = False

    @property
    def last(self) -> int | None:
        """Offset of the last message."""
        return self.messages[-1].offset() if self.messages else None

    def after(self, offset: int | None) -> tuple[Message, ...] | None:
        """Finds the messages behind the one at `offset`; None when that one is not among them."""
        for at in range(len(self.messages), 0, -1):
            if self.messages[at - 1].offset() == offset:
                return self.messages[at:]
        return None


NO_PAST = Past()


def rebuild_threshold(
    limits: Limits, chunks: Iterable[Sequence[Record]], score: Callable[[Sequence[Record]], Sequence[float]]
) -> RollingThreshold:
    """Makes the threshold that the record after the latest chunk meets; arguments as for `earlier_scores`."""
    threshold = RollingThreshold(limits)
    threshold.learn(earlier_scores(chunks, score, limits.window))
    return threshold


def earlier_scores(
    chunks: Iterable[Sequence[Record]], score: Callable[[Sequence[Record]], Sequence[float]], count: int
) -> list[float]:
    """Finds the last `count` scores, oldest first; fewer when the log holds fewer.

    `chunks` come latest first, in order within. Dead letters have no score, so chunks are taken
    until there are enough scores, not for a number of records.
    """
    pieces: list[Sequence[float]] = []
    missing = count
    for chunk in chunks:
        pieces.append(score(chunk))
        missing -= len(pieces[-1])
        if missing <= 0:
            break
    return [one for piece in reversed(pieces) for one in piece][-count:]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A partition's threshold under a candidate, and the offset of the last record that it has seen."""

    threshold: RollingThreshold
    last: int | None


def catch_up(judge: Judge, past: Past, known: CaughtUp | None = None) -> RollingThreshold | None:
    """Finds the threshold after `past` under a judge's model; None when `past` does not reach back far enough.

    It is equal to one rebuilt from the log. From a `known` threshold it goes on, if `past` has the record that this one
    ends with.
    """
    newer = past.after(known.last) if known else None
    if known and newer is not None:
        known.threshold.learn(judge.scores(newer))
        return known.threshold
    threshold = rebuild_threshold(judge.limits, _backwards(past.messages, judge.limit), judge.scores)
    return threshold if threshold.seen >= judge.limits.window or past.whole else None


class LogReader:
    """Rebuilds thresholds from the log, with one client for all partitions."""

    def __init__(self, kafka: KafkaConfig, health: Health) -> None:
        self._kafka = kafka
        self._health = health
        self._reader: PartitionReader | None = None

    def threshold(self, partition: TopicPartition, start: Start, judge: Judge) -> tuple[RollingThreshold, Past]:
        """Rebuilds the threshold that the record at a start meets; returns what it was rebuilt from, too.

        Raises as `PartitionReader.backwards`.
        """
        chunks = self._before(partition, start.offset, judge.lookback) if start.offset > start.low else iter(())
        pieces = _Pieces()
        threshold = rebuild_threshold(judge.limits, self._noted(chunks, judge, pieces), judge.scores)
        return threshold, pieces.past(whole=threshold.seen < judge.limits.window)

    def close(self) -> None:
        """Lets go of the client until the next partition needs it."""
        if self._reader:
            self._reader.close()
            self._reader = None

    def _before(self, partition: TopicPartition, end: int, step: int) -> Iterator[list[Message]]:
        self._reader = self._reader or PartitionReader(self._kafka, self._health.beat)
        return cast("Iterator[list[Message]]", self._reader.backwards(*partition, end, step))

    def _noted(
        self, chunks: Iterable[Sequence[Message]], judge: Judge, pieces: "_Pieces"
    ) -> Iterator[Sequence[Message]]:
        """Cuts the chunks to what the judge takes at once, and notes each piece."""
        for piece in chain.from_iterable(_backwards(chunk, judge.limit) for chunk in chunks):
            self._health.beat()
            pieces.add(piece)
            yield piece


class _Pieces:
    """Pieces of a log, the latest first, as far as they are light enough to be kept."""

    def __init__(self) -> None:
        self._pieces: list[Sequence[Message]] = []
        self._bytes = 0

    def add(self, piece: Sequence[Message]) -> None:
        self._bytes += byte_count(piece)
        if self._bytes <= KEPT_BYTES:
            self._pieces.append(piece)

    def past(self, *, whole: bool) -> Past:
        """Puts the pieces in offset order; `whole`: the log holds no more."""
        return Past(tuple(chain.from_iterable(reversed(self._pieces))), whole=whole and self._bytes <= KEPT_BYTES)


def _backwards(records: Sequence[Record], most: int) -> Iterator[Sequence[Record]]:
    """Cuts records into chunks of at most so many, the latest first."""
    for end in range(len(records), 0, -most):
        yield records[max(0, end - most) : end]
