"""The last scores of a partition, and their quantile as far as it lies above a floor."""

from bisect import bisect_left, insort
from collections import deque

import numpy as np
from numpy.typing import NDArray

__all__ = ["Window"]

FEW = 64  # scores that are put in their places one by one; more are sorted together


class Window:
    """The last `size` scores. Only those from `floor` on are kept in order: nearly none, where the floor is high."""

    def __init__(self, size: int, floor: float) -> None:
        self.count = 0
        self._size, self._floor = size, floor
        self._ring = np.empty(size)
        self._high: deque[tuple[int, float]] = deque()
        self._ordered: list[float] = []

    def extend(self, scores: NDArray[np.float64]) -> None:
        """Takes scores [record] in, oldest first; as many of the oldest leave as are too many."""
        high = np.flatnonzero(scores >= self._floor)
        if len(high):
            self._order((self.count + high).tolist(), scores[high].tolist())
        self._write(scores[-self._size :], self.count + max(0, len(scores) - self._size))
        self.count += len(scores)
        self._expire()

    def add(self, score: float) -> None:
        """Takes one score in."""
        self._ring[self.count % self._size] = score
        if score >= self._floor:
            self._high.append((self.count, score))
            insort(self._ordered, score)
        self.count += 1
        self._expire()

    def quantile(self, share: float) -> float:
        """The value below which a share of the scores lies, interpolated; anything up to the floor when that is greater."""
        held = min(self.count, self._size)
        below = held - len(self._ordered)
        place = share * (held - 1)
        lower = int(place)
        higher = min(lower + 1, held - 1)
        if higher < below:
            return self._floor
        low = self._ordered[lower - below] if lower >= below else self._highest_below(held)
        return low + (place - lower) * (self._ordered[higher - below] - low)

    def _order(self, numbers: list[int], scores: list[float]) -> None:
        """Puts high scores, with their numbers since the first, in their places."""
        self._high.extend(zip(numbers, scores, strict=True))
        if len(scores) > FEW:
            self._ordered = sorted(score for _, score in self._high)
            return
        for score in scores:
            insort(self._ordered, score)

    def _expire(self) -> None:
        """Lets high scores go that are no longer among the last."""
        first = self.count - self._size
        while self._high and self._high[0][0] < first:
            del self._ordered[bisect_left(self._ordered, self._high.popleft()[1])]

    def _write(self, scores: NDArray[np.float64], first: int) -> None:
        """Puts scores into the ring, where the one of number `first` belongs."""
        at = first % self._size
        end = at + len(scores)
        if end <= self._size:
            self._ring[at:end] = scores
        else:
            self._ring[at:] = scores[: self._size - at]
            self._ring[: end - self._size] = scores[self._size - at :]

    def _highest_below(self, held: int) -> float:
        scores = self._ring[:held]
        return float(scores[scores < self._floor].max())
