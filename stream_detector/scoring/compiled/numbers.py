"""What the compiled parts share: numbers of their own type, so that no product is computed in double precision."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["FARTHER", "FLOOR", "NOTHING", "NOWHERE", "ONE", "THIRD", "Array", "compiled", "dot", "square"]

Array = NDArray[np.float32]
NOWHERE, FARTHER = np.float32(1e30), np.float32(2e30)
NOTHING, ONE, THIRD = np.float32(0), np.float32(1), np.float32(1 / 3)
FLOOR = 1e-6  # of a misfit a column, or of a distance, before its logarithm

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code that holds no lock of Python's, kept between runs."""
    return cast("Function", njit(nogil=True, cache=True, error_model="numpy")(function))


@compiled
def square(value):
    """Of a number."""
    return value * value


@compiled
def dot(a, b, units):
    """Of the first units of two vectors."""
    total = NOTHING
    for unit in range(units):
        total += a[unit] * b[unit]
    return total
