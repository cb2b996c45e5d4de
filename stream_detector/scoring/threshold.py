"""The threshold of a partition: an exact rolling quantile between a floor and a ceiling.

The threshold of a record uses only the scores before it, one by one and in offset order, so it
is a function of the log alone: never of batches, workers or restarts. So is what it holds to be
usual: a category that fitting never saw is news, until new ones come often in that feature.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from stream_detector.scoring.frequency import Frequency
from stream_detector.scoring.window import Window

__all__ = ["FLAG_ALL", "USUAL_SHARE", "USUAL_SPAN", "Limits", "NewsScore", "RollingThreshold", "Threshold", "Unseen"]

USUAL_SPAN = 1_000  # scored records, or the window where that is shorter
USUAL_SHARE = 0.1  # of them, that held a category never seen in a feature, from which that is usual there

Unseen = Mapping[int, NDArray[np.int64]]
"""By feature position the records, ascending, whose category fitting never saw."""
NOTHING_NEW: Unseen = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rolling quantile may span and between which scores, in nines, it must stay.

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
        """How many scores it was given so far."""
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
