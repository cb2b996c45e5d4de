"""The tamed view of plain numbers in one compiled pass: what nearly every record goes through."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import math

import numpy as np
from numpy.typing import NDArray

from stream_detector.scoring.compiled.logarithm import log
from stream_detector.scoring.compiled.numbers import compiled

__all__ = ["tame"]

Floats = NDArray[np.float64]
FAR = 1e60  # beyond this many units outside the data, all distances are alike
CHANGED = 1e-6  # units that a constant must move to have changed


@compiled
def tame(
    matrix: NDArray[np.float32],
    centre: Floats,
    scale: Floats,
    jump: Floats,
    offset: Floats,
    gain: Floats,
    filler: Floats,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Columns float32 [record, column] of numbers [record, column], and which were there, 0 or 1.

    A column is `gain` times what its inverse hyperbolic sine in units of 1 / `scale` about `centre` lies above
    `offset`; one that was constant and changes jumps; what is missing (NaN) is `filler`. All float64 [column].
    """
    columns, present = np.empty(matrix.shape, np.float32), np.empty(matrix.shape, np.float32)
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            value = np.float64(matrix[row, column])
            shifted = value - centre[column]
            far = min(abs(shifted) * scale[column], FAR)
            bent = log(far + math.sqrt(far * far + 1.0)) + (jump[column] if far > CHANGED else 0.0)
            bent = (-bent if shifted < 0 else bent) - offset[column]
            there = value == value
            columns[row, column] = bent * gain[column] if there else filler[column]
            present[row, column] = 1.0 if there else 0.0
    return columns, present
