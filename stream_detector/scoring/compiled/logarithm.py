"""The natural logarithm, written out: a library's is a call, and its last bits depend on the library."""

# mypy: disable-error-code="call-arg, no-untyped-def, no-untyped-call, var-annotated, unreachable"

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from stream_detector.scoring.compiled.numbers import compiled

__all__ = ["log"]

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


@compiled
def log(value):
    """Of a positive double that is not subnormal, to about 1e-12, without a call: the compiler works on several at once.

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
