"""Keeps what a worker knows of the partitions that it owns, in one object for each.

    RESTORING --restore--> READING --rewind--> RESTORING

An assigned partition is restored once its start and what its next record meets are known; an abort rewinds it. Messages
of one that is not being read are dropped. Whenever one is rewound or given up, `_forget` forgets all of it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.epochs import PartitionContext
from stream_detector.records import Arrivals, Message, TopicPartition
from stream_detector.records.message import byte_count
from stream_detector.scoring.threshold import RollingThreshold
from stream_detector.worker.judge import Judge
from stream_detector.worker.partitions.restore import KEPT_BYTES, NO_PAST, CaughtUp, Past, Restored, catch_up
from stream_detector.worker.partitions.starts import Start

if TYPE_CHECKING:
    from stream_detector.drift import Deviations, Monitor

__all__ = ["Assignment", "OwnedPartition", "PartitionState", "Received", "RecentMessages"]

NOTHING = -1  # below any offset


class PartitionState(StrEnum):
    """Whether a partition's records are judged."""

    RESTORING = "restoring"
    READING = "reading"


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """Holds messages, how many scores they gave, and the bytes of their values."""

    messages: Sequence[Message]
    scores: int
    bytes: int


class RecentMessages:
    """Keeps the messages that gave the last `window` scores of a partition; one thread adds, others may read.

    `seen` is how many scores the threshold has taken from `past`, with which it begins.
    """

    def __init__(self, window: int, past: Past = NO_PAST, seen: int = 0) -> None:
        self.bytes = 0
        self._window = window
        self._seen = self._scores = 0
        self._whole = past.whole
        self._batches: deque[KeptBatch] = deque()
        self._lock = Lock()
        self.add(past.messages, seen)

    def add(self, messages: Sequence[Message], seen: int) -> None:
        """Keeps messages, after which the threshold has seen `seen` scores; lets go of what the window does not need."""
        batch = KeptBatch(messages, seen - self._seen, byte_count(messages))
        with self._lock:
            self._batches.append(batch)
            self._seen = seen
            self._scores += batch.scores
            self.bytes += batch.bytes
            while self._batches and self._scores - self._batches[0].scores >= self._window:
                self._drop_oldest()

    def shrink(self, excess: int) -> int:
        """Lets go of the oldest batches until `excess` bytes are free, or nothing is left; returns how many bytes were freed."""
        before = self.bytes
        with self._lock:
            while self._batches and before - self.bytes < excess:
                self._drop_oldest()
        return before - self.bytes

    def past(self) -> Past:
        """Returns what is kept, as it stands."""
        with self._lock:
            batches, whole = list(self._batches), self._whole
        return Past(tuple(chain.from_iterable(batch.messages for batch in batches)), whole)

    @property
    def last(self) -> int | None:
        """Offset of the last message kept."""
        return next((batch.messages[-1].offset() for batch in reversed(self._batches) if batch.messages), None)

    def _drop_oldest(self) -> None:
        batch = self._batches.popleft()
        self._scores -= batch.scores
        self.bytes -= batch.bytes
        self._whole = False


class OwnedPartition:
    """Holds all that a worker knows of one partition.

    `start` is what was looked up last, out of date if `start_is_stale`. While the partition is read, `next_offset` is the
    one after the last record taken, `committed_offset` the one that the group has on record (-1 if none), `threshold` and
    `context` (None where the model has none) what the next record meets, `recent` the messages behind it, `drift` and
    `deviations` what watches the stream (None until the first batch), and `shadow` the candidate's threshold and context.
    """

    def __init__(self, name: TopicPartition, window: int = 0) -> None:
        self.name = name
        self.start: Start | None = None
        self.start_is_stale = True
        self._window = window
        self._forget()

    def _forget(self) -> None:
        self.epoch: object | None = None  # another object each time that it is restored; None while it is restoring
        self.next_offset = self.committed_offset = NOTHING
        self.threshold: RollingThreshold | None = None
        self.context: PartitionContext | None = None
        self.recent = RecentMessages(self._window)
        self.drift: Monitor | None = None
        self.deviations: Deviations | None = None
        self.shadow: CaughtUp | None = None

    @property
    def state(self) -> PartitionState:
        """Whether its records are judged."""
        return PartitionState.RESTORING if self.epoch is None else PartitionState.READING

    def locate(self, start: Start) -> None:
        """Takes a start that was just looked up."""
        self.start, self.start_is_stale = start, False

    def restore(self, start: Start, restored: Restored) -> None:
        """Lets it be read from a start on, with what was rebuilt for it.

        A first start is committed, too, so that what retention takes before it was read is noticed.
        """
        self.locate(start)
        self.epoch = object()
        self.next_offset = start.offset
        self.committed_offset = start.offset if start.committed else NOTHING
        self._begin(restored)

    def take(self, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which messages with these offsets come next, bool [message]; it goes on after the last of them."""
        highest = np.maximum.accumulate(np.concatenate(([self.next_offset - 1], offsets)))
        self.next_offset = int(highest[-1]) + 1
        return offsets > highest[:-1]

    def take_end(self, offset: int) -> None:
        """Goes on at the partition's end; what lies before it is transaction markers, or compacted away."""
        self.next_offset = max(self.next_offset, offset)

    def remember(self, messages: Sequence[Message]) -> None:
        """Keeps messages that its threshold has just judged."""
        if self.threshold:
            self.recent.add(messages, self.threshold.seen)

    def commit(self, offset: int) -> None:
        """Notes what the group has on record."""
        self.committed_offset = offset

    def rewind(self) -> None:
        """Goes back to RESTORING; until its start is looked up again, the committed offset is the best guess."""
        if self.start and self.committed_offset != NOTHING:
            self.start = replace(self.start, offset=self.committed_offset)
        self.start_is_stale = True
        self._forget()

    def rebase(self, judge: Judge, known: CaughtUp | None) -> bool:
        """Goes on under another model, as if that had always served; False when the messages kept do not reach back far enough.

        `known` is a threshold under that model that was prepared meanwhile.
        """
        past = self.recent.past()
        found = catch_up(judge, past, known)
        if found:
            self._begin(Restored(found.threshold, past, found.context))
        return found is not None

    def _begin(self, restored: Restored) -> None:
        """Begins anew what depends on the model in force, all of it together."""
        self.threshold, past, self.context = restored
        self.recent = RecentMessages(self._window, past, self.threshold.seen)
        self.drift = self.deviations = None


@dataclass(frozen=True, slots=True)
class Received:
    """Holds received messages, and the ends of partitions that were reached behind them.

    Each run of messages, and each end, has its partition's `epoch` of that time beside it: so it is known if that was
    restored again, or given up, before they are taken. `lost` are partitions whose offset the broker does not have.
    """

    messages: Arrivals
    epochs: Sequence[object | None]
    ends: Sequence[tuple[TopicPartition, object | None, int]]
    lost: Sequence[TopicPartition] = ()


class Assignment:
    """Keeps the partitions that a worker owns, by topic and number, and the judge with the model in force.

    `window` is for how many scores of each partition the messages are kept; where they take too much memory together, the
    oldest go, and then that partition's window is read from the log when the model is changed.
    """

    def __init__(self, judge: Judge, window: int = 0) -> None:
        self.judge = judge
        self._window = window
        self._partitions: dict[TopicPartition, OwnedPartition] = {}

    def __iter__(self) -> Iterator[OwnedPartition]:
        return iter(list(self._partitions.values()))

    def __getitem__(self, name: TopicPartition) -> OwnedPartition:
        return self._partitions[name]

    def add(self, names: Iterable[TopicPartition]) -> None:
        """Takes partitions into ownership, to be restored."""
        self._partitions |= {name: OwnedPartition(name, self._window) for name in names}

    def drop(self, names: Iterable[TopicPartition]) -> None:
        """Gives partitions up; what was taken from them and not committed is forgotten."""
        for name in names:
            self._partitions.pop(name, None)

    def restore(self, name: TopicPartition, start: Start, restored: Restored) -> None:
        """Lets a partition be read, if it is still owned; as `OwnedPartition.restore`."""
        if owned := self._partitions.get(name):
            owned.restore(start, restored)
            self._stay_small([owned])

    def rewind(self, names: Iterable[TopicPartition]) -> None:
        """Has owned partitions restored again."""
        for owned in filter(None, map(self._partitions.get, names)):
            owned.rewind()

    def rebase(self, judge: Judge, known: Mapping[TopicPartition, CaughtUp]) -> list[TopicPartition]:
        """Goes on with another model; returns the partitions that have to be restored from the log for it.

        Between two transactions only.
        """
        self.judge = judge
        return [owned.name for owned in self.reading if not owned.rebase(judge, known.get(owned.name))]

    @property
    def owned(self) -> list[TopicPartition]:
        """Names all owned partitions."""
        return list(self._partitions)

    @property
    def restoring(self) -> list[OwnedPartition]:
        """The partitions whose start or threshold is not known yet."""
        return [owned for owned in self if owned.epoch is None]

    @property
    def reading(self) -> list[OwnedPartition]:
        """The partitions that are being read."""
        return [owned for owned in self if owned.epoch is not None]

    @property
    def thresholds(self) -> dict[TopicPartition, RollingThreshold]:
        """The thresholds of the partitions that are being read."""
        return {owned.name: owned.threshold for owned in self._partitions.values() if owned.threshold is not None}

    @property
    def contexts(self) -> dict[TopicPartition, PartitionContext]:
        """The contexts of the partitions that are being read, where the model has one."""
        return {owned.name: owned.context for owned in self._partitions.values() if owned.context}

    def received(
        self,
        messages: Sequence[Message],
        ends: Sequence[tuple[TopicPartition, int]] = (),
        lost: Iterable[TopicPartition] = (),
    ) -> Received:
        """Messages to be taken later; before `ends` (partition, offset) nothing else is left to take."""
        arrivals = Arrivals.of(messages)
        return Received(
            arrivals,
            [self._epoch(name) for name, _ in arrivals.runs],
            [(name, self._epoch(name), offset) for name, offset in ends],
            tuple(lost),
        )

    def take(self, received: Received) -> Arrivals:
        """Takes the messages that come next in a partition that is being read; they count as taken from here on.

        Others belong to partitions given up or restored since they were received, or were taken before.
        """
        arrivals = received.messages
        taken = np.zeros(len(arrivals), dtype=np.bool_)
        for (name, run), epoch in zip(arrivals.runs, received.epochs, strict=True):
            if epoch and epoch is self._epoch(name):
                taken[run] = self._partitions[name].take(arrivals.offsets[run])
        for name, epoch, offset in received.ends:
            if epoch and epoch is self._epoch(name):
                self._partitions[name].take_end(offset)
        return arrivals if taken.all() else Arrivals.of([arrivals[at] for at in np.flatnonzero(taken).tolist()])

    def pending(self) -> dict[TopicPartition, int]:
        """The offsets to commit: the next to read, of every partition that moved since the last commit."""
        return {
            owned.name: owned.next_offset
            for owned in self._partitions.values()
            if owned.next_offset > owned.committed_offset
        }

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Marks offsets as committed."""
        for name, offset in offsets.items():
            if (owned := self._partitions.get(name)) and owned.epoch:
                owned.commit(offset)

    def remember(self, arrivals: Arrivals) -> None:
        """Keeps messages that were just judged, for the next model."""
        if not self._window:
            return
        found: dict[TopicPartition, list[Message]] = {}
        for name, run in arrivals.runs:
            found.setdefault(name, []).extend(arrivals.messages[run])
        for name, messages in found.items():
            self._partitions[name].remember(messages)
        self._stay_small([self._partitions[name] for name in found])

    def context(self, name: TopicPartition) -> PartitionContext | None:
        """The context of a partition; None where it is not read, or the model has none."""
        return owned.context if (owned := self._partitions.get(name)) else None

    def pasts(self) -> dict[TopicPartition, Past]:
        """What is kept of each partition that is being read, as it stands; another thread may ask."""
        return {owned.name: owned.recent.past() for owned in self.reading}

    def _epoch(self, name: TopicPartition) -> object | None:
        return owned.epoch if (owned := self._partitions.get(name)) else None

    def _stay_small(self, grown: Iterable[OwnedPartition]) -> None:
        """Lets go of the oldest messages of partitions that grew, if all together hold too many bytes."""
        excess = sum(owned.recent.bytes for owned in self._partitions.values()) - KEPT_BYTES
        for owned in grown:
            if excess > 0:
                excess -= owned.recent.shrink(excess)
