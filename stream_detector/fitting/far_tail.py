"""Finds records that lie far beyond all others of a fit: anomalies that nobody has taken out.

Where one record in twenty is an anomaly, what one normal record in a thousand exceeds lies beyond
the anomalies, and none is ever found. So the tail of the held-out records is held against the one that
their middle makes likely.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FarTail"]

Floats = NDArray[np.float64]
MIDDLE, BODY = 0.5, 0.9  # quantiles: between them lies what the tail is extrapolated from
FEWEST = 4  # far records, above what is expected
TIMES = 4.0  # the expected number
MOST = 0.1  # share of the records that can be far: with more of them they are the body


@dataclass(frozen=True, slots=True)
class FarTail:
    """The limit beyond which raw scores are far: `body` and `fold` [part] are their 0.9 quantiles and the e-folding scales of
    their tails, and a record whose mean excess in folds reaches `begin` is far; infinite when none is.
    """

    body: Floats
    fold: Floats
    begin: float

    @classmethod
    def of(cls, raw: Floats) -> "FarTail":
        """Learns the limit of raw scores [record, part] of held-out records, higher = more anomalous.

        The median and the 0.9 quantile tell an exponential tail. Far are the highest scores, of at most a tenth
        of the records, down to where they outnumber most what that tail holds, if they are at least 4 and 4
        times as many.
        """
        middle, body = np.quantile(raw, (MIDDLE, BODY), axis=0)
        fold = np.maximum((body - middle) / np.log((1 - MIDDLE) / (1 - BODY)), np.finfo(np.float64).tiny)
        unbounded = cls(body, fold, np.inf)
        highest = np.sort(unbounded.excess(raw))[::-1][: int(MOST * len(raw))]
        expected = (1 - BODY) * len(raw) * np.exp(-np.maximum(highest, 0))
        outnumbered = np.arange(1, len(highest) + 1) / (FEWEST + TIMES * expected)
        if not len(highest) or outnumbered.max() < 1:
            return unbounded
        return cls(body, fold, float(highest[outnumbered.argmax()]))

    def excess(self, raw: Floats) -> Floats:
        """The distance of records beyond the body, in folds, mean over the parts [record]."""
        mean: Floats = ((raw - self.body) / self.fold).mean(1)
        return mean

    def holds(self, raw: Floats) -> NDArray[np.bool_]:
        """Flags the records that are far, bool [record]."""
        far: NDArray[np.bool_] = self.excess(raw) >= self.begin
        return far
