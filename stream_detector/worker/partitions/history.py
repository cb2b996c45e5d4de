"""The messages behind the thresholds: what another model has to score before it can take over.

A threshold spans the last W scores of its partition. The messages that gave them are kept, so that
the threshold under a new model is found without reading the log again. Memory is bounded: where
messages take too much the oldest go, and then that partition's window is read from the log.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from threading import Lock

from stream_detector.records import Arrivals, Message, TopicPartition
from stream_detector.scoring.threshold import RollingThreshold

__all__ = ["NO_PAST", "History", "Past"]

KEPT_BYTES = 256 * 2**20  # of values, over all partitions of a worker


@dataclass(frozen=True, slots=True)
class Past:
    """Messages of one partition in offset order, up to the last one judged.

    `whole`: the log held nothing before them when the partition was placed, and none was let go since.
    """

    messages: tuple[Message, ...] = ()
    whole: bool = False

    @property
    def last(self) -> int | None:
        """Offset of the last message."""
        return self.messages[-1].offset() if self.messages else None

    def after(self, offset: int | None) -> tuple[Message, ...] | None:
        """The messages behind the one at `offset`; None when that one is not among them."""
        for at in range(len(self.messages), 0, -1):
            if self.messages[at - 1].offset() == offset:
                return self.messages[at:]
        return None


NO_PAST = Past()


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages, how many scores they gave, and the bytes of their values."""

    messages: Sequence[Message]
    scores: int
    bytes: int

    @classmethod
    def of(cls, messages: Sequence[Message], scores: int) -> "Batch":
        return cls(messages, scores, sum(map(len, filter(None, [message.value() for message in messages]))))


@dataclass(slots=True)
class Kept:
    """Batches of one partition, the oldest first; `seen` is what its threshold had seen at the last one."""

    seen: int
    whole: bool
    batches: deque[Batch] = field(default_factory=deque)
    scores: int = 0
    bytes: int = 0

    def add(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.scores += batch.scores
        self.bytes += batch.bytes

    def drop_oldest(self) -> None:
        batch = self.batches.popleft()
        self.scores -= batch.scores
        self.bytes -= batch.bytes
        self.whole = False


class History:
    """Keeps the messages behind the last `window` scores of each partition; other threads may read it."""

    def __init__(self, window: int, limit: int = KEPT_BYTES) -> None:
        self._window = window
        self._limit = limit
        self._lock = Lock()
        self._kept: dict[TopicPartition, Kept] = {}

    def begin(self, partition: TopicPartition, past: Past, threshold: RollingThreshold) -> None:
        """Keeps what a threshold was rebuilt from."""
        kept = Kept(threshold.seen, past.whole)
        kept.add(Batch.of(past.messages, threshold.seen))
        with self._lock:
            self._kept[partition] = kept
            self._stay_small(kept)

    def add(self, arrivals: Arrivals, thresholds: Mapping[TopicPartition, RollingThreshold]) -> None:
        """Keeps messages just judged by these thresholds; those of partitions without a beginning are left out."""
        found: dict[TopicPartition, list[Message]] = {}
        for partition, run in arrivals.runs:
            found.setdefault(partition, []).extend(arrivals.messages[run])
        with self._lock:
            for partition, batch in found.items():
                if kept := self._kept.get(partition):
                    seen = thresholds[partition].seen
                    kept.add(Batch.of(batch, seen - kept.seen))
                    kept.seen = seen
                    self._trim(kept)

    def forget(self, partition: TopicPartition) -> None:
        """Lets go of a partition that is given up, or is to begin anew."""
        with self._lock:
            self._kept.pop(partition, None)

    def pasts(self) -> dict[TopicPartition, Past]:
        """What is kept of each partition, as it stands."""
        with self._lock:
            found = {partition: (list(kept.batches), kept.whole) for partition, kept in self._kept.items()}
        return {
            partition: Past(tuple(chain.from_iterable(batch.messages for batch in batches)), whole)
            for partition, (batches, whole) in found.items()
        }

    def past(self, partition: TopicPartition) -> Past:
        """What is kept of one partition."""
        return self.pasts().get(partition, NO_PAST)

    def last(self, partition: TopicPartition) -> int | None:
        """Offset of the last message kept of a partition."""
        with self._lock:
            kept = self._kept.get(partition)
            batch = next((batch for batch in reversed(kept.batches) if batch.messages), None) if kept else None
        return batch.messages[-1].offset() if batch else None

    def _trim(self, kept: Kept) -> None:
        """Lets go of the batches that the window does not need."""
        while kept.batches and kept.scores - kept.batches[0].scores >= self._window:
            kept.drop_oldest()
        self._stay_small(kept)

    def _stay_small(self, kept: Kept) -> None:
        while kept.batches and sum(each.bytes for each in self._kept.values()) > self._limit:
            kept.drop_oldest()
