"""The threshold of a partition: an exact rolling quantile between a floor and a ceiling.

The threshold of a record uses only the scores before it, one by one and in offset order, so it
is a function of the log alone: never of batches, workers or restarts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from river.stats import RollingQuantile

__all__ = ["FLAG_ALL", "Limits", "RollingThreshold", "Threshold"]


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
    """The score above which a record is flagged, and whether the window has history enough."""

    value: float
    warming: bool


class RollingThreshold:
    """The threshold of one partition under one model."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.seen = 0
        self._quantile = RollingQuantile(q=1.0 - limits.target_alert_rate, window_size=limits.window)

    def judge(self, score: float) -> Threshold:
        """The threshold from the scores before this one; then this score joins the window."""
        threshold = self.current()
        self.learn((score,))
        return threshold

    def flag(self, scores: Sequence[float]) -> dict[int, Threshold]:
        """Positions of the scores that exceed their threshold, with it; each score is judged, then joins the window.

        What lies below any threshold there can be is not asked about: nearly all scores.
        """
        least, before = min(self.limits.floor, self.limits.nominal), self.seen
        update = self._quantile.update
        flagged: dict[int, Threshold] = {}
        for at, score in enumerate(scores):
            if score > least:
                self.seen = before + at
                threshold = self.current()
                if score > threshold.value:
                    flagged[at] = threshold
            update(score)
        self.seen = before + len(scores)
        return flagged

    def current(self) -> Threshold:
        """The threshold that the next record meets."""
        limits = self.limits
        if self.seen < limits.warmup:
            return Threshold(limits.nominal, warming=True)
        quantile: float = self._quantile.get()  # type: ignore[assignment] # None only before the first score
        return Threshold(min(max(quantile, limits.floor), limits.ceiling), warming=False)

    def learn(self, scores: Iterable[float]) -> None:
        """Takes earlier scores into the window, oldest first, without judging them."""
        for score in scores:
            self._quantile.update(score)
            self.seen += 1
