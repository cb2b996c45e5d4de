"""The partitions this worker owns, and how far it is in each.

An assigned partition is *unplaced* until its start and its threshold are known; an abort makes
partitions unplaced again. Messages of partitions that are not placed are nobody's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_detector.records import Arrivals, Message, TopicPartition
from stream_detector.scoring.threshold import RollingThreshold
from stream_detector.worker.partitions.history import NO_PAST, History, Past

__all__ = ["Assignment", "Held"]

NOTHING = -1  # below any offset


@dataclass(slots=True)
class Position:
    """Offsets of one partition: what is committed, and the one that follows the last taken."""

    committed: int
    following: int


@dataclass(frozen=True, slots=True)
class Held:
    """Received messages, and ends of partitions that were reached behind them, with the positions at that time.

    By its position a partition is known to have been placed anew, or given up, before they are taken.
    """

    messages: Arrivals
    positions: Sequence[Position | None]
    ends: Sequence[tuple[TopicPartition, Position | None, int]]


class Assignment:
    """Owned partitions with their positions; `thresholds` holds those of the placed ones, `history` what led there."""

    def __init__(self, history: History | None = None) -> None:
        self.thresholds: dict[TopicPartition, RollingThreshold] = {}
        self.history = history or History(window=0, limit=0)
        self._positions: dict[TopicPartition, Position | None] = {}

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        """Takes partitions into ownership, unplaced."""
        for partition in partitions:
            self._positions[partition] = None
            self.thresholds.pop(partition, None)
            self.history.forget(partition)

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Gives partitions up; what was taken from them and not committed is forgotten."""
        for partition in partitions:
            self._positions.pop(partition, None)
            self.thresholds.pop(partition, None)
            self.history.forget(partition)

    def place(
        self,
        partition: TopicPartition,
        offset: int,
        threshold: RollingThreshold,
        past: Past = NO_PAST,
        *,
        committed: bool,
    ) -> None:
        """Lets an owned partition go on at `offset`; one that is not committed will be, with the next commit.

        So a group's first start is on record too, and what retention takes before it was read is
        noticed. `past` is what the threshold was rebuilt from.
        """
        if partition in self._positions:
            self._positions[partition] = Position(offset if committed else NOTHING, offset)
            self.thresholds[partition] = threshold
            self.history.begin(partition, past, threshold)

    def renew(self, partition: TopicPartition, threshold: RollingThreshold, past: Past) -> None:
        """Gives a placed partition another threshold, rebuilt from `past`; where it goes on stays as it is."""
        if self._positions.get(partition) is not None:
            self.thresholds[partition] = threshold
            self.history.begin(partition, past, threshold)

    def displace(self, partitions: Iterable[TopicPartition]) -> None:
        """Makes owned partitions unplaced."""
        self.add([partition for partition in partitions if partition in self._positions])

    @property
    def owned(self) -> list[TopicPartition]:
        """All owned partitions."""
        return list(self._positions)

    @property
    def unplaced(self) -> list[TopicPartition]:
        """Owned partitions whose start is not known yet."""
        return [partition for partition, position in self._positions.items() if position is None]

    @property
    def placed(self) -> list[TopicPartition]:
        """Owned partitions that are being read."""
        return [partition for partition, position in self._positions.items() if position is not None]

    def hold(self, messages: Sequence[Message], ends: Sequence[tuple[TopicPartition, int]] = ()) -> Held:
        """Received messages, to be taken later; before `ends` (partition, offset) nothing else is left to take."""
        positions, arrivals = self._positions, Arrivals.of(messages)
        return Held(
            arrivals,
            [positions.get(place) for place, _ in arrivals.runs],
            [(place, positions.get(place), offset) for place, offset in ends],
        )

    def take(self, held: Held) -> Arrivals:
        """The messages that are next in a placed partition; they count as taken from here on.

        Others belong to partitions given up or placed anew since they were received, or were taken before.
        What lies before an end is transaction markers, or compacted away.
        """
        arrivals = held.messages
        taken = np.zeros(len(arrivals), dtype=np.bool_)
        for (place, run), position in zip(arrivals.runs, held.positions, strict=True):
            if position and position is self._positions.get(place):
                taken[run] = _next(arrivals.offsets[run], position)
        for place, position, offset in held.ends:
            if position and position is self._positions.get(place):
                position.following = max(position.following, offset)
        return arrivals if taken.all() else Arrivals.of([arrivals[at] for at in np.flatnonzero(taken).tolist()])

    def pending(self) -> dict[TopicPartition, int]:
        """The offsets to commit: the next to read, of every partition that moved since the last commit."""
        return {
            partition: position.following
            for partition, position in self._positions.items()
            if position is not None and position.following > position.committed
        }

    def settle(self, offsets: dict[TopicPartition, int]) -> None:
        """Marks offsets as committed."""
        for partition, offset in offsets.items():
            position = self._positions.get(partition)
            if position is not None:
                position.committed = offset

    def following(self, partition: TopicPartition) -> int | None:
        """The next offset of a placed partition, None for another."""
        position = self._positions.get(partition)
        return position.following if position else None

    def committed(self, partition: TopicPartition) -> int | None:
        """The offset of a placed partition that is known to be committed, None without one."""
        position = self._positions.get(partition)
        return position.committed if position and position.committed != NOTHING else None


def _next(offsets: NDArray[np.int64], position: Position) -> NDArray[np.bool_]:
    """Which of these offsets are next in their partition, and the position moved behind them."""
    highest = np.maximum.accumulate(np.concatenate(([position.following - 1], offsets)))
    position.following = int(highest[-1]) + 1
    return offsets > highest[:-1]
