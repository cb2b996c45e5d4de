"""Which records' latents are worth a search, and where they then stand among the others.

A search lowers the objective of the records it is spent on, so a searched record must not be compared
with one that was not by the objective alone: it would pass it. Records beyond the screen stay beyond
it, in the order of what the search has left.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Screen"]

Floats = NDArray[np.float64]
NOBODY = -1e30  # a start that every record's lies above


@dataclass(frozen=True, slots=True)
class Screen:
    """For every view [view] the log misfit at the `start` above which a record is searched for, and
    the `usual` log misfit of normal records that were.
    """

    start: Floats
    usual: Floats

    @classmethod
    def everyone(cls, views: int) -> "Screen":
        """Searches for every record."""
        return cls(np.full(views, NOBODY), np.zeros(views))

    @classmethod
    def fit(cls, starts: Floats, refined: Floats, share: float) -> "Screen":
        """From log misfits [record, view] of held-out normal records; passes over a `share` of them."""
        if not share:
            return cls.everyone(starts.shape[1])
        start = np.quantile(starts, share, axis=0)
        searched = np.where(starts > start, refined, np.nan)
        return cls(start, np.nanmedian(searched, axis=0) if (starts > start).any(0).all() else start)

    def joined(self, starts: Floats, refined: Floats) -> Floats:
        """Scores [view, record]: the start up to the screen, and what the search has left beyond it."""
        start, usual = self.start[:, None], self.usual[:, None]
        if (self.start == NOBODY).all():
            return refined
        return np.where(starts > start, start + np.logaddexp(0, refined - usual), starts)
