"""Networks on a processor: products whose every row is computed alike, whatever the other rows are.

A library's last bits depend on how many rows a product has and on the processor. Here an element is
one chain of fused multiply-adds along the depth, in order: as fast as a tuned library on narrow
matrices, equal to the bit for one row and for many. All arrays are float32 and contiguous.
"""

# mypy: disable-error-code="call-arg, no-untyped-def, no-untyped-call, untyped-decorator"

from typing import NamedTuple

import numpy as np

from stream_detector.gan.networks import LEAK
from stream_detector.scoring.compiled.arithmetic import ONE, ZERO, Array, compiled
from stream_detector.scoring.compiled.simd import ROWS, SIZE, WIDTH, many, one, product_of

__all__ = [
    "Layers",
    "features",
    "forward",
    "multiply",
    "multiply_from",
    "multiply_onto",
    "multiply_triangle",
    "product",
    "square_sum",
    "vjp",
]

BLANK = np.zeros(WIDTH, np.float32)
SLOPE = np.float32(LEAK)


@compiled
def multiply(x, w, y, rows):
    """Writes the first `rows` rows of x @ w into y.

    x [row, at least depth], w [depth, width], y [row, at least width]; width is a multiple of WIDTH.
    """
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, BLANK.ctypes.data, 0, ONE, y, rows, column, len(w))


@compiled
def multiply_from(x, w, bias, slope, y, rows):
    """Writes bias + x @ w into y, as `multiply` does; what is negative is multiplied by `slope`, 0 to 1."""
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, bias.ctypes.data + SIZE * column, 0, slope, y, rows, column, len(w))


@compiled
def multiply_onto(x, w, y, rows):
    """Adds x @ w to y, as `multiply` computes it."""
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, y.ctypes.data + SIZE * column, y.shape[1], ONE, y, rows, column, len(w))


@compiled
def multiply_triangle(x, w, y, rows):
    """Multiplies as `multiply` does, by an upper triangular w [width, width], whose lower part is not read."""
    for column in range(0, w.shape[1], WIDTH):
        _multiply_column(x, w, BLANK.ctypes.data, 0, ONE, y, rows, column, min(column + WIDTH, len(w)))


@compiled
def _multiply_column(x, w, start, start_stride, slope, y, rows, column, depth):
    """Writes WIDTH columns of a product to which `depth` terms belong, added to what lies at `start`."""
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
    """Addresses of x, y and start, `row` rows on."""
    return x + SIZE * row * x_stride, y + SIZE * row * y_stride, start + SIZE * row * start_stride


@compiled
def product(x, row, w):
    """The scalar product of w [width], a multiple of WIDTH, and the beginning of a row of x [row, at least width]."""
    return product_of(x.ctypes.data + SIZE * x.shape[1] * row, w.ctypes.data, len(w))


@compiled
def square_sum(x, row, width):
    """The sum of the squares of the first `width` values, a multiple of WIDTH, of a row of x."""
    start = x.ctypes.data + SIZE * x.shape[1] * row
    return product_of(start, start, width)


class Layers(NamedTuple):
    """A network of every member, outputs in whole blocks and hidden layers all as wide as the widest.

    `first` [member, in, hidden], `middle` [layer, member, hidden, hidden], `last` [member, hidden, out] and
    `skip` [member, in, out] with their biases; those that end in `back` are transposed.
    """

    first: Array
    first_bias: Array
    first_back: Array
    middle: Array
    middle_bias: Array
    middle_back: Array
    last: Array
    last_bias: Array
    last_back: Array
    skip: Array
    skip_back: Array
    residual: bool


@compiled
def features(net, member, x, hidden, rows):
    """Writes every hidden layer into `hidden`; the number of the last one."""
    multiply_from(x, net.first[member], net.first_bias[member], SLOPE, hidden[0], rows)
    for layer in range(len(net.middle)):
        weight, bias = net.middle[layer, member], net.middle_bias[layer, member]
        multiply_from(hidden[layer], weight, bias, SLOPE, hidden[layer + 1], rows)
        if net.residual:
            _add(hidden[layer + 1], hidden[layer], len(bias), rows)
    return len(net.middle)


@compiled
def forward(net, member, x, workspace, y, rows):
    """Writes the network's outputs into `y` and its hidden layers into the workspace."""
    last = features(net, member, x, workspace.hidden, rows)
    multiply_from(x, net.skip[member], net.last_bias[member], ONE, y, rows)
    multiply_onto(workspace.hidden[last], net.last[member], y, rows)


@compiled
def _add(y, other, width, rows):
    for row in range(rows):
        for column in range(width):
            y[row, column] += other[row, column]


@compiled
def vjp(net, member, y, workspace, rows):
    """The vector-Jacobian product of `y` by the inputs into workspace.gradient; `forward` must have come before."""
    gradient, sloped, hidden = workspace.gradient, workspace.backward, workspace.hidden
    width = net.first.shape[2]
    multiply(y, net.last_back[member], gradient, rows)
    for layer in range(len(net.middle), 0, -1):
        _slope(hidden[layer], hidden[layer - 1], gradient, sloped, width, rows, net.residual)
        if net.residual:
            multiply_onto(sloped, net.middle_back[layer - 1, member], gradient, rows)
        else:
            multiply(sloped, net.middle_back[layer - 1, member], gradient, rows)
    _slope(hidden[0], hidden[0], gradient, sloped, width, rows, False)
    multiply(sloped, net.first_back[member], gradient, rows)
    multiply_onto(y, net.skip_back[member], gradient, rows)


@compiled
def _slope(hidden, before, gradient, sloped, width, rows, add):
    """Derivatives through a rectifier, whose sign its result keeps; it had been added to what was before, or not."""
    for row in range(rows):
        for column in range(width):
            after = hidden[row, column] - (before[row, column] if add else ZERO)
            sloped[row, column] = gradient[row, column] * (ONE if after > ZERO else SLOPE)
