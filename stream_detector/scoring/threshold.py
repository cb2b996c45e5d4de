"""The threshold of a partition: an exact rolling quantile between a floor and a ceiling.

The threshold of a record uses only the scores before it, one by one and in offset order, so it
is a function of the log alone: never of batches, workers or restarts. It also learns what is usual:
a category that fitting never saw is news, until new ones come often in that feature.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FLAG_ALL",
    "USUAL_SHARE",
    "USUAL_SPAN",
    "Frequency",
    "Limits",
    "NewsScore",
    "RollingThreshold",
    "Threshold",
    "Unseen",
    "Window",
]

Positions = NDArray[np.int64]

USUAL_SPAN = 1_000  # scored records, or the window where that is shorter
USUAL_SHARE = 0.1  # of them, that held a category never seen in a feature, from which that is usual there

Unseen = Mapping[int, NDArray[np.int64]]
"""Records, ascending, by the position of a feature in which they have a category that fitting never saw."""
NOTHING_NEW: Unseen = {}
FEW = 64  # scores that are put in their places one by one; more are sorted together


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the rolling quantile: the records that it spans, and the scores, in nines, between which it stays.

    `nominal` is the score that a share `target_alert_rate` of normal records exceeds by the
    model's calibration; it serves until `warmup` scores were seen. The floor keeps a quiet stream
    from flooding, the ceiling keeps a long attack from hiding itself by raising its own threshold.
    """

    target_alert_rate: float
    window: int
    warmup: int
    nominal: float
    floor: float
    ceiling: float


FLAG_ALL = Limits(target_alert_rate=0.1, window=1, warmup=2**62, nominal=-inf, floor=-inf, ceiling=-inf)
"""Limits of a threshold that every score exceeds: for the explanation of any record."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score above which a record is flagged, and whether the window has history enough.

    `usual` are positions of features in which the record has a category never seen, as many records
    before it have: there that says nothing.
    """

    value: float
    warming: bool
    usual: tuple[int, ...] = ()


class NewsScore(float):
    """The score of a record with categories never seen; `unseen` are the positions of those features."""

    __slots__ = ("unseen",)
    unseen: tuple[int, ...]

    @classmethod
    def of(cls, score: float, unseen: Sequence[int]) -> "NewsScore":
        """The score, with what is new in its record."""
        made = cls(score)
        made.unseen = tuple(unseen)
        return made


class Window:
    """The last `size` scores of a partition, and their quantile as far as it lies above `floor`.

    Only scores from the floor on are kept in order: nearly none, where the floor is high.
    """

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


class Frequency:
    """Tells whether marks at ascending positions are frequent: at least `least` of them within `span` positions.

    An answer is a function of the positions before alone: never of how they were cut into batches.
    """

    def __init__(self, span: int, least: int) -> None:
        self._span, self._least = span, least
        self._marks: Positions = np.empty(0, np.int64)

    def add(self, marks: Positions) -> NDArray[np.bool_]:
        """Adds marks; tells of each [mark] whether it has `least` earlier ones in the `span` positions before it."""
        known = np.concatenate((self._marks, marks))
        self._marks = known[-self._least :]  # further back no answer depends on
        frequent = np.zeros(len(marks), dtype=np.bool_)
        pairs = min(len(marks), len(known) - self._least)
        if pairs > 0:
            earlier = known[len(known) - self._least - pairs : len(known) - self._least]
            frequent[-pairs:] = earlier >= known[-pairs:] - self._span
        return frequent


class RollingThreshold:
    """The threshold of one partition under one model."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._share = 1.0 - limits.target_alert_rate
        self._least = min(limits.floor, limits.nominal)  # what lies below no threshold can flag: nearly all scores
        self._window = Window(limits.window, limits.floor)
        self._news: dict[int, Frequency] = {}

    @property
    def seen(self) -> int:
        """The number of scores that it was given so far."""
        return self._window.count

    def judge(self, score: float) -> Threshold:
        """The threshold from the scores before this one; then this score joins the window."""
        threshold = self.current()
        self._window.add(score)
        return threshold

    def flag(self, scores: Sequence[float] | NDArray[np.float64], unseen: Unseen = NOTHING_NEW) -> dict[int, Threshold]:
        """Positions of the scores that exceed their threshold, with it; each score is judged, then joins the window."""
        values = np.asarray(scores, dtype=np.float64)
        usual = self._usual(unseen)
        flagged: dict[int, Threshold] = {}
        done = 0
        for at in np.flatnonzero(values > self._least).tolist():
            if done < at:
                self._window.extend(values[done:at])
            threshold, score = self.current(), float(values[at])
            if score > threshold.value:
                flagged[at] = replace(threshold, usual=tuple(usual[at])) if at in usual else threshold
            self._window.add(score)
            done = at + 1
        self._window.extend(values[done:])
        return flagged

    def current(self) -> Threshold:
        """The threshold that the next record meets."""
        limits = self.limits
        if self.seen < limits.warmup:
            return Threshold(limits.nominal, warming=True)
        quantile = self._window.quantile(self._share)
        return Threshold(min(max(quantile, limits.floor), limits.ceiling), warming=False)

    def learn(self, scores: Iterable[float]) -> None:
        """Takes earlier scores into the window, oldest first, without judging them."""
        told = list(scores)
        unseen: dict[int, list[int]] = {}
        for at, score in enumerate(told):
            for feature in score.unseen if isinstance(score, NewsScore) else ():
                unseen.setdefault(feature, []).append(at)
        self._usual({feature: np.array(marks, dtype=np.int64) for feature, marks in unseen.items()})
        self._window.extend(np.array(told, dtype=np.float64))

    def _usual(self, unseen: Unseen) -> dict[int, list[int]]:
        """Takes what is new in the next records; by record the features in which that is usual by then."""
        span = min(USUAL_SPAN, self.limits.window)
        if (least := int(USUAL_SHARE * span)) < 1:
            return {}
        found: dict[int, list[int]] = {}
        for feature, marks in unseen.items():
            frequency = self._news.setdefault(feature, Frequency(span, least))
            for at in marks[frequency.add(self.seen + marks)].tolist():
                found.setdefault(at, []).append(feature)
        return found
