"""Whether what marks some positions of a stream is frequent there.

An answer is a function of the positions before alone: never of how they were cut into batches.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frequency"]

Positions = NDArray[np.int64]


class Frequency:
    """Marks at ascending positions; frequent where at least `least` of them lie within `span` positions."""

    def __init__(self, span: int, least: int) -> None:
        self._span, self._least = span, least
        self._marks: Positions = np.empty(0, np.int64)

    def add(self, marks: Positions) -> NDArray[np.bool_]:
        """Whether each further mark [mark] has `least` earlier ones in the `span` positions before it."""
        known = np.concatenate((self._marks, marks))
        self._marks = known[-self._least :]  # further back no answer depends on
        frequent = np.zeros(len(marks), dtype=np.bool_)
        pairs = min(len(marks), len(known) - self._least)
        if pairs > 0:
            earlier = known[len(known) - self._least - pairs : len(known) - self._least]
            frequent[-pairs:] = earlier >= known[-pairs:] - self._span
        return frequent
