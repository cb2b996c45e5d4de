"""Matrix products whose every row is computed alike, whatever the other rows are.

A library's last bits depend on how many rows a product has and on the processor. Here an element is
one chain of fused multiply-adds along the depth, in order: as fast as a tuned library on narrow
matrices, equal to the bit for one row and for many. All arrays are float32 and contiguous.
"""

# mypy: disable-error-code="call-arg, no-untyped-def, no-untyped-call"

import numpy as np

from stream_detector.gan.memory import LEAF
from stream_detector.scoring.compiled.blocks import gathered_block, many, one, product_of
from stream_detector.scoring.compiled.numbers import ONE, compiled
from stream_detector.scoring.compiled.sieves import append, least_of_lanes, lower, not_above, outside, trailing
from stream_detector.scoring.compiled.vectors import LANES, ROWS, SIZE, WIDTH

__all__ = [
    "LANES",
    "ROWS",
    "WIDTH",
    "choose",
    "least",
    "lowest",
    "measure_gaps",
    "multiply",
    "multiply_from",
    "multiply_leaf",
    "multiply_onto",
    "multiply_triangle",
    "product",
    "square_sum",
    "within",
]

BLANK = np.zeros(WIDTH, np.float32)


@compiled
def multiply(x, w, y, rows):
    """Writes the first `rows` rows of x @ w into y.

    x [row, at least depth], w [depth, width], y [row, at least width]; width is a multiple of WIDTH.
    """
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, BLANK.ctypes.data, 0, ONE, y, rows, column, len(w))


@compiled
def multiply_from(x, w, bias, slope, y, rows):
    """As `multiply`, from a `bias` [width] on; what is negative is multiplied by `slope`, 0 to 1."""
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, bias.ctypes.data + SIZE * column, 0, slope, y, rows, column, len(w))


@compiled
def multiply_onto(x, w, y, rows):
    """As `multiply`, from what is in y on."""
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, y.ctypes.data + SIZE * column, y.shape[1], ONE, y, rows, column, len(w))


@compiled
def multiply_triangle(x, w, y, rows):
    """As `multiply` where w [width, width] is upper triangular: what is below its diagonal is not looked at."""
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, BLANK.ctypes.data, 0, ONE, y, rows, column, min(column + WIDTH, len(w)))


@compiled
def _multiply_column(x, w, start, start_stride, slope, y, rows, column, depth):
    """WIDTH columns of a product, of which only so many terms count; row by row from what lies at `start` on."""
    width, x_stride, y_stride = w.shape[1], x.shape[1], y.shape[1]
    x_first, w_at, y_first = x.ctypes.data, w.ctypes.data + SIZE * column, y.ctypes.data + SIZE * column
    whole = rows - rows % ROWS
    for row in range(0, whole, ROWS):
        x_at, y_at, start_at = _moved(row, x_first, x_stride, y_first, y_stride, start, start_stride)
        many(x_at, x_stride, w_at, width, start_at, start_stride, slope, y_at, y_stride, depth)
    for row in range(whole, rows):
        x_at, y_at, start_at = _moved(row, x_first, x_stride, y_first, y_stride, start, start_stride)
        one(x_at, x_stride, w_at, width, start_at, start_stride, slope, y_at, y_stride, depth)


@compiled
def _moved(row, x, x_stride, y, y_stride, start, start_stride):
    """Addresses a few rows on."""
    return x + SIZE * row * x_stride, y + SIZE * row * y_stride, start + SIZE * row * start_stride


@compiled
def multiply_leaf(x, chosen, first, rows, blocks, leaf, y):
    """Writes x[chosen[first : first + rows]] @ w into y [ROWS, LEAF], at most ROWS rows; into the others, anything.

    w are the LEAF columns of a leaf, in blocks [block, depth, WIDTH]. `chosen` has ROWS numbers of rows from `first` on.
    """
    depth, y_first = blocks.shape[1], y.ctypes.data
    w_first = blocks.ctypes.data + SIZE * LEAF * depth * leaf
    a, b, c, d, e, f = _rows_at(x, chosen, first)
    for block in range(LEAF // WIDTH):
        w_at, y_at = w_first + SIZE * WIDTH * depth * block, y_first + SIZE * WIDTH * block
        if rows == 1:
            one(a, depth, w_at, WIDTH, BLANK.ctypes.data, 0, ONE, y_at, LEAF, depth)
        else:
            gathered_block(a, b, c, d, e, f, w_at, y_at, LEAF, depth)


@compiled
def _rows_at(x, chosen, first):
    """Addresses of ROWS rows."""
    start, stride = x.ctypes.data, SIZE * x.shape[1]
    return (
        start + stride * chosen[first],
        start + stride * chosen[first + 1],
        start + stride * chosen[first + 2],
        start + stride * chosen[first + 3],
        start + stride * chosen[first + 4],
        start + stride * chosen[first + 5],
    )


@compiled
def measure_gaps(x, low, high, box, start, y, least, which, rows):
    """Writes start + the squared distances from a box into the first `rows` values of y; where they are the least so
    far, into `least` [row], too, and the box's number into `which` int32 [row].

    x [depth, row], `low` and `high` [depth, box], `start` [row]. Whole WIDTHs of rows are written.
    """
    depth, x_stride, stride = x.shape[0], x.shape[1], low.shape[1]
    low_at, high_at = low.ctypes.data + SIZE * box, high.ctypes.data + SIZE * box
    for row in range(0, rows, WIDTH):
        moved = SIZE * row
        y_at = y.ctypes.data + moved
        outside(x.ctypes.data + moved, x_stride, low_at, high_at, stride, start.ctypes.data + moved, y_at, depth)
        lower(y_at, box, least.ctypes.data + moved, which.ctypes.data + moved)


@compiled
def choose(values, limits, rows, chosen):
    """The first `rows` places where a value is not above its limit into `chosen`, int32; how many.

    `chosen` has room for LANES more; what lies behind the last is some place.
    """
    count = 0
    for row in range(0, rows, LANES):
        values_at, limits_at = values.ctypes.data + SIZE * row, limits.ctypes.data + SIZE * row
        count += append(values_at, limits_at, row, chosen.ctypes.data + SIZE * count)
    while count and chosen[count - 1] >= rows:
        count -= 1
    return count


@compiled
def within(x, row, limit):
    """Which of the values of a row of x [row, LEAF] are not greater than a float32: a bit each, of an int64."""
    return not_above(x.ctypes.data + SIZE * LEAF * row, limit)


@compiled
def least(x, row, into):
    """The least of every LANES-th value of a row of x [row, LEAF] into `into` [LANES]."""
    least_of_lanes(x.ctypes.data + SIZE * LEAF * row, into.ctypes.data)


@compiled
def lowest(bits):
    """The place of the lowest bit that is set, of an int64 that is not 0."""
    return trailing(bits)


@compiled
def product(x, row, w):
    """Of the beginning of a row of x [row, at least width] and w [width], a multiple of WIDTH."""
    return product_of(x.ctypes.data + SIZE * x.shape[1] * row, w.ctypes.data, len(w))


@compiled
def square_sum(x, row, width):
    """Of the first `width`, a multiple of WIDTH, of a row of x."""
    start = x.ctypes.data + SIZE * x.shape[1] * row
    return product_of(start, start, width)
