"""Arithmetic that the compiled parts share, in numbers of their own type, so that no product is in double precision.

The natural logarithm is written out: a library's is a call, and its last bits depend on the library.
"""

# mypy: disable-error-code="call-arg, no-untyped-def, no-untyped-call, untyped-decorator, var-annotated, unreachable"

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = [
    "FARTHER",
    "NOWHERE",
    "ONE",
    "THIRD",
    "ZERO",
    "Array",
    "borrowing",
    "compiled",
    "dot",
    "inlined",
    "log",
    "square",
]

Array = NDArray[np.float32]
NOWHERE, FARTHER = np.float32(1e30), np.float32(2e30)
ZERO, ONE, THIRD = np.float32(0), np.float32(1), np.float32(1 / 3)

BORROWING: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "_nrt": False,
}  # no runtime for arrays

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code, which holds no lock of Python's and is kept between runs."""
    return cast("Function", njit(nogil=True, cache=True, error_model="numpy")(function))


def borrowing(function: Function) -> Function:
    """Compiles a function that makes no arrays, and counts no references to those it is given.

    Counting takes most of the time of a function that is short and is given many arrays.
    """
    return cast("Function", njit(**BORROWING)(function))


def inlined(function: Function) -> Function:
    """Compiles as `borrowing` does, as a part of each caller's code."""
    return cast("Function", njit(**BORROWING, forceinline=True)(function))


@compiled
def square(value):
    """The square of a number."""
    return value * value


@compiled
def dot(a, b, units):
    """The scalar product of the first `units` of two vectors."""
    total = ZERO
    for unit in range(units):
        total += a[unit] * b[unit]
    return total


FRACTION = 52  # bits of a double after those of its exponent
BELOW_ONE = 1023  # what an exponent is stored above
ONE_BITS = BELOW_ONE << FRACTION
FRACTION_MASK = (1 << FRACTION) - 1
LOG_2, ROOT_2 = math.log(2), math.sqrt(2)
SERIES = tuple(1 / odd for odd in (3, 5, 7, 9, 11, 13))


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
    """The natural logarithm of a positive double that is not subnormal, to about 1e-12.

    No call is made, so the compiler works on several values at once.

    It adds up the exponent and a series in (m - 1) / (m + 1) for the fraction m, taken from half to twice the root of a half.
    """
    bits = _bits(value)
    fraction = _double((bits & FRACTION_MASK) | ONE_BITS)
    high = fraction > ROOT_2
    fraction = fraction * 0.5 if high else fraction
    exponent = np.float64((bits >> FRACTION) - BELOW_ONE) + (1.0 if high else 0.0)
    ratio = (fraction - 1.0) / (fraction + 1.0)
    squared = ratio * ratio
    series = SERIES[3] + squared * (SERIES[4] + squared * SERIES[5])
    series = 1.0 + squared * (SERIES[0] + squared * (SERIES[1] + squared * (SERIES[2] + squared * series)))
    return exponent * LOG_2 + 2.0 * ratio * series
