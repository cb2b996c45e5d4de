"""The golden batch: a few records and the scores that the model gave them where it was made.

Whoever is about to serve a model scores them again. An artifact can be whole and yet mean something
else here: another version of a library or of this program, another processor, a faulty device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import ModelFormatError

__all__ = ["Golden"]

RECORDS = 32  # like normal ones, feature by feature
WILD = 3.0  # times its range that a feature of the other records is moved away
NINES, SHARE = 0.02, 0.02  # how far a score may be off, absolutely and of itself: last bits differ between processors

Floats = NDArray[np.float32]
Score = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Golden:
    """Float32 `records` [record, feature] (NaN = missing) and their `scores` [record, score] in nines.

    The scores are in the order of `Scores.columns`.
    """

    records: Floats
    scores: Floats

    @classmethod
    def of(cls, matrix: Floats, score: Score, seed: int) -> Self:
        """Draws one from normal records [record, feature], and has it scored.

        Each feature is drawn by itself, so no record of the data gets into the artifact.
        """
        rng = np.random.default_rng(seed)
        drawn = np.stack([rng.choice(column, RECORDS) for column in matrix.T], axis=1)
        records = np.concatenate([drawn, _wild(drawn)]).astype(np.float32)
        return cls(records, score(records))

    @classmethod
    def from_header(cls, header: Mapping[str, Any], features: int, told: int = 3) -> Self:
        """Reads one from an artifact; raises ValueError, KeyError or TypeError when it has another shape than so many
        features and scores call for.
        """
        records = np.array(header["records"], dtype=np.float32)
        scores = np.array(header["scores"], dtype=np.float32)
        if records.ndim != 2 or records.shape[1] != features or scores.shape != (len(records), told):
            raise ValueError("golden batch of another shape")
        if not len(records) or not np.isfinite(scores).all() or np.isinf(records).any():
            raise ValueError("golden batch without finite scores")
        golden = cls(records, scores)
        if golden.to_header() != header:
            raise ValueError("golden batch of other precision")  # two artifacts of one model would be two versions
        return golden

    def to_header(self) -> dict[str, Any]:
        """The batch as JSON values, a gap as null."""
        return {"records": _shortest(self.records), "scores": _shortest(self.scores)}

    def verify(self, score: Score) -> None:
        """Raises `ModelFormatError` when the model's scores are not here what they were where it was made."""
        found = score(self.records)
        off = np.abs(found - self.scores) - SHARE * np.abs(self.scores)
        if not (off <= NINES).all():
            row, opinion = np.unravel_index(int(np.argmax(np.nan_to_num(off, nan=np.inf))), off.shape)
            raise ModelFormatError(
                f"the model scores its golden batch otherwise here: record {row}, "
                f"{self.scores[row, opinion]:.6g} nines when it was made, {found[row, opinion]:.6g} now; "
                "fit it anew with this version on this kind of machine"
            )


def _shortest(table: Floats) -> list[list[float | None]]:
    """The shortest decimals that name these float32 values."""
    return [[None if value != value else float(str(value)) for value in row] for row in table]


def _wild(records: Floats) -> Floats:
    """Copies of records, each with one feature, in turn, far out of range or missing."""
    wild = records.astype(np.float64)
    width = np.nan_to_num(np.fmax.reduce(wild, axis=0) - np.fmin.reduce(wild, axis=0))
    rows = np.arange(len(wild))
    columns = rows % wild.shape[1]
    wild[rows, columns] += WILD * (1 + width[columns])  # whole numbers stay whole: categories are codes
    wild[rows % 4 == 3, columns[rows % 4 == 3]] = np.nan
    wild[np.abs(wild) > np.finfo(np.float32).max] = np.nan
    return wild.astype(np.float32)
