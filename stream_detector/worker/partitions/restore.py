"""Rebuilds what a partition's next record meets, its threshold and its context, from the records before an offset.

The records come from the log when a partition begins to be read, and from what a worker has kept when another model
takes over. Both are those that a worker without any interruption would have. A threshold needs the last scores, read
backwards. A context needs the records from its specification's start on, read forwards; then its scores are by the way.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import NamedTuple, Self, TypeVar, cast

from stream_detector.config import KafkaConfig
from stream_detector.context.epochs import PartitionContext
from stream_detector.kafka.reads import PartitionReader
from stream_detector.records import Message, TopicPartition
from stream_detector.records.message import byte_count
from stream_detector.scoring.threshold import Limits, RollingThreshold
from stream_detector.worker.judge import Judge

__all__ = [
    "KEPT_BYTES",
    "NO_PAST",
    "CaughtUp",
    "LogReader",
    "Past",
    "Restored",
    "catch_up",
    "earlier_scores",
    "follow",
    "rebuild_threshold",
]

KEPT_BYTES = 256 * 2**20  # of messages' values, over all partitions of a worker
WIDER = 8  # times as far back, where records that cannot be used left too few scores

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
    """A partition's threshold and context under a candidate, and the offset of the last record that they have seen."""

    threshold: RollingThreshold
    last: int | None
    context: PartitionContext | None = None


def catch_up(judge: Judge, past: Past, known: CaughtUp | None = None) -> CaughtUp | None:
    """Finds the threshold after `past` under a judge's model; None when `past` does not reach back far enough.

    It is equal to one rebuilt from the log. From what is `known` it goes on, if `past` has the record that this
    ends with. A context is never rebuilt from `past`, which holds no more than a threshold's window.
    """
    newer = past.after(known.last) if known else None
    if known and newer is not None:
        known.threshold.learn(judge.scores(newer, known.context))
        return replace(known, last=past.last)
    if judge.context_model:
        return None
    threshold = rebuild_threshold(judge.limits, _backwards(past.messages, judge.limit), judge.scores)
    return CaughtUp(threshold, past.last) if threshold.seen >= judge.limits.window or past.whole else None


def follow(
    judge: Judge, read: Callable[[int, int], Iterable[Sequence[Message]]], low: int, offset: int
) -> tuple[RollingThreshold, PartitionContext, list[Message]]:
    """Makes the threshold and the context that the record at `offset` meets, of a log that begins at `low`.

    `read` gives the messages from one offset to before another, in order. They teach the context from its
    specification's start on, and are scored as far back as a threshold's window needs; these are returned, too.
    """
    context_model = judge.context_model
    assert context_model is not None
    span = judge.lookback
    while True:
        first = max(low, offset - span)
        context = context_model.begin(low)
        scores: list[float] = []
        scored: list[Message] = []
        for chunk in read(max(low, context_model.spec.start(first)), offset) if low < offset else ():
            cut = bisect_left(chunk, first, key=_offset)
            judge.teach(chunk[:cut], context)
            scores += judge.scores(chunk[cut:], context)
            scored += chunk[cut:]
        if len(scores) >= judge.limits.window or first == low:
            threshold = RollingThreshold(judge.limits)
            threshold.learn(scores[-judge.limits.window :])
            return threshold, context, scored
        span *= WIDER


class Restored(NamedTuple):
    """What a partition's next record meets, and the messages that its threshold was rebuilt from."""

    threshold: RollingThreshold
    past: Past = NO_PAST
    context: PartitionContext | None = None

    def contexts(self, place: TopicPartition) -> dict[TopicPartition, PartitionContext]:
        """The context by the partition's name; none where the model has none."""
        return {place: self.context} if self.context else {}


class LogReader:
    """Rebuilds thresholds and contexts from the log, with one client for all partitions; `beat` is called meanwhile."""

    def __init__(self, kafka: KafkaConfig, beat: Callable[[], None] = lambda: None) -> None:
        self._kafka = kafka
        self._beat = beat
        self._reader: PartitionReader | None = None

    def restored(self, partition: TopicPartition, low: int, offset: int, judge: Judge) -> Restored:
        """Rebuilds what the record at `offset` meets, in a log that begins at `low`.

        Raises as `PartitionReader.backwards`.
        """
        if judge.context_model:
            threshold, context, scored = follow(judge, partial(self._between, partition, judge), low, offset)
            pieces = _Pieces()
            for piece in _backwards(scored, judge.limit):
                pieces.add(piece)
            return Restored(threshold, pieces.past(whole=threshold.seen < judge.limits.window), context)
        chunks = self._before(partition, offset, judge.lookback) if offset > low else iter(())
        pieces = _Pieces()
        threshold = rebuild_threshold(judge.limits, self._noted(chunks, judge, pieces), judge.scores)
        return Restored(threshold, pieces.past(whole=threshold.seen < judge.limits.window))

    def continued(self, partition: TopicPartition, known: CaughtUp, last: int, judge: Judge) -> CaughtUp:
        """Goes on from what is `known` to the record at offset `last`, which the log holds."""
        for piece in self._between(partition, judge, (known.last or 0) + 1, last + 1):
            known.threshold.learn(judge.scores(piece, known.context))
        return replace(known, last=last)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the client until the next partition needs it."""
        if self._reader:
            self._reader.close()
            self._reader = None

    def _before(self, partition: TopicPartition, end: int, step: int) -> Iterator[list[Message]]:
        return cast("Iterator[list[Message]]", self._client().backwards(*partition, end, step))

    def _between(self, partition: TopicPartition, judge: Judge, start: int, end: int) -> Iterator[Sequence[Message]]:
        """Reads messages in order, no more at once than the judge takes."""
        for batch in self._client().read(*partition, start, end):
            for piece in _forwards(cast("list[Message]", batch), judge.limit):
                self._beat()
                yield piece

    def _client(self) -> PartitionReader:
        self._reader = self._reader or PartitionReader(self._kafka, self._beat)
        return self._reader

    def _noted(
        self, chunks: Iterable[Sequence[Message]], judge: Judge, pieces: "_Pieces"
    ) -> Iterator[Sequence[Message]]:
        """Cuts the chunks to what the judge takes at once, and notes each piece."""
        for piece in chain.from_iterable(_backwards(chunk, judge.limit) for chunk in chunks):
            self._beat()
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


def _offset(message: Message) -> int:
    return message.offset() or 0


def _forwards(records: Sequence[Record], most: int) -> Iterator[Sequence[Record]]:
    """Cuts records into chunks of at most so many, in order."""
    for first in range(0, len(records), most):
        yield records[first : first + most]


def _backwards(records: Sequence[Record], most: int) -> Iterator[Sequence[Record]]:
    """Cuts records into chunks of at most so many, the latest first."""
    for end in range(len(records), 0, -most):
        yield records[max(0, end - most) : end]
