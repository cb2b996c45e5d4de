"""What stands in for values that are missing, or say nothing: those of the kept record that is most like the rest.

The generator's expectation, a robust fit, may lie far from where normal records are; on these the
score is as on the true value (tested), so a score with and without tells what the value is to blame for.
"""

import numpy as np
from numpy.typing import NDArray

from stream_detector.normaliser import Normaliser

__all__ = ["Completion"]

ASKED = 2_048  # kept records among which there are


class Completion:
    """Completes records from `kept` normal ones [record, feature], in the input's units."""

    def __init__(self, normaliser: Normaliser, kept: NDArray[np.float32]) -> None:
        self._normaliser = normaliser
        self._kept = kept[:: -(-len(kept) // ASKED)]
        known = normaliser(self._kept)
        self._columns = np.concatenate((known.views[0], known.context), 1)
        self._present = np.concatenate((known.present, np.ones_like(known.context)), 1)
        judged, owners = normaliser.layout.judged(), normaliser.layout.owners()
        self._owners = np.concatenate((owners[judged], owners[~judged]))

    def __call__(self, matrix: NDArray[np.float32], doubted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Records [record, feature] with other values where `doubted`; NaN where no kept record has them all."""
        given = self._normaliser(np.where(doubted, np.float32(np.nan), matrix))
        columns = np.concatenate((given.views[0], given.context), 1)
        present = np.concatenate((given.present, np.ones_like(given.context)), 1) * ~doubted[:, self._owners]
        completed = matrix.copy()
        for row in np.flatnonzero(doubted.any(1)):
            features = doubted[row]
            completed[row, features] = self._like(columns[row], present[row], features)[features]
        return completed

    def _like(
        self, columns: NDArray[np.float32], present: NDArray[np.float32], features: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The kept record nearest in the columns that are present, of those that have these features."""
        apart = (np.square(self._columns - columns) * self._present * present).sum(1)
        apart[np.isnan(self._kept[:, features]).any(1)] = np.inf
        nearest = int(apart.argmin())
        found: NDArray[np.float32] = self._kept[nearest]
        return found
