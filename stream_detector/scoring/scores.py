"""The scores of records, by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stream_detector.scoring.calibration import Calibration
from stream_detector.scoring.opinions import Panel

__all__ = ["Scores"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Float32 arrays [record] in nines (-log10 of a tail probability: 3.0 = one normal record in
    1,000 scores as high); higher = more anomalous; finite; 6 significant digits.

    `inversion` and `discriminator` are the two opinions, `anomaly` what the model's mode makes of them; `others` are
    by name the opinions of other scorers that the model has. Where the model has a context, the opinions are about the
    record alone, and `views` has by name the nines of the `record` alone and of its `context`, NaN where that says
    nothing; `anomaly` is made of both.
    """

    inversion: NDArray[np.float32]
    discriminator: NDArray[np.float32]
    anomaly: NDArray[np.float32]
    others: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    views: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(cls, panel: Panel, scores: NDArray[np.float32]) -> Self:
        """Names the opinions that a panel tells, and the anomaly score [score, record]."""
        inversion, discriminator, *others, anomaly = scores  # the networks' own opinions come first
        return cls(inversion, discriminator, anomaly, dict(zip(panel.told[2:], others, strict=True)))

    def flagged(self, rate: float) -> NDArray[np.bool_]:
        """Flags the records that score higher than a share `rate` of normal ones does, bool [record].

        Raises `DataError` unless the rate is above 0 and below 1.
        """
        flagged: NDArray[np.bool_] = self.anomaly > np.float32(Calibration.quantile(rate))
        return flagged

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores, in the order of `columns`."""
        return ("inversion", "discriminator", *self.others, "anomaly")

    def of_record(self, row: int) -> NDArray[np.float32]:
        """The scores of one record [score], in the order of `columns`."""
        return np.array([scores[row] for scores in self._arrays])

    def columns(self) -> NDArray[np.float32]:
        """All scores [record, score]: inversion, discriminator, others, anomaly."""
        return np.stack(self._arrays, axis=1)

    @property
    def _arrays(self) -> tuple[NDArray[np.float32], ...]:
        return (self.inversion, self.discriminator, *self.others.values(), self.anomaly)
