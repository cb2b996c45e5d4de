"""The tamed view of plain numbers in one compiled pass: what nearly every record goes through."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated, unreachable"

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["tame"]

Floats = NDArray[np.float64]
FAR = 1e60  # beyond this many units outside the data, all distances are alike
CHANGED = 1e-6  # units that a constant must move to have changed
FRACTION = 52  # bits of a double after those of its exponent
BELOW_ONE = 1023  # what an exponent is stored above
ONE_BITS = BELOW_ONE << FRACTION
FRACTION_MASK = (1 << FRACTION) - 1
LOG_2, ROOT_2 = math.log(2), math.sqrt(2)
THIRD, FIFTH, SEVENTH, NINTH, ELEVENTH, THIRTEENTH = (1 / odd for odd in (3, 5, 7, 9, 11, 13))


@intrinsic
def _bits(_typing: Any, value: Any) -> Any:
    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(value), emit


@intrinsic
def _double(_typing: Any, bits: Any) -> Any:
    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(bits), emit


@njit(nogil=True, cache=True, error_model="numpy")
def _log(value):
    """Of a double from 1 up, to about 1e-12, without a call: the compiler works on several at once.

    The exponent, and a series in (m - 1) / (m + 1) for the fraction m, taken from half to twice the root of a half.
    """
    bits = _bits(value)
    fraction = _double((bits & FRACTION_MASK) | ONE_BITS)
    high = fraction > ROOT_2
    fraction = fraction * 0.5 if high else fraction
    exponent = np.float64((bits >> FRACTION) - BELOW_ONE) + (1.0 if high else 0.0)
    ratio = (fraction - 1.0) / (fraction + 1.0)
    square = ratio * ratio
    series = NINTH + square * (ELEVENTH + square * THIRTEENTH)
    series = 1.0 + square * (THIRD + square * (FIFTH + square * (SEVENTH + square * series)))
    return exponent * LOG_2 + 2.0 * ratio * series


@njit(nogil=True, cache=True, error_model="numpy")
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
            bent = _log(far + math.sqrt(far * far + 1.0)) + (jump[column] if far > CHANGED else 0.0)
            bent = (-bent if shifted < 0 else bent) - offset[column]
            there = value == value
            columns[row, column] = bent * gain[column] if there else filler[column]
            present[row, column] = 1.0 if there else 0.0
    return columns, present
